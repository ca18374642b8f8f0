"""Requirements, marks and runs put together. Pure: what does not fit is a fault, each of a kind with a name."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from twinslot_lab.matrix.model import Mark, Requirement, Requirements, Result, ResultOutcome, Risk, Run, Verification


class FaultKind(StrEnum):
    """What a matrix fails for."""

    NO_TEST = "requirement-without-test"
    NOT_RUN = "requirement-without-executed-test"
    TEST_FAILED = "test-failed"
    UNKNOWN_IN_TEST = "test-for-unknown-id"
    UNKNOWN_IN_CODE = "mark-for-unknown-id"
    UNKNOWN_RISK = "unknown-risk"
    UNKNOWN_IN_STANDARD = "standard-names-unknown-id"
    NOT_REACHED = "marked-line-not-reached"
    NO_CONTROL = "risk-without-control"
    NO_EVIDENCE = "evidence-missing"
    OTHER_SUBJECT = "result-of-another-subject"
    SUSPECT = "changed-since-review"
    UNKNOWN_REVIEW = "review-of-unknown-id"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that does not fit, about one item, with what to do."""

    kind: FaultKind
    about: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.about}: {self.message}"


@dataclass(frozen=True, slots=True)
class TestRow:
    """A test's results in all runs, as one."""

    __test__ = False  # pytest, this is none
    test: str
    outcome: ResultOutcome
    runs: tuple[str, ...]
    verifies: tuple[str, ...]
    reached: frozenset[str]


@dataclass(frozen=True, slots=True)
class Row:
    """One requirement with all that belongs to it."""

    requirement: Requirement
    marks: tuple[Mark, ...]
    tests: tuple[TestRow, ...]
    verdict: str
    reviewed: bool


@dataclass(frozen=True, slots=True)
class Matrix:
    """What is printed.

    Args:
        rows: In the order of the requirements.
        tests: Every test that verifies something.
        data: What the rows were made from.
        runs: The runs.
        subject: The digest of what was tested, as the tree has it now.
        faults: Empty, if all fits.
    """

    rows: tuple[Row, ...]
    tests: tuple[TestRow, ...]
    data: Requirements
    runs: tuple[Run, ...]
    subject: str
    faults: tuple[Fault, ...]


PASSED, FAILED, OPEN, INSPECTED, ANALYSED = "passed", "failed", "not verified", "inspected", "analysed"
_OTHER: Final = {Verification.INSPECTION: INSPECTED, Verification.ANALYSIS: ANALYSED}


def join(
    data: Requirements, marks: Sequence[Mark], runs: Sequence[Run], subject: str, files: Collection[str]
) -> Matrix:
    """The matrix.

    Args:
        data: Requirements, risks, standards, reviews.
        marks: Of the code as it stands.
        runs: What was run; a test of several runs has failed, if it failed in one.
        subject: `reach.digest_of` the code as it stands.
        files: Which of the pages and files that items name exist.
    """
    tests = tuple(_tests(runs))
    by_id: dict[str, list[TestRow]] = defaultdict(list)
    for test in tests:
        for id_ in test.verifies:
            by_id[id_].append(test)
    rows = []
    for requirement in data.requirements.values():
        own = tuple(mark for mark in marks if mark.id == requirement.id)
        its = tuple(by_id[requirement.id])
        review = data.reviews.get(requirement.id)
        reviewed = review is not None and review.fingerprint == requirement.fingerprint
        rows.append(Row(requirement, own, its, _verdict(requirement, its), reviewed))
    faults = [*_of_runs(runs, subject), *_unknown(data, marks, tests), *_of_data(data, files)]
    for row in rows:
        faults += _of_row(row)
    return Matrix(tuple(rows), tests, data, tuple(runs), subject, tuple(faults))


def _tests(runs: Iterable[Run]) -> Iterator[TestRow]:
    found: dict[str, list[tuple[str, Result]]] = defaultdict(list)
    for run in runs:
        for result in run.results:
            found[result.test].append((run.name, result))
    for test, results in sorted(found.items()):
        outcomes = {result.outcome for _, result in results}
        worst = next(
            each for each in (ResultOutcome.FAILED, ResultOutcome.PASSED, ResultOutcome.SKIPPED) if each in outcomes
        )
        ids = sorted({id_ for _, result in results for id_ in result.verifies})
        reached = frozenset(place for _, r in results if r.outcome is ResultOutcome.PASSED for place in r.reached)
        yield TestRow(test, worst, tuple(name for name, _ in results), tuple(ids), reached)


def _verdict(requirement: Requirement, tests: Sequence[TestRow]) -> str:
    if any(test.outcome is ResultOutcome.FAILED for test in tests):
        return FAILED
    if any(test.outcome is ResultOutcome.PASSED for test in tests):
        return PASSED
    return _OTHER.get(requirement.verification, OPEN)


def _of_row(row: Row) -> Iterator[Fault]:
    requirement = row.requirement
    if requirement.verification is Verification.TEST:
        if not row.tests:
            yield Fault(FaultKind.NO_TEST, requirement.id, f"no test of these runs verifies('{requirement.id}')")
        elif row.verdict == OPEN:
            names = ", ".join(test.test for test in row.tests[:3])
            yield Fault(FaultKind.NOT_RUN, requirement.id, f"its tests were skipped: {names}")
    for test in row.tests:
        if test.outcome is ResultOutcome.FAILED:
            yield Fault(FaultKind.TEST_FAILED, requirement.id, test.test)
    for mark in row.marks:
        if mark.watched and not any(mark.place in test.reached for test in row.tests):
            what = f"{mark.place} in '{mark.function}': no test that verifies {requirement.id} came there and passed"
            yield Fault(FaultKind.NOT_REACHED, requirement.id, what)


def _of_runs(runs: Iterable[Run], subject: str) -> Iterator[Fault]:
    for run in runs:
        if run.subject != subject:
            what = f"it tested {run.subject[:16]}, the tree has {subject[:16]}: run the tests again"
            yield Fault(FaultKind.OTHER_SUBJECT, run.name, what)


def _unknown(data: Requirements, marks: Iterable[Mark], tests: Iterable[TestRow]) -> Iterator[Fault]:
    for mark in marks:
        if mark.id not in data.requirements:
            yield Fault(FaultKind.UNKNOWN_IN_CODE, mark.id, f"{mark.place}{_near(mark.id, data.requirements)}")
    for test in tests:
        for id_ in sorted(set(test.verifies) - data.requirements.keys()):
            yield Fault(FaultKind.UNKNOWN_IN_TEST, id_, f"{test.test}{_near(id_, data.requirements)}")
    for standard in data.standards:
        for clause in standard.clauses:
            for id_ in sorted(set(clause.requirements) - data.requirements.keys()):
                what = f"{standard.id} {clause.id}{_near(id_, data.requirements)}"
                yield Fault(FaultKind.UNKNOWN_IN_STANDARD, id_, what)
    for id_ in sorted(data.reviews.keys() - data.requirements.keys() - data.risks.keys()):
        yield Fault(FaultKind.UNKNOWN_REVIEW, id_, f"a review of what is not there{_near(id_, data.requirements)}")


def _of_data(data: Requirements, files: Collection[str]) -> Iterator[Fault]:
    controlled = {risk for requirement in data.requirements.values() for risk in requirement.risks}
    for id_, requirement in data.requirements.items():
        for risk in sorted(set(requirement.risks) - data.risks.keys()):
            yield Fault(FaultKind.UNKNOWN_RISK, id_, f"'{risk}'{_near(risk, data.risks)}")
        if requirement.evidence and requirement.evidence not in files:
            yield Fault(FaultKind.NO_EVIDENCE, id_, f"there is no file '{requirement.evidence}'")
    for standard in data.standards:
        for clause in standard.clauses:
            for page in sorted(set(clause.pages) - set(files)):
                yield Fault(FaultKind.NO_EVIDENCE, f"{standard.id} {clause.id}", f"there is no file '{page}'")
    for id_, hazard in data.risks.items():
        if id_ not in controlled and not hazard.maker:
            yield Fault(FaultKind.NO_CONTROL, id_, "no requirement controls it, and nothing of it is left to the maker")
    items: dict[str, Requirement | Risk] = {**data.requirements, **data.risks}
    for id_, item in items.items():
        review = data.reviews.get(id_)
        if review is None:
            yield Fault(FaultKind.SUSPECT, id_, f"never reviewed: read it, then 'matrix review {id_} --by NAME'")
        elif review.fingerprint != item.fingerprint:
            what = f"its text is not the one that {review.by} read on {review.on}: 'matrix review {id_} --by NAME'"
            yield Fault(FaultKind.SUSPECT, id_, what)


def _near(id_: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(id_, list(known), 1, 0.5)
    return f" (did you mean '{near[0]}'?)" if near else ""
