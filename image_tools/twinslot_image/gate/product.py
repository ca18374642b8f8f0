"""Is a document about vulnerabilities of this product? One answer for the gate, the comparison and the dossier."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from twinslot.core.errors import Refusal
from twinslot_image.gate.vex import VexStatement
from twinslot_image.sbom.read import Bill

_SHOWN = 3  # products of a document that are named


def is_vex(whole: Mapping[str, object]) -> bool:
    """Whether a document is to be what people said of vulnerabilities, and no list of known ones (OSV).

    Args:
        whole: The object.
    """
    return not {"id", "vulns"} & whole.keys()


# keeps: REQ-EVI-03
def other_product(
    name: object, statements: Iterable[VexStatement], bills: Iterable[Bill], expected: str
) -> Refusal | None:
    """The reason against a document that speaks of other products alone; None: it is of one of the bills.

    A document without any statement and product speaks of nothing: it closes nothing, and is not refused.

    Args:
        name: Of the document.
        statements: All of it.
        bills: Of the product; one without components counts by its name.
        expected: What the product is, for people.
    """
    every, ours = list(statements), list(bills)
    if not every or any(_is_of(each, bill) for each in every for bill in ours):
        return None
    products = sorted({product for each in every for product in each.products})
    what = f"no statement of '{name}' is of this product or of anything in it"
    found = ", ".join(products[:_SHOWN]) or "no product"
    return Refusal("vex-other", what, expected, found, "take the VEX of this product")


def _is_of(statement: VexStatement, bill: Bill) -> bool:
    return statement.covers_all(bill) or any(statement.covers(bill, component) for component in bill.components)
