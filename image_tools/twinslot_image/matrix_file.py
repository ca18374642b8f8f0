"""A matrix of requirements, as `twinslot_lab matrix print` writes it (format twinslot-matrix/1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from twinslot.core.errors import ImageError
from twinslot_image.evidence_file import count, parse_json, reading, text

FORMAT: Final = "twinslot-matrix/1"
_RED: Final = "failed"  # an outcome of a test, and a verdict on a requirement
_WHAT: Final = "a matrix.json of 'twinslot_lab matrix print'"


@dataclass(frozen=True, slots=True)
class MatrixRequirement:
    """One requirement with what the run made of it."""

    id: str
    title: str
    risks: tuple[str, ...]
    fingerprint: str
    verdict: str
    tests: Mapping[str, str]  # outcome by test


@dataclass(frozen=True, slots=True)
class MatrixRun:
    """One run of the tests."""

    name: str
    passed: int
    failed: int
    skipped: int


@dataclass(frozen=True, slots=True)
class MatrixFile:
    """The matrix.

    Attributes:
        subject: SHA-256 of what was tested.
        runs: By which runs.
        faults: What does not fit, as sentences.
        requirements: By id.
        risks: Title by id.
        tests: Outcome by name, of all tests that verify something.
    """

    subject: str
    runs: tuple[MatrixRun, ...]
    faults: tuple[str, ...]
    requirements: Mapping[str, MatrixRequirement]
    risks: Mapping[str, str]
    tests: Mapping[str, str]

    @property
    def passed(self) -> bool:
        """No fault, and no test failed in any run."""
        return not self.faults and bool(self.runs) and not self.red

    @property
    def red(self) -> tuple[str, ...]:
        """What failed by the results themselves, whatever the faults say: runs, tests, requirements."""
        runs = [f"{run.failed} failed in run '{run.name}'" for run in self.runs if run.failed]
        tests = [f"{test} {outcome}" for test, outcome in self.tests.items() if outcome == _RED]
        return (*runs, *tests, *(f"{each.id} {_RED}" for each in self.requirements.values() if each.verdict == _RED))


def parse_matrix(data: bytes, path: Path) -> MatrixFile:
    """A matrix, from its bytes.

    Raises:
        ImageError: `image.evidence`: it is none.
    """
    whole = parse_json(data, path, _WHAT)
    with reading(path, _WHAT):
        if whole["format"] != FORMAT:
            raise ImageError(f"'{path}' is of another format", code="evidence", expected=FORMAT, found=whole["format"])
        return MatrixFile(
            text(whole["subject"]),
            tuple(_run(each) for each in whole["runs"]),
            tuple(f"{text(each['kind'])}: {text(each['about'])}: {text(each['message'])}" for each in whole["faults"]),
            {text(each["id"]): _requirement(each) for each in whole["requirements"]},
            {text(each["id"]): text(each["title"]) for each in whole["risks"]},
            _outcomes(whole["tests"]),
        )


def _run(value: Mapping[str, Any]) -> MatrixRun:
    return MatrixRun(text(value["name"]), *(count(value[key]) for key in ("passed", "failed", "skipped")))


def _requirement(value: Mapping[str, Any]) -> MatrixRequirement:
    return MatrixRequirement(
        text(value["id"]),
        text(value["title"]),
        tuple(text(each) for each in value["risks"]),
        text(value["fingerprint"]),
        text(value["verdict"]),
        _outcomes(value["tests"]),
    )


def _outcomes(tests: list[Mapping[str, Any]]) -> dict[str, str]:
    return {text(each["test"]): text(each["outcome"]) for each in tests}
