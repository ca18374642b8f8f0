"""A matrix as JSON and CSV: for programs, spreadsheets and other tools. The same matrix is always the same bytes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any, Final

from twinslot_lab.matrix.join import Matrix, Row, TestRow

FORMAT: Final = "twinslot-matrix/1"
_HEAD: Final = (
    "requirement",
    "title",
    "risks",
    "verification",
    "verdict",
    "code",
    "test",
    "outcome",
    "runs",
    "subject",
)


def as_json(matrix: Matrix) -> str:
    """All of it; `docs/guide-matrix.md` lists the keys."""
    data = matrix.data
    whole: dict[str, Any] = {
        "format": FORMAT,
        "subject": matrix.subject,
        "runs": [
            {"name": r.name, "subject": r.subject, "passed": r.passed, "failed": r.failed, "skipped": r.skipped}
            for r in matrix.runs
        ],
        "faults": [{"kind": f.kind, "about": f.about, "message": f.message} for f in matrix.faults],
        "requirements": [_row(row) for row in matrix.rows],
        "risks": [
            {
                "id": risk.id,
                "title": risk.title,
                "harm": risk.harm,
                "maker": risk.maker,
                "controls": controls(matrix, id_),
            }
            for id_, risk in data.risks.items()
        ],
        "standards": [
            {
                "id": standard.id,
                "title": standard.title,
                "status": standard.status,
                "clauses": [
                    {
                        "id": clause.id,
                        "title": clause.title,
                        "requirements": list(clause.requirements),
                        "pages": list(clause.pages),
                        "maker": clause.maker,
                    }
                    for clause in standard.clauses
                ],
            }
            for standard in data.standards
        ],
        "tests": [_test(test) for test in matrix.tests],
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def as_csv(matrix: Matrix) -> str:
    """One line for each requirement and test, RFC 4180; a requirement without a test has a line as well."""
    out = io.StringIO()
    lines = csv.writer(out)
    lines.writerow(_HEAD)
    for row in matrix.rows:
        for test, outcome, runs in _tests(row):
            r = row.requirement
            code = " ".join(mark.place for mark in row.marks)
            values = (r.id, r.title, " ".join(r.risks), r.verification, row.verdict, code, test, outcome, runs)
            lines.writerow([_cell(str(value)) for value in (*values, matrix.subject)])
    return out.getvalue()


def controls(matrix: Matrix, risk: str) -> list[str]:
    """Ids of the requirements that control a risk."""
    return [row.requirement.id for row in matrix.rows if risk in row.requirement.risks]


def _cell(text: str) -> str:
    """No formula, whoever opens it: a spreadsheet runs what begins like one (OWASP, CSV injection)."""
    return f"'{text}" if text[:1] in "=+-@\t\r" and text else text


def _tests(row: Row) -> Iterator[tuple[str, str, str]]:
    if not row.tests:
        yield "", "", ""
    for test in row.tests:
        yield test.test, test.outcome, " ".join(test.runs)


def _row(row: Row) -> dict[str, Any]:
    r = row.requirement
    reached = {place for test in row.tests for place in test.reached}
    return {
        "id": r.id,
        "title": r.title,
        "text": r.text,
        "rationale": r.rationale,
        "risks": list(r.risks),
        "verification": r.verification,
        "evidence": r.evidence,
        "fingerprint": r.fingerprint,
        "reviewed": row.reviewed,
        "verdict": row.verdict,
        "code": [
            {
                "place": mark.place,
                "function": mark.function,
                "reached": mark.place in reached if mark.watched else None,
            }
            for mark in row.marks
        ],
        "tests": [_test(test) for test in row.tests],
    }


def _test(test: TestRow) -> dict[str, Any]:
    return {"test": test.test, "outcome": test.outcome, "runs": list(test.runs), "verifies": list(test.verifies)}
