"""A matrix as one HTML page that needs nothing else: no script, no network. Each id is a link, in both directions."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator

from twinslot_lab.matrix.join import Matrix, Row, TestRow
from twinslot_lab.matrix.model import Clause, Mark
from twinslot_lab.matrix.render import controls

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#1c2733;background:#fff}
h1,h2,h3{line-height:1.25}h2{margin-top:2.5rem}h3{margin:1.6rem 0 .3rem;scroll-margin-top:1rem}
table{border-collapse:collapse;width:100%;margin:.5rem 0}th,td{text-align:left;vertical-align:top;padding:.3rem .6rem;
border-bottom:1px solid #d5dde5;overflow-wrap:anywhere}th{background:#f2f5f8}
code{font:13px ui-monospace,monospace;overflow-wrap:anywhere}a{color:#0b5cad}
.v{border-radius:.6rem;padding:0 .5rem;white-space:nowrap}.passed{background:#d9f2df}.failed,.open{background:#fbdcdc}
.skipped,.other{background:#eceff2}dt{font-weight:600}dd{margin:0 0 .5rem 0}.quiet{color:#5a6875}
@media(max-width:40rem){body{margin:1rem auto}th,td{padding:.25rem}table.wide thead{display:none}
table.wide td{display:block;border:0;padding:.1rem 0}
table.wide tr{display:block;border-bottom:1px solid #d5dde5;padding:.4rem 0}}
@media print{a{color:inherit}body{max-width:none}}
"""
_HEAD = '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
_CLASSES = {"passed": "passed", "failed": "failed", "skipped": "skipped", "not verified": "open"}


def as_html(matrix: Matrix, title: str) -> str:
    """The page; the same matrix is always the same bytes."""
    parts = [
        _HEAD,
        f"<title>{_e(title)}</title><style>{_STYLE}</style><h1>{_e(title)}</h1>",
        *_summary(matrix),
        *_faults(matrix),
        *_overview(matrix),
        "<h2 id='requirements'>Requirements</h2>",
        *(part for row in matrix.rows for part in _requirement(row)),
        *_risks(matrix),
        *_code(matrix),
        *_tests(matrix),
        *_standards(matrix),
        "</html>\n",
    ]
    return "\n".join(parts)


def _summary(matrix: Matrix) -> Iterator[str]:
    marks = [mark for row in matrix.rows for mark in row.marks]
    reached = {place for test in matrix.tests for place in test.reached}
    watched = [mark for mark in marks if mark.watched]
    figures = [
        ("requirements", len(matrix.rows)),
        ("risks", len(matrix.data.risks)),
        ("tests that verify one", len(matrix.tests)),
        ("marked places in code", len(marks)),
        (
            "of them reached by a test, where a run can say so",
            f"{sum(m.place in reached for m in watched)} of {len(watched)}",
        ),
        ("faults", len(matrix.faults)),
    ]
    yield "<table>"
    yield from (f"<tr><th>{_e(name)}<td>{value}" for name, value in figures)
    yield f"<tr><th>what was tested, SHA-256<td><code>{matrix.subject}</code>"
    for run in matrix.runs:
        yield f"<tr><th>run {_e(run.name)}<td>{run.passed} passed, {run.failed} failed, {run.skipped} skipped"
    yield "</table>"
    links = ("overview", "requirements", "risks", "code", "tests", "standards")
    yield "<p>" + " · ".join(f"<a href='#{name}'>{name}</a>" for name in links)


def _faults(matrix: Matrix) -> Iterator[str]:
    if matrix.faults:
        yield _table("faults", "kind", "about", "what")
        yield from (f"<tr><td>{f.kind}<td>{_link(f.about)}<td>{_e(f.message)}" for f in matrix.faults)
        yield "</table>"


def _overview(matrix: Matrix) -> Iterator[str]:
    yield _table("overview", "requirement", "risks", "code", "tests", "verdict")
    for row in matrix.rows:
        r = row.requirement
        passed = sum(test.outcome == "passed" for test in row.tests)
        tests = f"{passed} of {len(row.tests)} passed" if row.tests else ""
        cells = f"<td>{_links(r.risks)}<td>{_count(len(row.marks), 'place')}<td>{tests}<td>{_badge(row.verdict)}"
        yield f"<tr><td>{_link(r.id)} {_e(r.title)}{cells}"
    yield "</table>"


def _requirement(row: Row) -> Iterator[str]:
    r = row.requirement
    yield f"<h3 id='{r.id}'>{r.id} {_e(r.title)} {_badge(row.verdict)}</h3>"
    yield _text(r.text)
    if r.rationale:
        yield f"<p class='quiet'>Why: {_prose(r.rationale)}"
    yield "<table class='wide'>"
    if r.risks:
        yield f"<tr><th>controls<td>{_links(r.risks)}"
    if r.evidence:
        yield f"<tr><th>{r.verification}<td><code>{_e(r.evidence)}</code>"
    if row.marks:
        yield "<tr><th>code<td>" + "<br>".join(_mark(mark, row.tests) for mark in row.marks)
    if row.tests:
        yield "<tr><th>tests<td>" + "<br>".join(_test(test) for test in row.tests)
    yield f"<tr><th>text<td><code>{r.fingerprint}</code> {'' if row.reviewed else '(not reviewed)'}</table>"


def _risks(matrix: Matrix) -> Iterator[str]:
    yield _table("risks", "risk", "harm", "controlled by", "left to the maker")
    for id_, risk in matrix.data.risks.items():
        yield f"<tr id='{id_}'><td>{id_} {_e(risk.title)}<td>{_prose(risk.harm)}"
        yield f"<td>{_links(controls(matrix, id_))}<td>{_prose(risk.maker)}"
    yield "</table>"


def _code(matrix: Matrix) -> Iterator[str]:
    yield _table("code", "place", "in", "keeps")
    for mark in sorted({mark for row in matrix.rows for mark in row.marks}):
        yield f"<tr><td><code>{_e(mark.place)}</code><td><code>{_e(mark.function)}</code><td>{_link(mark.id)}"
    yield "</table>"


def _tests(matrix: Matrix) -> Iterator[str]:
    yield _table("tests", "test", "verifies", "runs", "outcome")
    for test in matrix.tests:
        cells = f"<td>{_links(test.verifies)}<td>{_e(', '.join(test.runs))}<td>{_badge(test.outcome)}"
        yield f"<tr><td><code>{_e(test.test)}</code>{cells}"
    yield "</table>"


def _standards(matrix: Matrix) -> Iterator[str]:
    yield "<h2 id='standards'>Standards</h2>"
    for standard in matrix.data.standards:
        yield f"<h3>{_e(standard.title)}</h3><p class='quiet'>{_e(standard.status)}"
        yield "<table class='wide'><thead><tr><th>clause<th>requirements and pages<th>left to the maker</thead>"
        for clause in standard.clauses:
            yield f"<tr><td>{_e(clause.id)} {_e(clause.title)}<td>{_answers(clause)}<td>{_prose(clause.maker)}"
        yield "</table>"


def _table(name: str, *columns: str) -> str:
    """A heading, and the head of a wide table below it."""
    head = "".join(f"<th>{column}" for column in columns)
    return f"<h2 id='{name}'>{name.capitalize()}</h2><table class='wide'><thead><tr>{head}</thead>"


def _answers(clause: Clause) -> str:
    return " ".join([_links(clause.requirements), *(f"<code>{_e(page)}</code>" for page in clause.pages)])


def _mark(mark: Mark, tests: Iterable[TestRow]) -> str:
    reached = any(mark.place in test.reached for test in tests)
    word = ("reached" if reached else "NOT REACHED") if mark.watched else "not watched"
    return f"<code>{_e(mark.place)}</code> <code>{_e(mark.function)}</code> <span class='quiet'>{word}</span>"


def _test(test: TestRow) -> str:
    return f"{_badge(test.outcome)} <code>{_e(test.test)}</code> <span class='quiet'>{_e(', '.join(test.runs))}</span>"


def _badge(word: str) -> str:
    return f"<span class='v {_CLASSES.get(word, 'other')}'>{_e(word)}</span>"


def _link(id_: str) -> str:
    return f"<a href='#{_e(id_)}'>{_e(id_)}</a>"


def _links(ids: Iterable[str]) -> str:
    return " ".join(_link(id_) for id_ in ids)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}" if number else ""


def _text(text: str) -> str:
    return "".join(f"<p>{_prose(part)}" for part in re.split(r"\n\s*\n", text))


def _prose(text: str) -> str:
    """Code in backquotes, links of Markdown as their words."""
    words = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text)
    return re.sub(r"`([^`]+)`", lambda found: f"<code>{found[1]}</code>", _e(words))


def _e(text: str) -> str:
    return html.escape(text, quote=True)
