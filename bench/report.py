"""From measured rows to build/bench/report.json: medians, spread, and ratios within the run."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.goals import judge
from bench.pairs import Pair
from bench.run import BLOCK, changed

GROUP = 1 << 16
COMMIT = "BENCH_COMMIT"  # told by bench/debian13.sh, whose tree has no git
_LOOKS = 2  # fewer say nothing about a peak
Row = dict[str, Any]


def machine(root: Path) -> dict[str, Any]:
    """What it was measured on, and of which sources."""
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    return {
        "made": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": os.environ.get(COMMIT) or _commit(root),
        "cores": os.cpu_count(),
        "cpu": model.partition(":")[2].strip(),
        "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release()["PRETTY_NAME"],
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def _commit(root: Path) -> str:
    words = ["git", "-C", str(root), "rev-parse", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True).stdout.strip()


def make(
    rows: list[Row],
    pairs: Mapping[str, Pair],
    start: Mapping[str, Any],
    facts: Mapping[str, Any],
    *,
    quick: bool,
    rounds: int,
) -> dict[str, Any]:
    """The whole report.

    Args:
        rows: As `suite.run_contest` makes them.
        pairs: The images.
        start: As `cold.cold_start` says.
        facts: As `machine` says.
        quick: Small images: figures of a trial, not of the project.
        rounds: How many were interleaved.
    """
    told = {
        name: pair.facts | {"differs": {str(grain): changed(pair.old, pair.new, grain) for grain in (BLOCK, GROUP)}}
        for name, pair in pairs.items()
    }
    for row in rows:
        row["figures"] = figures(row, floor_of(rows, row["work"]))
    machine_now = dict(facts) | {"load_after": os.getloadavg()[0]}
    told_all: dict[str, Any] = {
        "quick": quick,
        "rounds": rounds,
        "machine": machine_now,
        "pairs": told,
        "rows": rows,
        "start": dict(start) | {"more": start_figures(start)},
    }
    return told_all | {"goals": judge(told_all)}


def floor_of(rows: Iterable[Row], work: str) -> Row | None:
    """The floor's row of a work, if it has one that worked."""
    return next((row for row in rows if row["work"] == work and row["peer"] == "floor" and good(row)), None)


def good(row: Row) -> list[Row]:
    """The rounds that ended well with a verified target."""
    return [one for one in row["rounds"] if one["status"] == 0 and one["verified"]]


def figures(row: Row, floor: Row | None) -> dict[str, Any]:
    """Median and spread of what a row measured; `ratio` is wall over the floor's wall of the same round."""
    rounds = good(row)
    if not rounds:
        return {}
    walls = {
        "wall": [one["wall"] for one in rounds],
        "cpu": [one["cpu"] for one in rounds],
        "memory": [one["memory"]["peak"] for one in rounds],
        "moving": [one["memory"]["moving"] for one in rounds],
        "sampler": [one["memory"]["cpu"] / one["wall"] for one in rounds],
        "fetched": [one["fetched"] for one in rounds],
        "requests": [one["wire"]["requests"] for one in rounds],
        "written": [one["written"] for one in rounds],
        "zeroed": [one["zeroed"] for one in rounds],
    }
    if all(one["memory"]["samples"] < _LOOKS for one in rounds):
        del walls["memory"], walls["moving"]
    if floor is not None:
        walls["ratio"] = ratios(row, floor)
    return {name: spread(values) for name, values in walls.items()}


def ratios(row: Row, floor: Row) -> list[float]:
    """Wall over the floor's of the same round; over the floor's median for who was measured another number of times."""
    rounds, floors = good(row), good(floor)
    if len(rounds) == len(floors):
        return [one["wall"] / other["wall"] for one, other in zip(rounds, floors, strict=True)]
    median = statistics.median(one["wall"] for one in floors)
    return [one["wall"] / median for one in rounds]


def spread(values: list[float]) -> dict[str, float]:
    """Median, smallest, largest."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "count": len(values)}


def start_figures(start: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Seconds that `status` takes more than an interpreter that does nothing, run by run."""
    return {
        kind: spread([status - nothing for status, nothing in zip(times["status"], times["pass"], strict=True)])
        for kind, times in start["seconds"].items()
    }
