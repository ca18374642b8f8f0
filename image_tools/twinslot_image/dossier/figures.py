"""Results of tests, as the programs wrote them that ran them: each with the digest of the client that was tested.

What is read: the matrix of `twinslot_lab matrix` (docs/guide-matrix.md), the report of `twinslot_lab powercut`, the
ledger of power cuts (docs/power-cuts.jsonl), the reports of `twinslot_lab crash`, and the JSON of coverage.py.
"""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from twinslot.core.errors import ImageError
from twinslot_image.dossier.model import Body, DossierTable, Figure, FigureResult
from twinslot_image.evidence_file import count, parse_json, reading, text
from twinslot_image.matrix_file import MatrixFile

_POWER_CUTS: Final = "a report of 'twinslot_lab powercut', or its ledger"
_CRASH: Final = "a report of 'twinslot_lab crash'"
_COVERAGE: Final = "the JSON of 'coverage json'"
_BRICK: Final = "BRICK"
_SUBJECT: Final = re.compile(r"subject=([0-9a-f]{64})", re.ASCII)


def matrix_figure(matrix: MatrixFile) -> Figure:
    """The matrix: passed, if nothing is at fault and no test failed."""
    by_outcome = {word: sorted(t for t, o in matrix.tests.items() if o == word) for word in ("passed", "failed")}
    rest = sorted(set(matrix.tests) - set(by_outcome["passed"]) - set(by_outcome["failed"]))
    runs = [[run.name, str(run.passed), str(run.failed), str(run.skipped)] for run in matrix.runs]
    rows = [
        [
            r.id,
            r.title,
            ", ".join(r.risks),
            f"{sum(o == 'passed' for o in r.tests.values())} of {len(r.tests)}",
            r.verdict,
        ]
        for r in matrix.requirements.values()
    ]
    risks = [
        [id_, title, ", ".join(r.id for r in matrix.requirements.values() if id_ in r.risks)]
        for id_, title in matrix.risks.items()
    ]
    verdicts = Counter(r.verdict for r in matrix.requirements.values())
    body = Body(
        facts=[
            ["requirements", ", ".join(f"{number} {word}" for word, number in sorted(verdicts.items()))],
            ["risks", str(len(matrix.risks))],
            ["tests that verify a requirement", str(len(matrix.tests))],
            ["faults", str(len(matrix.faults))],
        ],
        tables=[
            DossierTable("Runs", ["run", "passed", "failed", "skipped"], runs),
            *([DossierTable("Faults", ["fault"], [[fault] for fault in matrix.faults])] if matrix.faults else []),
            DossierTable("Requirements", ["id", "requirement", "risks", "tests passed", "verdict"], rows),
            DossierTable("Risks", ["id", "risk", "controlled by"], risks),
        ],
    )
    result = FigureResult.PASSED if matrix.passed else FigureResult.FAILED
    return Figure(matrix.subject, result, by_outcome["passed"], rest, by_outcome["failed"], body)


def power_cut_figure(files: Mapping[Path, bytes], client: str) -> Figure:
    """Cuts of reports and of the ledger; of the ledger, which keeps all clients', those of this one.

    Args:
        files: Content by path.
        client: The digest that the ledger's lines are chosen by.

    Raises:
        ImageError: `image.evidence`.
    """
    cuts: list[_Cut] = []
    clients: set[str] = set()
    others = 0
    for path, data in files.items():
        with reading(path, _POWER_CUTS):
            found, subjects = _ledger(data, path) if path.suffix == ".jsonl" else _report(data, path)
            if path.suffix == ".jsonl":
                others += sum(cut.subject != client for cut in found)
                found = [cut for cut in found if cut.subject == client]
        cuts += found
        clients |= {cut.subject for cut in found} | subjects
    passed, failed = ([cut.name for cut in cuts if (cut.outcome == _BRICK) is bad] for bad in (False, True))
    counts = Counter((cut.phase, cut.outcome) for cut in cuts)
    rows = [[phase, outcome, str(number)] for (phase, outcome), number in sorted(counts.items())]
    boards = ", ".join(sorted({cut.board for cut in cuts}))
    facts = [["cuts", str(len(cuts))], ["bricks", str(len(failed))], ["boards", boards]]
    facts += [["cuts of other clients in the ledger, not counted", str(others)]] if others else []
    body = Body(facts, [DossierTable("Cuts", ["phase", "outcome", "cuts"], rows)] if rows else [])
    result = FigureResult.PASSED if cuts and not failed else FigureResult.FAILED
    return Figure(_one(clients), result, sorted(passed), [], sorted(failed), body)


@dataclass(frozen=True, slots=True)
class _Cut:
    """One cut of a board's power."""

    subject: str
    board: str
    name: str
    phase: str
    outcome: str


def _cut(value: Mapping[str, Any], subject: str) -> _Cut:
    board = text(value["board"])
    name = f"{board} seed {count(value['seed'])} cut {count(value['number'])}"
    return _Cut(subject, board, name, text(value["phase"]), text(value["outcome"]))


def _report(data: bytes, path: Path) -> tuple[list[_Cut], set[str]]:
    whole = parse_json(data, path, _POWER_CUTS)
    subjects = {str(each["made_of"].get("subject", "")) for each in whole["campaigns"]}
    cuts = [_cut(each, _one(subjects)) for each in whole["cuts"]]
    if count(whole["bricks"]) != sum(cut.outcome == _BRICK for cut in cuts):
        raise ValueError(f"{whole['bricks']} bricks, and another number of them among the cuts")
    return cuts, subjects


def _ledger(data: bytes, path: Path) -> tuple[list[_Cut], set[str]]:
    lines = (parse_json(line.encode(), path, _POWER_CUTS) for line in data.decode().splitlines() if line)
    return [_cut(line, str(line.get("subject", ""))) for line in lines], set()


def crash_figure(files: Mapping[Path, bytes]) -> Figure:
    """Crash states of one or more stories.

    Raises:
        ImageError: `image.evidence`.
    """
    clients: set[str] = set()
    rows: list[list[str]] = []
    passed: list[str] = []
    failed: list[str] = []
    states = bad = 0
    for path, data in files.items():
        with reading(path, _CRASH):
            whole = parse_json(data, path, _CRASH)
            clients.add(str(whole.get("subject", "")))
            states, bad = states + count(whole["states"]), bad + count(whole["bad"])
            (failed if whole["bad"] or not whole["states"] else passed).append(path.name)
            if whole["bad"] != sum(count(row["bad"]) for row in whole["phases"].values()):
                raise ValueError(f"{whole['bad']} bad states, and another number of them in its phases")
            for phase, row in whole["phases"].items():
                rows.append([path.name, text(phase), *(str(count(row[key])) for key in ("states", "distinct", "bad"))])
    table = DossierTable("States", ["report", "phase", "states", "distinct", "bad"], rows)
    body = Body([["states judged", str(states)], ["bad", str(bad)]], [table])
    result = FigureResult.FAILED if failed else FigureResult.PASSED
    return Figure(_one(clients), result, sorted(passed), [], sorted(failed), body)


def coverage_figure(path: Path, data: bytes) -> Figure:
    """What coverage.py counted. Its file says of which client where each line was reached under its context.

    That is `coverage run --context subject=DIGEST`, and `coverage json --show-contexts`.

    Raises:
        ImageError: `image.evidence`.
    """
    whole = parse_json(data, path, _COVERAGE)
    with reading(path, _COVERAGE):
        clients = {_client_of(text(one)) for one in _contexts(whole)}
        totals = whole["totals"]
        facts = [
            ["statements", str(count(totals["num_statements"]))],
            ["of them reached", str(count(totals["covered_lines"]))],
            ["share", f"{_share(totals['percent_covered']):.1f} %"],
            ["counted", text(whole["meta"]["timestamp"])],
            ["by", f"coverage.py {text(whole['meta']['version'])}"],
        ]
    return Figure(_one(clients) if all(clients) else "", FigureResult.PASSED, body=Body(facts))


def _share(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        raise ValueError(f"{value} where percent belong")
    return float(value)


def _contexts(whole: Mapping[str, Any]) -> Iterator[Any]:
    for file in whole.get("files", {}).values():
        for each in file.get("contexts", {}).values():
            yield from each


def _client_of(context: str) -> str:
    """The digest in a context, which may be followed by the name of a test; empty: it is another context."""
    match = _SUBJECT.fullmatch(context.partition("|")[0])
    return match[1] if match else ""


def _one(clients: set[str]) -> str:
    """The one client that they are of; several are none of ours."""
    return " and ".join(sorted(each or "(not said)" for each in clients)) if len(clients) > 1 else "".join(clients)


def shown_json(data: bytes) -> str:
    """JSON as people read it, of a signed statement what was signed; what is no JSON, as it is."""
    try:
        whole = json.loads(data)
        if isinstance(whole, dict) and "payloadType" in whole:
            whole = json.loads(base64.b64decode(whole["payload"], validate=True))
        return json.dumps(whole, indent=1, ensure_ascii=False)
    except (ValueError, TypeError, KeyError, RecursionError):
        return data.decode(errors="replace")


def refuse_empty(path: Path, data: bytes) -> None:
    """An empty file is no evidence.

    Raises:
        ImageError: `image.evidence`.
    """
    if not data.strip():
        raise ImageError(f"'{path}' is empty", code="evidence", expected="a document")
