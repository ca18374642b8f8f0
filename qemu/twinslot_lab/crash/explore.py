"""All states of a recording, shared out to processes, and the report: a JSON file and a table."""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from twinslot_lab.client_digest import client_subject
from twinslot_lab.command import BUILD
from twinslot_lab.crash.judge import CrashVerdict, Judge, superblocks
from twinslot_lab.crash.log import Log
from twinslot_lab.crash.record import Recording
from twinslot_lab.crash.states import CrashState, plan

REPORT: Final = BUILD / "crash" / "report.json"
_TOLD: Final = 20  # bad states that are told in full


@dataclass
class Tally:
    """Counts over many verdicts."""

    states: Counter[str] = field(default_factory=Counter)  # by phase
    bad: Counter[str] = field(default_factory=Counter)  # by phase
    kinds: Counter[str] = field(default_factory=Counter)
    filesystem: Counter[str] = field(default_factory=Counter)
    record: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    keys: dict[bytes, str] = field(default_factory=dict)  # of different states, with their phase
    found: list[dict[str, Any]] = field(default_factory=list)

    def add(self, verdict: CrashVerdict) -> None:
        """One more."""
        self.states[verdict.phase] += 1
        self.kinds[verdict.state.kind] += 1
        self.filesystem[verdict.health] += 1
        self.record[verdict.final.record] += 1
        self.runs[f"{verdict.phase}: {verdict.final.release} in slot {verdict.final.running}"] += 1
        self.notes.update(verdict.final.notes)
        self.keys.setdefault(verdict.key, verdict.phase)
        if verdict.bad:
            self.bad[verdict.phase] += 1
            self.found.append(_told(verdict))

    def merge(self, other: Tally) -> None:
        """Those of another process."""
        for name in ("states", "bad", "kinds", "filesystem", "record", "runs", "notes"):
            getattr(self, name).update(getattr(other, name))
        self.keys = other.keys | self.keys
        self.found += other.found


def _told(verdict: CrashVerdict) -> dict[str, Any]:
    state = verdict.state
    return {
        "phase": verdict.phase,
        "why": verdict.bad,
        "point": state.point,
        "kind": state.kind,
        "lost": sorted(state.lost),
        "torn": state.torn,
        "kept": state.kept,
        "blind": state.blind,
    }


def judge_all(recording: Recording, states: Iterable[CrashState]) -> Tally:
    """In the order of their points, in this process."""
    tally = Tally()
    with Judge(recording) as judge:
        for state in states:
            tally.add(judge.judge(state))
    return tally


def explore(recording: Recording, states: int, seed: int = 0, jobs: int = 2, *, out: Path = REPORT) -> dict[str, Any]:
    """The report; writes it, too.

    Args:
        recording: Which story.
        states: About how many.
        seed: Draws those that are not certain.
        jobs: Processes.
        out: Where it goes.
    """
    began = time.monotonic()
    entries = Log(recording.folder).entries
    planned, tally = plan(entries, states, seed, superblocks(recording.files.board)), Tally()
    share = -(-len(planned) // jobs)
    pieces = [planned[at : at + share] for at in range(0, len(planned), share)]
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        for part in pool.map(judge_all, [recording] * len(pieces), pieces):
            tally.merge(part)
    report = _report(tally, len(entries), seed, round(time.monotonic() - began, 1))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report | {"recording": str(recording.folder)}, indent=2) + "\n")
    return report


def _report(tally: Tally, entries: int, seed: int, seconds: float) -> dict[str, Any]:
    distinct = Counter(tally.keys.values())
    phases = {
        phase: {"states": count, "distinct": distinct[phase], "bad": tally.bad[phase]}
        for phase, count in tally.states.items()
    }
    return {
        "subject": client_subject(),
        "states": tally.states.total(),
        "distinct": len(tally.keys),
        "bad": tally.bad.total(),
        "entries": entries,
        "seed": seed,
        "seconds": seconds,
        "phases": phases,
        "kinds": dict(tally.kinds),
        "filesystem": dict(tally.filesystem),
        "record": dict(tally.record),
        "runs": dict(tally.runs),
        "notes": dict(tally.notes),
        "found": tally.found[:_TOLD],
    }


def table(report: dict[str, Any]) -> str:
    """For people."""
    lines = [f"{'phase':<16}{'states':>8}{'distinct':>10}{'bad':>6}"]
    rows = [*report["phases"].items(), ("all", report)]
    lines += [f"{phase:<16}{row['states']:>8}{row['distinct']:>10}{row['bad']:>6}" for phase, row in rows]
    lines.append(f"{report['entries']} entries, seed {report['seed']}, {report['seconds']} s")
    lines += [f"BAD at entry {bad['point']} ({bad['phase']}, {bad['kind']}): {bad['why']}" for bad in report["found"]]
    return "\n".join(lines)


def one(recording: Recording, told: dict[str, Any]) -> CrashVerdict:
    """Look at a state again, as the report tells it."""
    state = CrashState(told["point"], told["kind"], frozenset(told["lost"]), told["torn"], told["kept"], told["blind"])
    with Judge(recording) as judge:
        return judge.judge(state)


def main(recording: Recording, states: int, seed: int, jobs: int, out: Path) -> int:
    """Explore and print; 1 if a state is bad."""
    report = explore(recording, states, seed, jobs, out=out)
    sys.stdout.write(f"{table(report)}\nreport: {_shown(out)}\n")
    return 1 if report["bad"] else 0


def _shown(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
