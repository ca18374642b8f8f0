"""Reads every file that a dossier is made of, and refuses what is of another client or another image: all at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from twinslot.core.attachments import SBOM
from twinslot.core.errors import ImageError, Refusal, RefusedError
from twinslot_image.approvals_beside import find_approvals
from twinslot_image.diff.compare import compare
from twinslot_image.diff.side import read_side
from twinslot_image.diff.tables import tables
from twinslot_image.dossier import figures
from twinslot_image.dossier.bindings import other_bill, other_deployment, other_provenance
from twinslot_image.dossier.image_part import (
    ImagePart,
    approvals_section,
    build_digest,
    keys_section,
    read_image_part,
)
from twinslot_image.dossier.model import (
    PCCP_CLASSES,
    PLAN,
    SECTIONS,
    Body,
    DossierSection,
    DossierTable,
    Figure,
    FigureResult,
    SectionState,
)
from twinslot_image.dossier.plan import plan_section
from twinslot_image.dossier.request import DossierRequest
from twinslot_image.dossier.vulnerabilities import vulnerabilities_section
from twinslot_image.evidence_file import parse_json, read_evidence, reading, text
from twinslot_image.matrix_diff import requirement_changes, risks_touched
from twinslot_image.matrix_file import MatrixFile, parse_matrix
from twinslot_image.recipients import Unlock
from twinslot_image.sbom.read import Bill, read_bill

_MISSING: Final[Mapping[str, str]] = {
    "summary": "no summary of the change is given",
    "changes": "no difference to the release before is given",
    "touched": "it takes this matrix and that of the release before",
    "matrix": "no matrix is given",
    "coverage": "no coverage is given",
    "power-cuts": "no cuts are given",
    "crash-states": "no crash states are given",
    "sbom": "no bill of materials is attached or given",
    "vulnerabilities": "no vulnerability document is attached or given",
    "provenance": "no provenance is attached or given",
    "reproducibility": "no second build is given",
    "approvals": "nobody approved this release",
    "anomalies": "no list of open anomalies is attached or given",
    "deployment": "no deployment is given",
    "keys": "there is no image, whose documents name the keys",
    "pccp": "the class of the change has a plan, and no section of it is given",
}
# Section -> types of attachment that it is taken from where no file is given.
_ATTACHED: Final[Mapping[str, tuple[str, ...]]] = {
    "summary": ("change-record", "release-notes"),
    "sbom": (SBOM,),
    "vulnerabilities": ("vex",),
    "provenance": ("provenance",),
    "anomalies": ("known-anomalies",),
}
_SHOWN_MAX: Final = 200_000  # characters of a document on the page; the file has all of it


class Gathered:
    """Sections, and what the whole is about.

    Args:
        request: What to gather.
        unlock: Opens an encrypted image.

    Raises:
        ImageError: `image.evidence`, `image.approval`, or the image is damaged.
        RefusedError: Every file that is of another client (`refused.other-client`), another image
            (`refused.other-image`), another product (`refused.vex-other`) or does not count (`refused.approval`).
        OSError: A file cannot be read.
    """

    def __init__(self, request: DossierRequest, unlock: Unlock) -> None:
        self.request = request
        self.image: ImagePart | None = read_image_part(request.image, unlock) if request.image else None
        self._unlock = unlock
        self._reasons: list[Refusal] = []
        self._data = {key: {path: _read(path) for path in paths} for key, paths in request.documents.items()}
        self._matrices = {key: self._matrix(key) for key in ("matrix", "previous_matrix")}
        matrix = self._matrices["matrix"]
        self.client = request.client or (matrix.subject if matrix else "")
        made = [self._section(id_) for id_ in SECTIONS]
        self.sections = [section for section in made if section is not None]
        if self._reasons:
            raise RefusedError(tuple(self._reasons))

    @property
    def product(self) -> str:
        """Of the image, or as the request says."""
        return self.image.manifest.product if self.image else self.request.product

    @property
    def release(self) -> str:
        """Its name."""
        return self.image.manifest.release.name if self.image else self.request.release

    @property
    def change_class(self) -> str:
        """Of the signed manifest, or as the request says."""
        signed, given = self.image.manifest.change.kind if self.image else "", self.request.change_class
        if signed and given not in ("", signed):
            what = f"'{self.request.file}': the class of the change is another than the image's"
            raise ImageError(what, code="description", expected=signed, found=given)
        return signed or given

    @property
    def _planned(self) -> bool:
        """Whether a predetermined change control plan belongs to the change."""
        numbers = self.image.manifest.change.regulatory if self.image else {}
        return self.change_class in PCCP_CLASSES or PLAN in numbers

    def _matrix(self, key: str) -> MatrixFile | None:
        for path, data in self._data.get(key, {}).items():
            return parse_matrix(data, path)
        return None

    def _section(self, id_: str) -> DossierSection | None:
        makers: Mapping[str, Callable[[], DossierSection | None]] = {
            "changes": self._changes,
            "touched": self._touched,
            "matrix": self._matrix_section,
            "coverage": self._coverage,
            "power-cuts": self._power_cuts,
            "crash-states": self._crash_states,
            "sbom": self._sbom,
            "vulnerabilities": self._vulnerabilities,
            "reproducibility": self._reproducibility,
            "approvals": self._approvals,
            "keys": lambda: keys_section(self.image) if self.image else self._missing("keys"),
            "pccp": self._pccp,
        }
        return makers[id_]() if id_ in makers else self._documents(id_)

    def _missing(self, id_: str) -> DossierSection:
        return DossierSection(id_, SectionState.MISSING, _MISSING[id_])

    def _given(self, id_: str) -> dict[str, bytes]:
        """Files of a section by their path in the dossier: those that were named, else those that are attached."""
        given = self._data.get(id_.replace("-", "_"), {})
        if given:
            return _placed(id_, given)
        if self.image is None or id_ not in _ATTACHED:
            return {}
        beside = self.image.path.with_name(f"{self.image.path.name}.provenance.json")
        if id_ == "provenance" and beside.is_file():
            return _placed(id_, {beside: read_evidence(beside)})
        types = {each.name: each.type for each in self.image.manifest.attachments}
        names = [name for name in self.image.attachments if types[name] in _ATTACHED[id_]]
        return {f"image/attachments/{name}": self.image.attachments[name] for name in names}

    def _documents(self, id_: str) -> DossierSection:
        files = self._given(id_)
        if not files:
            return self._missing(id_)
        if id_ == "provenance" and self.image is None:
            note = "no image says whose signature of it counts"
            return DossierSection(id_, SectionState.UNBOUND, note, files, Body(text=_shown(files)))
        check = {"deployment": other_deployment, "provenance": other_provenance}.get(id_)
        for path, data in files.items() if self.image and check else ():
            self._refuse(check(self.image, Path(path), data))  # type: ignore[misc, arg-type]
        return DossierSection(id_, SectionState.THERE, files=files, body=Body(text=_shown(files)))

    def _changes(self) -> DossierSection:
        """What is given, or what the image and the one before differ in."""
        if self.image is None or self.request.previous is None or "changes" in self._data:
            return self._documents("changes")
        old, new = (read_side(path, None, self._unlock) for path in (self.request.previous, self.image.path))
        data = compare(old, new)
        for side in ("old", "new"):
            data[side]["name"] = Path(data[side]["name"]).name  # where it stood is no evidence
        found = [DossierTable(each["title"], each["head"], each["rows"]) for each in tables(data)]
        facts = [[f"{each.title.lower()} that differ", str(len(each.rows))] for each in found]
        files = {"files/changes/changes.json": json.dumps(data, indent=1, sort_keys=True).encode() + b"\n"}
        return DossierSection("changes", SectionState.THERE, files=files, body=Body(facts, found))

    def _touched(self) -> DossierSection:
        old, new = self._matrices["previous_matrix"], self._matrices["matrix"]
        if old is None or new is None:
            return self._missing("touched")
        rows = [[r["id"], r["title"], ", ".join(r["risks"]), r["change"]] for r in requirement_changes(old, new)]
        risks = [[r["id"], r["title"], r["change"]] for r in risks_touched(old, new)]
        tables = [
            DossierTable("Requirements", ["id", "requirement", "risks", "change"], rows),
            DossierTable("Risks", ["id", "risk", "change"], risks),
        ]
        files = _placed("previous-matrix", self._data["previous_matrix"])
        facts = [["requirements that differ", str(len(rows))], ["risks touched", str(len(risks))]]
        return DossierSection("touched", SectionState.THERE, files=files, body=Body(facts, tables))

    # keeps: REQ-EVI-03
    def _figure(self, id_: str, figure: Figure, files: Mapping[Path, bytes]) -> DossierSection:
        """A figure of this client; one that is of another is refused, one that does not say is called unbound."""
        if figure.client and figure.client != self.client:
            what = f"the figures of '{SECTIONS[id_]}' are of another client"
            hint = "run the tests of this client, and give what they wrote"
            self._reasons.append(Refusal("other-client", what, self.client or "(none is named)", figure.client, hint))
        state, note = SectionState.THERE, ""
        if figure.result is FigureResult.FAILED:
            state, note = SectionState.NOT_PASSED, "something was not passed, or does not fit"
        elif not figure.client:
            state, note = SectionState.UNBOUND, "the file does not say which client was tested"
        return DossierSection(id_, state, note, _placed(id_, files), figure.body, figure)

    def _matrix_section(self) -> DossierSection:
        matrix = self._matrices["matrix"]
        if matrix is None:
            return self._missing("matrix")
        return self._figure("matrix", figures.matrix_figure(matrix), self._data["matrix"])

    def _coverage(self) -> DossierSection:
        for path, data in self._data.get("coverage", {}).items():
            return self._figure("coverage", figures.coverage_figure(path, data), {path: data})
        return self._missing("coverage")

    def _power_cuts(self) -> DossierSection:
        files = self._data.get("power_cuts", {})
        if not files:
            return self._missing("power-cuts")
        figure = figures.power_cut_figure(files, self.client)
        if not figure.passed and not figure.failed:
            note = "no cut was made with this client"
            return DossierSection("power-cuts", SectionState.MISSING, note, body=figure.body)
        return self._figure("power-cuts", figure, files)

    def _crash_states(self) -> DossierSection:
        files = self._data.get("crash_states", {})
        return (
            self._figure("crash-states", figures.crash_figure(files), files) if files else self._missing("crash-states")
        )

    def _sbom(self) -> DossierSection:
        files = self._given("sbom")
        if not files:
            return self._missing("sbom")
        rows = []
        for path, data in files.items():
            bill = parse_json(data, Path(path), "a bill of materials in CycloneDX")
            with reading(Path(path), "a bill of materials in CycloneDX"):
                self._refuse(other_bill(self.image, Path(path), bill) if self.image else None)
                parts = [each for each in bill.get("components", []) if each.get("type") != "file"]
                rows += [
                    [text(each["name"]), text(each.get("version", "")), text(each.get("purl", ""))] for each in parts
                ]
        table = DossierTable("Components", ["name", "version", "package"], sorted(rows))
        facts = [["components, without single files", str(len(rows))]]
        return DossierSection("sbom", SectionState.THERE, files=files, body=Body(facts, [table]))

    def _vulnerabilities(self) -> DossierSection:
        files = self._given("vulnerabilities")
        if not files:
            return self._missing("vulnerabilities")
        bills = tuple(read_bill(data, Path(path).name) for path, data in self._given("sbom").items())
        product = Bill("", "", self.product, self.release, (), ())
        return vulnerabilities_section(files, bills, product, self._reasons.append, _shown(files))

    def _refuse(self, reason: Refusal | None) -> None:
        if reason is not None:
            self._reasons.append(reason)

    def _reproducibility(self) -> DossierSection:
        if self.request.builds is None:
            return self._missing("reproducibility")
        first, second = self.request.builds
        digests = [build_digest(path) for path in (first, second)]
        names = sorted({name for each in digests for name in each})
        rows = [[name, digests[0].get(name, "(not there)"), digests[1].get(name, "(not there)")] for name in names]
        equal = digests[0] == digests[1] and bool(names)
        record = {"first": digests[0], "second": digests[1], "equal": equal}
        data = json.dumps(record, indent=1, sort_keys=True).encode() + b"\n"
        table = DossierTable("Two builds", ["part", first.name, second.name], rows)
        state = SectionState.THERE if equal else SectionState.NOT_PASSED
        note = "" if equal else "two builds of the same inputs differ"
        facts = [["built twice, byte for byte the same", "yes" if equal else "NO"]]
        return DossierSection(
            "reproducibility", state, note, {"files/reproducibility/builds.json": data}, Body(facts, [table])
        )

    def _approvals(self) -> DossierSection:
        if self.image is None:
            return self._missing("approvals")
        given = self._data.get("approvals")
        paths = [*given] if given is not None else find_approvals(self.image.path)
        return approvals_section(self.image, paths, self._reasons.append)

    def _pccp(self) -> DossierSection | None:
        pccp = self.request.pccp
        if pccp is None:
            return self._missing("pccp") if self._planned else None
        files = {key: (path, _read(path)) for key, path in pccp.files.items()}
        placed = {f"files/pccp/{key}/{path.name}": data for key, (path, data) in files.items()}
        return plan_section(pccp, files, placed, _SHOWN_MAX)


def _shown(files: Mapping[str, bytes]) -> str:
    """Documents for people, with their names where there are several."""
    names = [f"{path}\n\n" if len(files) > 1 else "" for path in files]
    texts = [figures.shown_json(data)[:_SHOWN_MAX] for data in files.values()]
    return "\n\n".join(name + text for name, text in zip(names, texts, strict=True))


def _placed(id_: str, files: Mapping[Path, bytes]) -> dict[str, bytes]:
    """Paths in the dossier; two files of one name are told apart by a number."""
    placed: dict[str, bytes] = {}
    for path, data in files.items():
        name, number = f"files/{id_}/{path.name}", 1
        while name in placed:
            number += 1
            name = f"files/{id_}/{path.stem}-{number}{path.suffix}"
        placed[name] = data
    return placed


def _read(path: Path) -> bytes:
    try:
        data = read_evidence(path)
    except FileNotFoundError as e:
        raise ImageError(f"there is no file '{path}', which the dossier's description names", code="evidence") from e
    figures.refuse_empty(path, data)
    return data
