"""What a matrix is made of: requirements, risks, clauses of standards, marks in code, and results of tests."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

ID: Final = re.compile(r"[A-Z][A-Z0-9]{0,15}(-[A-Z0-9]{1,15}){0,3}")
ID_FORM: Final = "capital letters and digits, parts joined by '-', such as S5 or REQ-IMG-12"


class Verification(StrEnum):
    """How it is shown that a requirement is met (methods of ISO/IEC/IEEE 29148:2018, 6.5.2.4)."""

    TEST = "test"
    INSPECTION = "inspection"
    ANALYSIS = "analysis"


class ResultOutcome(StrEnum):
    """What became of a test."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One promise.

    Args:
        id: Of the form `ID`.
        title: One line.
        text: What is promised; `code` in backquotes.
        rationale: Why.
        risks: Ids of the risks that it controls.
        verification: How it is verified.
        evidence: For what no test verifies: the page or file that was inspected, from the root of the tree.
        file: Where it stands.
    """

    id: str
    title: str
    text: str
    rationale: str
    risks: tuple[str, ...]
    verification: Verification
    evidence: str
    file: Path

    @property
    def fingerprint(self) -> str:
        """32 hex digits of the SHA-256 of what a reviewer read; another text is another fingerprint."""
        return _fingerprint([self.id, self.title, self.text, self.rationale, sorted(self.risks), self.verification])


@dataclass(frozen=True, slots=True)
class Risk:
    """One way of coming to harm (hazardous situation and harm in the words of ISO 14971:2019, 3.5 and 3.3).

    Args:
        id: Of the form `ID`.
        title: The hazardous situation in one line.
        harm: What may follow from it.
        maker: What is left to whoever makes the device; with it, and without a requirement, the risk is the maker's.
        file: Where it stands.
    """

    id: str
    title: str
    harm: str
    maker: str
    file: Path

    @property
    def fingerprint(self) -> str:
        """As a requirement's."""
        return _fingerprint([self.id, self.title, self.harm, self.maker])


@dataclass(frozen=True, slots=True)
class Clause:
    """One clause of a standard, and what the project has for it.

    Args:
        id: As the standard numbers it.
        title: In a few words of our own.
        requirements: Ids.
        pages: Files of the tree that answer it.
        maker: What the device's maker has to do.
    """

    id: str
    title: str
    requirements: tuple[str, ...]
    pages: tuple[str, ...]
    maker: str


@dataclass(frozen=True, slots=True)
class Standard:
    """A standard or guidance; `status` says whether it is in force, or a draft of which date."""

    id: str
    title: str
    status: str
    clauses: tuple[Clause, ...]
    file: Path


@dataclass(frozen=True, slots=True)
class Review:
    """Who read which text of an item, on which day."""

    fingerprint: str
    by: str
    on: str


@dataclass(frozen=True, slots=True)
class Requirements:
    """All that stands in a directory of requirements.

    Args:
        requirements: By id, in the order of their files.
        risks: By id.
        standards: In the order of their files.
        reviews: By id of a requirement or risk.
    """

    requirements: Mapping[str, Requirement]
    risks: Mapping[str, Risk]
    standards: tuple[Standard, ...] = ()
    reviews: Mapping[str, Review] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A comment `# keeps: ID` in code.

    Args:
        file: From the root of the tree.
        line: Of the comment, from 1.
        id: Of the requirement.
        function: `Class.method` around it or below it; empty outside of any.
        watched: Whether a run can say that the line was reached; lines of shell cannot.
    """

    file: str
    line: int
    id: str
    function: str
    watched: bool

    @property
    def place(self) -> str:
        """As a run names it."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Result:
    """One test of a run that verifies something.

    Args:
        test: pytest's node id.
        outcome: What became of it.
        verifies: Ids of requirements.
        reached: Places of marks that ran during the test.
    """

    test: str
    outcome: ResultOutcome
    verifies: tuple[str, ...]
    reached: frozenset[str]


@dataclass(frozen=True, slots=True)
class Run:
    """What one run of pytest left.

    Args:
        name: The file's, without its ending.
        subject: SHA-256 of what was tested, as `reach.digest_of` makes it.
        results: Of tests that verify something.
        passed: How many tests passed in all.
        failed: How many failed.
        skipped: How many were skipped.
    """

    name: str
    subject: str
    results: tuple[Result, ...]
    passed: int = 0
    failed: int = 0
    skipped: int = 0


def _fingerprint(values: list[object]) -> str:
    return hashlib.sha256(json.dumps(values, ensure_ascii=False).encode()).hexdigest()[:32]
