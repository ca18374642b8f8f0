"""Packages of two releases, by their bills of materials, and which known vulnerabilities are open in each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from twinslot.core.errors import RefusedError
from twinslot_image.evidence_file import read_evidence
from twinslot_image.gate.documents import read_json
from twinslot_image.gate.osv import Vulnerability, read_vulnerabilities
from twinslot_image.gate.product import is_vex, other_product
from twinslot_image.gate.vex import VexStatement, read_vex
from twinslot_image.sbom.read import Bill, Component

_KNOWN = "known"  # and nobody said more


@dataclass(frozen=True, slots=True)
class KnownVulnerabilities:
    """What files say: which are known, and what people found of them, later statements last."""

    known: tuple[Vulnerability, ...]
    said: tuple[VexStatement, ...]


@dataclass(frozen=True, slots=True, order=True)
class OpenVulnerability:
    """One that is open in a release: its id, the package that it is in, and what a person said of it so far."""

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


def read_known(paths: Iterable[Path], bills: Iterable[Bill]) -> KnownVulnerabilities:
    """Files of OSV, and of OpenVEX, CycloneDX or CSAF.

    Args:
        paths: In the order in which they were written.
        bills: Of the releases that are compared.

    Raises:
        ImageError: `image.evidence`: a file is none of these.
        RefusedError: `refused.vex-other`: a document says nothing of any of the bills.
    """
    known: list[Vulnerability] = []
    said: list[VexStatement] = []
    every = list(bills)
    for path in paths:
        data = read_evidence(path)
        if not is_vex(read_json(data, path)):
            known += read_vulnerabilities((path,))
            continue
        statements = read_vex(data, path)
        if reason := other_product(path, statements, every, "one of the two releases, or a package of one"):
            raise RefusedError(reason)
        said += statements
    return KnownVulnerabilities(tuple(known), tuple(said))


# keeps: REQ-EVI-05
def package_changes(old: Iterable[Bill], new: Iterable[Bill]) -> Iterator[dict[str, str]]:
    """Each package that differs: `name`, `before`, `after`; empty where it is not there."""
    before, after = _versions(old), _versions(new)
    for key in sorted(before.keys() | after.keys()):
        was, is_ = before.get(key, ()), after.get(key, ())
        if was != is_:
            yield {"name": key[1], "before": ", ".join(was), "after": ", ".join(is_)}


def _versions(bills: Iterable[Bill]) -> dict[tuple[str, str], tuple[str, ...]]:
    """By kind and name; a package that is there in two versions has both."""
    found: dict[tuple[str, str], set[str]] = {}
    for component in _components(bills):
        found.setdefault((component.kind, component.name), set()).add(component.version)
    return {key: tuple(sorted(versions)) for key, versions in found.items()}


def _components(bills: Iterable[Bill]) -> Iterator[Component]:
    return (component for bill in bills for component in bill.components)


# keeps: REQ-EVI-05
def open_in(bills: Iterable[Bill], vulnerabilities: KnownVulnerabilities) -> list[OpenVulnerability]:
    """What is known of a component, and not closed by the last that a person said of it."""
    found = set()
    for bill in bills:
        for component in bill.components:
            for each in vulnerabilities.known:
                if each.concerns(component):
                    said = [one for one in vulnerabilities.said if one.names & {*each.names}]
                    said = [one for one in said if one.covers(bill, component)]
                    if not said or not said[-1].closes:
                        state = said[-1].status if said else _KNOWN
                        severity = str(each.severity or "not known")
                        row = (each.names[0], component.name, component.version, severity, state)
                        found.add(OpenVulnerability(*row))
    return sorted(found)
