"""The figures that the project set itself, held against a report. Each goal is a bound on one number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

MIB: Final = 1 << 20
_PATCHES: Final = ("security", "onefile", "erofs")  # works for which a patch is made
Report = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Goal:
    """One bound.

    Attributes:
        what: What is measured.
        bound: The largest number that is good enough.
        unit: Of both numbers, for people.
        find: The number in a report; None: not measured.
        scale: What one unit is.
    """

    what: str
    bound: Callable[[Report], float | None]
    unit: str
    find: Callable[[Report], float | None]
    scale: float = 1.0


def figure(report: Report, work: str, name: str, peer: str = "twinslot") -> float | None:
    """The median of one figure of one row."""
    for row in report["rows"]:
        if row["work"] == work and row["peer"] == peer and name in row["figures"]:
            return float(row["figures"][name]["median"])
    return None


def judge(report: Report) -> list[dict[str, Any]]:
    """All goals with what was found; `met` is None where something was not measured."""
    told: list[dict[str, Any]] = []
    for goal in GOALS:
        bound, found = goal.bound(report), goal.find(report)
        told.append(
            {
                "what": goal.what,
                "unit": goal.unit,
                "met": None if bound is None or found is None else found <= bound,
                "bound": None if bound is None else bound / goal.scale,
                "found": None if found is None else found / goal.scale,
            }
        )
    return told


def _fixed(bound: float) -> Callable[[Report], float | None]:
    return lambda _: bound


def _row(work: str, name: str, peer: str = "twinslot") -> Callable[[Report], float | None]:
    return lambda report: figure(report, work, name, peer)


def _times(factor: float, find: Callable[[Report], float | None]) -> Callable[[Report], float | None]:
    def scaled(report: Report) -> float | None:
        found = find(report)
        return None if found is None else factor * found

    return scaled


def _without_front(report: Report) -> float | None:
    """Bytes fetched for the one-file change, but the documents that say what it is and who signed it."""
    for row in report["rows"]:
        if row["work"] == "onefile" and row["peer"] == "twinslot" and row["figures"]:
            return float(row["figures"]["fetched"]["median"]) - float(row["front"])
    return None


def _writes_over_changes(report: Report) -> float | None:
    written = figure(report, "security", "written")
    changed = report["pairs"]["security"]["differs"]["4096"]
    return None if written is None else written / changed


def _largest(name: str) -> Callable[[Report], float | None]:
    """The largest median of a figure over all that Twinslot did."""

    def find(report: Report) -> float | None:
        found = [row["figures"] for row in report["rows"] if row["peer"] == "twinslot" and row["figures"]]
        return max((float(figures[name]["median"]) for figures in found), default=None)

    return find


def _creation(name: str) -> Callable[[Report], float | None]:
    """The largest figure of making a patch."""

    def find(report: Report) -> float | None:
        ours = [row for row in report["rows"] if row["peer"] == "twinslot" and row.get("made")]
        return max((float(row["made"][name]) for row in ours if row["work"] in _PATCHES), default=None)

    return find


def _start(report: Report) -> float | None:
    more = report["start"]["more"]
    return float(more["cold"]["median"]) if more else None


_BYTES: Final = ("bytes, security update", "bytes, one file changed, without the manifest", "bytes, unknown base")
_MOVING: Final = "private memory while data moves"
_EVER: Final = "private memory at any moment"
GOALS: Final = (
    Goal(_BYTES[0], _fixed(1_300_000), "kB", _row("security", "fetched"), 1e3),
    Goal(
        f"{_BYTES[0]}: 0.55 x xdelta3",
        _times(0.55, _row("security", "fetched", "xdelta3")),
        "kB",
        _row("security", "fetched"),
        1e3,
    ),
    Goal(
        f"{_BYTES[0]}: ostree (an aim)", _row("security", "fetched", "ostree"), "kB", _row("security", "fetched"), 1e3
    ),
    Goal(_BYTES[1], _fixed(1000), "kB", _without_front, 1e3),
    Goal(f"{_BYTES[2]}: casync", _row("unknown-base", "fetched", "casync"), "kB", _row("unknown-base", "fetched"), 1e3),
    Goal(f"{_BYTES[2]}: zchunk", _row("unknown-base", "fetched", "zchunk"), "kB", _row("unknown-base", "fetched"), 1e3),
    Goal("full install, wall over the floor", _fixed(1.3), "x", _row("full-file", "ratio")),
    Goal("over HTTP, wall over the floor", _fixed(1.7), "x", _row("full-http", "ratio")),
    Goal(f"{_MOVING}, from a file", _fixed(40 * MIB), "MiB", _row("full-file", "moving"), MIB),
    Goal(f"{_MOVING}, from wherever it takes most", _fixed(40 * MIB), "MiB", _largest("moving"), MIB),
    Goal(f"{_EVER}, from a file", _fixed(50 * MIB), "MiB", _row("full-file", "memory"), MIB),
    Goal(f"{_EVER}, from wherever it takes most", _fixed(50 * MIB), "MiB", _largest("memory"), MIB),
    Goal("device writes over bytes that changed", _fixed(1.1), "x", _writes_over_changes),
    Goal("making the slowest patch, wall", _fixed(60), "s", _creation("wall")),
    Goal("making the largest patch, memory", _fixed(1024 * MIB), "MiB", _creation("memory"), MIB),
    Goal("`twinslot status`, cold, more than `python3 -c pass`", _fixed(0.150), "ms", _start, 1e-3),
)
