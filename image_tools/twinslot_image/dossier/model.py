"""What a dossier is made of: sections, the files behind them, and figures that are signed one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final


class SectionState(StrEnum):
    """What a section has."""

    THERE = "there"
    MISSING = "missing"
    NOT_PASSED = "not passed"
    UNBOUND = "unbound"  # it is there, and nothing says of which client it is


class FigureResult(StrEnum):
    """The words of in-toto's test-result predicate, v0.1."""

    PASSED = "PASSED"
    FAILED = "FAILED"


Rows = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class DossierTable:
    """A table for people."""

    title: str
    head: Sequence[str]
    rows: Rows

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"title": self.title, "head": list(self.head), "rows": [list(row) for row in self.rows]}


@dataclass(frozen=True, slots=True)
class Body:
    """What people read in a section: facts, tables, a text."""

    facts: Rows = ()
    tables: Sequence[DossierTable] = ()
    text: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "facts": [list(row) for row in self.facts],
            "tables": [table.as_dict() for table in self.tables],
            "text": self.text,
        }


@dataclass(frozen=True, slots=True)
class Figure:
    """A result that is signed alone.

    Attributes:
        client: SHA-256 of what was tested; empty: the file does not say.
        result: In one word.
        passed, warned, failed: Names of tests.
        body: For people.
    """

    client: str
    result: FigureResult
    passed: Sequence[str] = ()
    warned: Sequence[str] = ()
    failed: Sequence[str] = ()
    body: Body = field(default_factory=Body)


@dataclass(frozen=True, slots=True)
class DossierSection:
    """One section.

    Attributes:
        id: As in `SECTIONS`.
        state: What there is.
        note: Why it is missing, or what is wrong.
        files: Content by path in the dossier.
        body: For people.
        figure: With a section that is a figure.
    """

    id: str
    state: SectionState
    note: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    body: Body = field(default_factory=Body)
    figure: Figure | None = None


# Every dossier has each of them, in this order: what a release lacks is said.
SECTIONS: Final[Mapping[str, str]] = {
    "summary": "Summary of the change",
    "changes": "What changed against the release before",
    "touched": "Requirements and risks touched",
    "matrix": "Requirements, risks, tests and results",
    "coverage": "Coverage",
    "power-cuts": "Power cuts that were made",
    "crash-states": "Crash states that were judged",
    "sbom": "Bill of materials",
    "vulnerabilities": "Known vulnerabilities",
    "provenance": "Provenance",
    "reproducibility": "Reproducibility",
    "approvals": "Approvals",
    "anomalies": "Open anomalies",
    "deployment": "Deployment",
    "keys": "Keys and thresholds in force",
    "pccp": "Predetermined change control plan",
}
# What a section is, for who reads the page; the words of the lab are explained where they stand.
MEANS: Final[Mapping[str, str]] = {
    "summary": "Why this release was made, in the words of its makers.",
    "changes": "Packages, files, sizes and manifest beside those of the release before.",
    "touched": "Requirements that differ from those of the release before, and the risks that they control.",
    "matrix": "Which test verifies which requirement, which risks that controls, and what came of it in these runs.",
    "coverage": "How many statements of the code the tests reached.",
    "power-cuts": "Cuts of the power during an update. A brick is a device that did not start again by itself.",
    "crash-states": "What a power cut could have left on the storage, each state judged. Bad: no way back leads from "
    "it. Distinct: states that differ, as several cuts leave the same.",
    "sbom": "What the root file system consists of.",
    "vulnerabilities": "What is known of its parts, and what a person found of it.",
    "provenance": "From which sources and inputs, where and by whom the image was built.",
    "reproducibility": "SHA-256 of the parts of two builds of the same inputs.",
    "approvals": "Who agreed, in which capacity and when, having looked at what.",
    "anomalies": "What is known not to work, or not to be covered.",
    "deployment": "To which devices the release is offered, and in which waves.",
    "keys": "How many keys of each role must sign, which they are, and until when the documents that say so count.",
    "pccp": "A change that was foreseen: what it is, how it is judged, and what came of it.",
}
PLAN: Final = "pccp"  # scheme of a number in the manifest
PCCP_CLASSES: Final = ("clinical", "model")  # classes of change whose dossier must have the last section
