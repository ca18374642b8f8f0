"""The section of known vulnerabilities: lists of them, and what people said, which must be of this product."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from twinslot.core.errors import Refusal
from twinslot_image.dossier.model import Body, DossierSection, DossierTable, SectionState
from twinslot_image.gate.documents import read_json
from twinslot_image.gate.osv import parse_vulnerabilities
from twinslot_image.gate.product import is_vex, other_product
from twinslot_image.gate.vex import VexStatement, read_vex
from twinslot_image.sbom.read import Bill

_SAID: Final = ("vulnerability", "what was found", "in")
_KNOWN: Final = ("vulnerability", "severity")
_UNTOLD: Final = "no bill of materials says whether the statements are of this product"


def vulnerabilities_section(
    files: Mapping[str, bytes],
    bills: tuple[Bill, ...],
    product: Bill,
    refuse: Callable[[Refusal], None],
    text: str,
) -> DossierSection:
    """The section; a document on another product is refused.

    Args:
        files: Documents by their path in the dossier: OpenVEX, CSAF, CycloneDX, OSV.
        bills: Of materials of this release. Without one, what names no product but packages cannot be told.
        product: What the release itself is called, without components.
        refuse: Takes the reason.
        text: The documents, for people: why something does not concern the product stands there.

    Raises:
        ImageError: `image.evidence`: a document is none of these.
    """
    said: list[VexStatement] = []
    known: list[list[str]] = []
    state, note = SectionState.THERE, ""
    for path, data in files.items():
        if not is_vex(read_json(data, Path(path).name)):
            found = parse_vulnerabilities(data, Path(path).name)
            known += [[", ".join(each.names), str(each.severity or "not known")] for each in found]
            continue
        statements = read_vex(data, Path(path).name)
        reason = other_product(Path(path).name, statements, (*bills, product), f"{product.name} {product.version}")
        if reason and bills:
            refuse(reason)
        elif reason:
            state, note = SectionState.UNBOUND, _UNTOLD
        said += statements
    return DossierSection("vulnerabilities", state, note, files, _body(said, known, text))


def _body(said: list[VexStatement], known: list[list[str]], text: str) -> Body:
    rows = [[", ".join(sorted(each.names)), each.status, ", ".join(each.products)] for each in said if each.names]
    facts = [["statements about vulnerabilities", str(len(rows))]]
    facts += [["known vulnerabilities listed", str(len(known))]] if known else []
    tables = [DossierTable("Statements", _SAID, rows)] if rows else []
    tables += [DossierTable("Known vulnerabilities", _KNOWN, known)] if known else []
    return Body(facts, tables, text)
