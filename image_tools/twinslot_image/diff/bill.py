"""A bill of materials in CycloneDX, as far as two of them are compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from twinslot.core.errors import ImageError
from twinslot_image.evidence_file import parse_json, reading, text

_WHAT: Final = "a bill of materials in CycloneDX"
_SOURCE: Final = "twinslot:source"  # property: name and version of the source package


@dataclass(frozen=True, slots=True)
class BillPart:
    """One package.

    Attributes:
        name, version: As the bill says.
        purl: Package URL without qualifiers; empty where the bill has none.
        source: Name and version of the source package; empty.
        reference: How the bill names it in itself.
    """

    name: str
    version: str
    purl: str = ""
    source: tuple[str, str] = ("", "")
    reference: str = ""

    @property
    def key(self) -> str:
        """What is the same package in another release: its kind and name, whichever tool wrote the bill."""
        return f"{self.kind}:{self.name}" if self.kind else self.name

    @property
    def kind(self) -> str:
        """The type of its package URL: `deb`, `pypi`, ...; empty."""
        return self.purl.removeprefix("pkg:").partition("/")[0] if self.purl else ""


def parse_bill(data: bytes, path: Path) -> list[BillPart]:
    """Every package; single files are left out, since files are compared by themselves.

    Raises:
        ImageError: `image.evidence`: it is no bill.
    """
    whole = parse_json(data, path, _WHAT)
    with reading(path, _WHAT):
        if whole["bomFormat"] != "CycloneDX":
            raise ImageError(
                f"'{path}' is of another format", code="evidence", expected=_WHAT, found=whole["bomFormat"]
            )
        return [_part(each) for each in whole.get("components", []) if each["type"] != "file"]


def _part(value: Mapping[str, Any]) -> BillPart:
    properties = {each["name"]: text(each.get("value", "")) for each in value.get("properties", [])}
    source, _, version = properties.get(_SOURCE, "").partition(" ")
    return BillPart(
        text(value["name"]),
        text(value.get("version", "")),
        plain_purl(text(value.get("purl", ""))),
        (source, version),
        text(value.get("bom-ref", "")),
    )


def plain_purl(purl: str) -> str:
    """A package URL without qualifiers and subpath, in which two tools rarely agree."""
    return purl.partition("?")[0].partition("#")[0]


def short_purl(purl: str) -> str:
    """Without the namespace, too, which some tools fill and others do not."""
    kind, _, rest = plain_purl(purl).partition("/")
    return f"{kind}/{rest.rpartition('/')[2]}"


def versions(parts: list[BillPart]) -> Mapping[str, tuple[str, str]]:
    """Name and versions by key; a package that is there in two versions has both."""
    found: dict[str, tuple[str, str]] = {}
    for part in sorted(parts, key=lambda each: (each.key, each.version)):
        before = found.get(part.key)
        both = f"{before[1]}, {part.version}" if before and part.version not in before[1].split(", ") else part.version
        found[part.key] = (part.name, both)
    return found


# keeps: REQ-EVI-05
def package_changes(old: list[BillPart], new: list[BillPart]) -> Iterator[dict[str, str]]:
    """Each package that differs: `name`, `before`, `after`; empty where it is not there."""
    before, after = versions(old), versions(new)
    for key in sorted(before.keys() | after.keys()):
        was, is_ = before.get(key, ("", "")), after.get(key, ("", ""))
        if was[1] != is_[1]:
            yield {"name": is_[0] or was[0], "before": was[1], "after": is_[1]}
