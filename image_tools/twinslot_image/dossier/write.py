"""A dossier as a directory: files, a page, a signed statement for each figure, and a signed index over all of it.

Nothing here reads a clock: the same inputs give the same bytes, with a key that signs the same each time (Ed25519).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from securesystemslib.signer import CryptoSigner  # type: ignore[attr-defined]

from twinslot.core.describe import TIME
from twinslot_image.dossier.gather import Gathered
from twinslot_image.dossier.model import MEANS, SECTIONS, DossierSection, Figure, SectionState
from twinslot_image.dsse import ResourceDescriptor, Statement, digest_of, sign_statement
from twinslot_image.html_page import render

TEST_RESULT: Final = "https://in-toto.io/attestation/test-result/v0.1"
DOSSIER_TYPE: Final = "tag:twinslot.org,2026:dossier/1"  # RFC 4151
INDEX: Final = "index.dsse.json"


# keeps: REQ-EVI-02
def dossier_files(gathered: Gathered, signer: CryptoSigner, role: str) -> dict[str, bytes]:
    """Every file of the dossier by its path, the index last.

    Args:
        gathered: What it is made of.
        signer: Signs each figure and the index.
        role: In which role; empty: in none of the image's.
    """
    files: dict[str, bytes] = dict(gathered.image.files) if gathered.image else {}
    for section in gathered.sections:
        files |= section.files
        if section.figure is not None and section.figure.client:
            files[_figure_path(section)] = sign_statement(_figure(section, section.figure), [signer])
    told = _told(gathered)
    text = json.dumps(told, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    files["dossier.json"] = text.encode(errors="replace")
    files["dossier.html"] = _page(told, files)
    subjects = tuple(ResourceDescriptor(path, digest_of(data)) for path, data in sorted(files.items()))
    files[INDEX] = sign_statement(Statement(subjects, DOSSIER_TYPE, _predicate(gathered, role)), [signer])
    return files


def _figure_path(section: DossierSection) -> str:
    return f"figures/{section.id}.dsse.json"


def _figure(section: DossierSection, figure: Figure) -> Statement:
    """An in-toto test result: of this client, from these files."""
    files = [ResourceDescriptor(path, digest_of(data)).as_dict() for path, data in sorted(section.files.items())]
    predicate = {
        "configuration": files,
        "failedTests": list(figure.failed),
        "passedTests": list(figure.passed),
        "result": str(figure.result),
        "warnedTests": list(figure.warned),
    }
    return Statement((ResourceDescriptor("client", figure.client),), TEST_RESULT, predicate)


def _predicate(gathered: Gathered, role: str) -> dict[str, Any]:
    image = gathered.image
    sections = [
        {
            "figure": _figure_path(section) if section.figure and section.figure.client else "",
            "files": sorted(section.files),
            "id": section.id,
            "note": section.note,
            "state": str(section.state),
        }
        for section in gathered.sections
    ]
    return {
        "class": gathered.change_class,
        "client": gathered.client,
        "manifest": image.digest if image else "",
        "product": gathered.product,
        "release": gathered.release,
        "role": role,
        "sections": sections,
        "sequence": image.manifest.release.sequence if image else 0,
    }


def _told(gathered: Gathered) -> dict[str, Any]:
    """All that the page shows, for programs."""
    sections = [_section(section) for section in gathered.sections]
    lacking = [each for each in sections if each["state"] != SectionState.THERE]
    return {
        "format": "twinslot-dossier/1",
        "product": gathered.product,
        "release": gathered.release,
        "about": _about(gathered),
        "sections": sections,
        "lacking": [{key: each[key] for key in ("id", "title", "state", "note")} for each in lacking],
        "failing": any(each["state"] == SectionState.NOT_PASSED for each in lacking),
    }


def _about(gathered: Gathered) -> list[list[str]]:
    rows = [["class of the change", gathered.change_class or "not said"]]
    if (image := gathered.image) is not None:
        manifest = image.manifest
        rows += [
            ["sequence", f"{manifest.release.sequence}, security epoch {manifest.release.epoch}"],
            ["for", ", ".join(manifest.compatible)],
            ["built", manifest.built.strftime(TIME)],
            ["manifest, signed part", image.digest],
        ]
        rows += [["markets", ", ".join(manifest.change.markets)]] if manifest.change.markets else []
        rows += [[key, value] for key, value in image.described["change"]["regulatory"].items()]
        rows += [[f"source {key}", value] for key, value in image.described["source"].items()]
    return [*rows, ["client that was tested", gathered.client or "not said"]]


def _section(section: DossierSection) -> dict[str, Any]:
    figure = section.figure
    return {
        "id": section.id,
        "title": SECTIONS[section.id],
        "state": str(section.state),
        "note": section.note,
        "files": sorted(section.files),
        "body": section.body.as_dict(),
        "figure": {"result": str(figure.result), "client": figure.client, "path": _figure_path(section)}
        if figure and figure.client
        else None,
    }


def _page(told: Mapping[str, Any], files: Mapping[str, bytes]) -> bytes:
    rows = [[path, digest_of(data)] for path, data in sorted(files.items())]
    values = {key: value for key, value in told.items() if key != "format"}
    return render("dossier.html", files=rows, means=MEANS, **values)
