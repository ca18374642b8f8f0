"""Known vulnerabilities from files, offline: what is said of a package, and what is open in a bill of materials.

What is read: OSV (ossf.github.io/osv-schema, 1.7), OpenVEX 0.2.0, CycloneDX with vulnerabilities (1.4 and later), and
CSAF 2.0 in the profile VEX. OSV says which versions of a package are affected; the others what a person found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from twinslot.core.errors import ImageError
from twinslot_image.diff.bill import BillPart, plain_purl, short_purl
from twinslot_image.evidence_file import parse_json, reading, text

_WHAT: Final = "OSV, OpenVEX, CycloneDX with vulnerabilities, or CSAF"
_ECOSYSTEMS: Final = {"debian": "deb", "ubuntu": "deb", "alpine": "apk", "pypi": "pypi", "openeuler": "rpm"}
OPEN: Final = ("affected", "under investigation")
# Words of OpenVEX, of CycloneDX's analysis and of CSAF's product_status -> ours.
_STATES: Final[Mapping[str, str]] = {
    "affected": "affected",
    "exploitable": "affected",
    "known_affected": "affected",
    "first_affected": "affected",
    "last_affected": "affected",
    "under_investigation": "under investigation",
    "in_triage": "under investigation",
    "not_affected": "not affected",
    "known_not_affected": "not affected",
    "false_positive": "not affected",
    "fixed": "fixed",
    "first_fixed": "fixed",
    "resolved": "fixed",
    "resolved_with_pedigree": "fixed",
}


@dataclass(frozen=True, slots=True)
class VulnerabilityStatement:
    """What one document says of one vulnerability.

    Attributes:
        id: And under which other names it is known.
        state: `affected`, `under investigation`, `not affected`, `fixed`.
        severity: In the document's word; empty.
        packages: URLs, references or names of packages; of a statement on a whole product its name.
        versions: Versions of the packages that it is about; empty: as the package URL says, or all.
        assessed: A person judged it (VEX), and it is not only known (OSV).
    """

    id: str
    aliases: tuple[str, ...]
    state: str
    severity: str
    packages: tuple[str, ...]
    versions: tuple[str, ...] = ()
    assessed: bool = True

    def concerns(self, part: BillPart) -> bool:
        """Whether it is about this package in this version."""
        pairs = [(part.name, part.version), part.source]
        if self.versions and not any(version in self.versions for name, version in pairs if name in self._names):
            return False
        purl = short_purl(part.purl) if part.purl else ""
        names = {part.reference, purl, purl.rpartition("@")[0]} - {""}
        known = {*self.packages, *(short_purl(each) for each in self.packages if each.startswith("pkg:"))}
        by_name = any(name in self._names for name, _ in pairs if name)
        return bool(names & known) or (by_name and self._kinds <= {part.kind})

    def concerns_product(self, product: str) -> bool:
        """Whether it is about the product as a whole, by its name in a package URL or alone."""
        names = {each.rpartition("/")[2].partition("@")[0].lower() for each in self.packages}
        return self.assessed and bool(product) and product.lower() in names

    @property
    def _names(self) -> set[str]:
        return {each.rpartition(":")[2] for each in self.packages if not each.startswith("pkg:")}

    @property
    def _kinds(self) -> set[str]:
        return {each.partition(":")[0] for each in self.packages if ":" in each and not each.startswith("pkg:")}


@dataclass(frozen=True, slots=True)
class OpenVulnerability:
    """One that is open in a release, and why."""

    id: str
    package: str
    version: str
    severity: str
    state: str

    def as_dict(self) -> dict[str, str]:
        """JSON-ready."""
        return {
            "id": self.id,
            "package": self.package,
            "version": self.version,
            "severity": self.severity,
            "state": self.state,
        }


def parse_vulnerabilities(data: bytes, path: Path) -> list[VulnerabilityStatement]:
    """What a document says; a list of OSV documents is one, too.

    Raises:
        ImageError: `image.evidence`: it is none of those that are read.
    """
    whole = parse_json(data, path, _WHAT)
    with reading(path, _WHAT):
        documents = whole if isinstance(whole, list) else [whole]
        return [statement for document in documents for statement in _statements(document, path)]


def _statements(document: Mapping[str, Any], path: Path) -> Iterator[VulnerabilityStatement]:
    if "openvex" in str(document.get("@context", "")):
        return _openvex(document)
    if document.get("bomFormat") == "CycloneDX":
        return _cyclonedx(document)
    if str(document.get("document", {}).get("category", "")).startswith("csaf"):
        return _csaf(document)
    if "affected" in document and "id" in document:
        return _osv(document)
    raise ImageError(f"'{path}' is of no format that is read", code="evidence", expected=_WHAT)


def _openvex(document: Mapping[str, Any]) -> Iterator[VulnerabilityStatement]:
    for each in document["statements"]:
        named = each["vulnerability"]
        products = each.get("products", [])
        parts = [part for product in products for part in (product.get("subcomponents") or [product])]
        urls = [plain_purl(text(part["@id"])) for part in parts]
        aliases = tuple(text(alias) for alias in named.get("aliases", []))
        yield VulnerabilityStatement(text(named["name"]), aliases, _STATES[each["status"]], "", tuple(urls))


def _cyclonedx(document: Mapping[str, Any]) -> Iterator[VulnerabilityStatement]:
    urls = {each["bom-ref"]: plain_purl(each["purl"]) for each in document.get("components", []) if each.get("purl")}
    for each in document["vulnerabilities"]:
        analysis, ratings = each.get("analysis", {}), each.get("ratings", [])
        references = [text(affected["ref"]) for affected in each.get("affects", [])]
        names = [name for reference in references for name in (reference, urls.get(reference, "")) if name]
        state = _STATES[analysis["state"]] if "state" in analysis else "affected"
        severity = next((text(rating["severity"]) for rating in ratings if "severity" in rating), "")
        yield VulnerabilityStatement(text(each["id"]), (), state, severity, tuple(names), assessed="state" in analysis)


def _csaf(document: Mapping[str, Any]) -> Iterator[VulnerabilityStatement]:
    tree = document.get("product_tree", {})
    products = dict(_csaf_products(tree))
    for part in tree.get("relationships", []):
        if url := products.get(part["product_reference"]):
            products[text(part["full_product_name"]["product_id"])] = url
    for each in document["vulnerabilities"]:
        name = text(each.get("cve") or each["ids"][0]["text"])
        scores = [score.get("cvss_v3", {}) for score in each.get("scores", [])]
        severity = next((text(score["baseSeverity"]).lower() for score in scores if "baseSeverity" in score), "")
        for word, ids in each["product_status"].items():
            if word in _STATES:
                names = [part for id_ in ids for part in (products.get(id_, ""), text(id_)) if part]
                yield VulnerabilityStatement(name, (), _STATES[word], severity, tuple(names))


def _csaf_products(tree: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Product ids with their package URLs; branches hold each other."""
    waiting = [*tree.get("branches", []), *tree.get("full_product_names", [])]
    while waiting:
        each = waiting.pop()
        waiting += each.get("branches", [])
        product = each.get("product", each if "product_id" in each else {})
        if url := product.get("product_identification_helper", {}).get("purl"):
            yield text(product["product_id"]), plain_purl(text(url))


def _osv(document: Mapping[str, Any]) -> Iterator[VulnerabilityStatement]:
    aliases = tuple(text(alias) for alias in document.get("aliases", []))
    severity = str(document.get("database_specific", {}).get("severity", "")).lower()
    for each in document["affected"]:
        package = each["package"]
        kind = _ECOSYSTEMS.get(text(package.get("ecosystem", "")).partition(":")[0].lower(), "")
        name = f"{kind}:{text(package['name'])}"
        known = tuple(text(version) for version in each.get("versions", []))
        events = [event for ranged in each.get("ranges", []) for event in ranged["events"]]
        fixed = any("fixed" in event or "last_affected" in event for event in events)
        state = "affected" if known or not fixed else "under investigation"
        yield VulnerabilityStatement(text(document["id"]), aliases, state, severity, (name,), known, assessed=False)


# keeps: REQ-EVI-05
def open_in(
    parts: Iterable[BillPart], statements: Iterable[VulnerabilityStatement], product: str = ""
) -> list[OpenVulnerability]:
    """What is open in a bill: said of one of its packages, and not said by a person to be closed.

    What a person said of a package counts before what he said of the whole product.
    A vulnerability that OSV knows by a range of versions alone is `under investigation`: to compare versions takes the
    rules of each kind of package.
    """
    every = list(statements)
    found: dict[tuple[str, str], OpenVulnerability] = {}
    for part in parts:
        here = [each for each in every if each.concerns(part)]
        said = [each for each in every if each.concerns_product(product)] + [each for each in here if each.assessed]
        judged = {name: each.state for each in said for name in (each.id, *each.aliases)}
        for each in here:
            states = [judged[name] for name in (each.id, *each.aliases) if name in judged]
            state = states[0] if states else each.state
            if state in OPEN:
                known = found.get((each.id, part.key))
                severity = each.severity or (known.severity if known else "")
                row = OpenVulnerability(each.id, part.name, part.version, severity, state)
                found[each.id, part.key] = replace(known, severity=severity) if known else row
    return sorted(found.values(), key=lambda each: (each.id, each.package, each.version))
