"""Statements about vulnerabilities: OpenVEX, CSAF 2.0 (profile VEX), CycloneDX; each is of the products it names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from twinslot_image.gate.documents import DEPTH_MAX, no_document, objects, read_json, texts
from twinslot_image.sbom.read import Bill, Component, read_bill, split_purl

# What closes a vulnerability, in the words of the three forms. All others leave it open.
_CLOSED: Final = {
    *("not_affected", "fixed"),  # OpenVEX
    *("known_not_affected", "first_fixed"),  # CSAF; `fixed` too
    *("resolved", "resolved_with_pedigree", "false_positive"),  # CycloneDX; `not_affected` too
}


@dataclass(frozen=True, slots=True)
class VexStatement:
    """What one document says of one vulnerability.

    Attributes:
        names: What the vulnerability is called.
        status: In the words of the document.
        products: Package URLs, names or references of what it is said of.
    """

    names: frozenset[str]
    status: str
    products: tuple[str, ...]

    @property
    def closes(self) -> bool:
        """Whether the vulnerability is no longer open for these products."""
        return self.status in _CLOSED

    def covers(self, bill: Bill, component: Component) -> bool:
        """Whether it is said of this component, or of all that the bill is of."""
        return self.covers_all(bill) or any(_is_component(product, bill, component) for product in self.products)

    def covers_all(self, bill: Bill) -> bool:
        """Whether it is said of all that the bill is of."""
        return any(_is_all(product, bill) for product in self.products)


def read_vex(data: bytes, name: object) -> list[VexStatement]:
    """Every statement of a document; of one that names products and states nothing, one without a vulnerability.

    Raises:
        ImageError: `image.evidence`: none of the three forms.
    """
    whole = read_json(data, name)
    if "openvex" in str(whole.get("@context", "")):
        return list(_openvex(whole, name))
    if whole.get("bomFormat") == "CycloneDX":
        return list(_cyclonedx(whole, name))
    document = whole.get("document")
    if isinstance(document, dict) and str(document.get("category", "")).startswith("csaf_"):
        return list(_csaf(whole, name))
    raise no_document(name, "OpenVEX, CSAF or CycloneDX", ", ".join(sorted(whole))[:80] or "nothing")


def _openvex(whole: dict[str, Any], name: object) -> Iterator[VexStatement]:
    for each in objects(whole.get("statements"), name, "statements"):
        about = each.get("vulnerability")
        about = about if isinstance(about, dict) else {"name": about}
        names = [about.get("name"), str(about.get("@id", "")).rpartition("/")[2], *texts(about.get("aliases"))]
        listed = each.get("products")
        products = [one for one in listed if isinstance(one, dict | str)] if isinstance(listed, list) else []
        yield _statement(names, each.get("status"), (said for one in products for said in _openvex_names(one)))


def _openvex_names(product: dict[str, Any] | str) -> Iterator[object]:
    """A statement of a part of a product is of that part alone."""
    if isinstance(product, str):
        yield product
        return
    parts = product.get("subcomponents")
    if isinstance(parts, list) and parts:
        for part in parts:
            yield from _openvex_names(part) if isinstance(part, dict | str) else ()
        return
    yield product.get("@id")
    identifiers = product.get("identifiers")
    if isinstance(identifiers, dict):
        yield identifiers.get("purl")


def _cyclonedx(whole: dict[str, Any], name: object) -> Iterator[VexStatement]:
    serial = str(whole.get("serialNumber", "")).removeprefix("urn:uuid:")
    bill = read_bill(json.dumps(whole).encode(), name)
    known = {each.reference: each.purl for each in bill.components}
    found = objects(whole.get("vulnerabilities"), name, "vulnerabilities")
    if bill.name and not found:
        yield _statement([], "", [f"{bill.name} {bill.version}".strip()])
    for each in found:
        analysis = each.get("analysis")
        status = analysis.get("state") if isinstance(analysis, dict) else None
        others = [one.get("id") for one in objects(each.get("references"), name, "references")]
        affects = [str(one.get("ref", "")) for one in objects(each.get("affects"), name, "affects")]
        yield _statement([each.get("id"), *others], status, [_cyclonedx_name(ref, serial, known) for ref in affects])


def _cyclonedx_name(reference: str, serial: str, known: dict[str, str]) -> str:
    """A link to another document as it stands; what this one lists by its package URL; else a part of this one."""
    if reference.startswith("urn:cdx:"):
        return reference
    return known.get(reference) or f"urn:cdx:{serial}/1#{reference}"


def _csaf(whole: dict[str, Any], name: object) -> Iterator[VexStatement]:
    tree = whole.get("product_tree")
    products = dict(_csaf_products(tree if isinstance(tree, dict) else {}, name, 0))
    found = objects(whole.get("vulnerabilities"), name, "vulnerabilities")
    if products and not found:
        yield _statement([], "", [one for names in products.values() for one in names])
    for each in found:
        ids = [one.get("text") for one in objects(each.get("ids"), name, "ids")]
        states = each.get("product_status")
        for status, listed in (states if isinstance(states, dict) else {}).items():
            said = [known for one in texts(listed) for known in products.get(one, (one,))]
            yield _statement([each.get("cve"), *ids], status, said)


def _csaf_products(tree: dict[str, Any], name: object, depth: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Names and package URLs by product id; of a part of a product those of the part."""
    if depth > DEPTH_MAX:
        raise no_document(name, f"branches at most {DEPTH_MAX} deep", "more")
    full = objects(tree.get("full_product_names"), name, "full_product_names")
    full += [one for one in (tree.get("product"),) if isinstance(one, dict)]
    for one in full:
        helper = one.get("product_identification_helper")
        purl = helper.get("purl") if isinstance(helper, dict) else None
        yield str(one.get("product_id")), tuple(each for each in (one.get("name"), purl) if isinstance(each, str))
    for branch in objects(tree.get("branches"), name, "branches"):
        yield from _csaf_products(branch, name, depth + 1)
    for relation in objects(tree.get("relationships"), name, "relationships"):
        product = relation.get("full_product_name")
        if isinstance(product, dict):
            yield from _csaf_products({"product": product}, name, depth + 1)


def _statement(names: object, status: object, products: Any) -> VexStatement:
    said = (
        frozenset(each for each in names if isinstance(each, str) and each) if isinstance(names, list) else frozenset()
    )
    named = tuple(dict.fromkeys(each for each in products if isinstance(each, str) and each))
    return VexStatement(said, str(status or ""), named)


def _is_all(product: str, bill: Bill) -> bool:
    if product.startswith("urn:cdx:"):
        return product.partition("#")[0].rpartition("/")[0] == f"urn:cdx:{bill.serial}" and (
            product.partition("#")[2] in ("", bill.reference)
        )
    return product.lower() in {bill.name.lower(), f"{bill.name} {bill.version}".lower()}


def _is_component(product: str, bill: Bill, component: Component) -> bool:
    if product.startswith("urn:cdx:"):
        link, _, reference = product.partition("#")
        return link.rpartition("/")[0] == f"urn:cdx:{bill.serial}" and reference == component.reference
    if purl := split_purl(product):
        own = (component.kind, component.namespace, component.name)
        source = (component.kind, component.namespace, component.source[0])
        if (purl.kind, purl.namespace, purl.name) not in (own, source):
            return False
        return purl.version in ("", component.version, component.source[1])
    return product in (component.reference, component.name, f"{component.name} {component.version}")
