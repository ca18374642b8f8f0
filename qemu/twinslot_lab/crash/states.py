"""Which states a power cut could leave behind, at every point of a log.

Rules: an SD write is durable once answered, and the one in flight is torn after some 512-byte sector. What virtio wrote
since the last flush is lost all together, one by one, or in some subset; one of the writes may be torn. Beside them, a
few in which the environment is lost as well: then only the slots themselves say which of them is whole.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from twinslot_lab.crash.log import Drive, DriveOp, Entry

SECTOR: Final = 512  # bytes; the SD card's block, and the smallest unit that virtio-blk writes whole
BLIND: Final = "environment lost"  # a kind of state
_BLIND_SHARE: Final = 8  # one such state for so many others
PAGE: Final = 4096  # bytes; what flash writes at once


@dataclass(frozen=True, slots=True)
class CrashState:
    """What is on both drives when the power is back.

    Attributes:
        point: The entries before this one were answered.
        kind: How it came about; for the report.
        lost: Numbers of the disk's entries that left nothing behind.
        torn: Number of the entry of which only the front arrived; -1: none.
        kept: Bytes of it that arrived.
        blind: Both copies of the environment were lost as well, so that nothing says which slot is whole.
    """

    point: int
    kind: str
    lost: frozenset[int] = field(default_factory=frozenset)
    torn: int = -1
    kept: int = 0
    blind: bool = False

    def arrived(self, entry: Entry) -> int:
        """Bytes of an entry before the point that are there; FUA writes and the card's are never lost."""
        if entry.number in self.lost:
            return 0
        return self.kept if entry.number == self.torn else entry.length


def unflushed(entries: Iterable[Entry]) -> Iterator[tuple[int, list[Entry]]]:
    """For each point of the log, the disk's writes that a cut may lose. The list is reused."""
    pending: list[Entry] = []
    point = -1
    for point, entry in enumerate(entries):
        yield point, pending
        if entry.drive is Drive.DISK and entry.op is DriveOp.FLUSH:
            pending.clear()
        elif entry.drive is Drive.DISK and not entry.fua:
            pending.append(entry)
    yield point + 1, pending


def plan(entries: Sequence[Entry], states: int, seed: int = 0, marks: Sequence[int] = ()) -> list[CrashState]:
    """About that many states, in the order of the log, none of them twice at its point.

    Every point with everything kept and with everything unflushed lost comes first, and every torn card write; the
    rest, a third at least, is drawn, as many for each point. If there are more of the first than asked for, those near
    card writes, where decisions fall, make up half of what is taken of them.

    Args:
        entries: The log.
        states: How many, beside those with the environment lost.
        seed: Draws.
        marks: Bytes of the disk that make a slot load. A write over one is torn at each sector, the environment lost.
    """
    choose = random.Random(f"crash states {seed}")
    certain = [state for point, pending in unflushed(entries) for state in _certain(point, pending, entries)]
    count = max(states - len(certain), states // 3)
    open_points = sum(bool(pending) for _, pending in unflushed(entries))
    share = 2 * count // max(open_points, 1) + 2  # small sets do not yield that many
    drawn = [state for point, pending in unflushed(entries) for state in _several(point, pending, choose, share)]
    picked = _draw(choose, drawn, count)
    if len(certain) > states:
        near, room = _near_the_card(entries), states - len(picked)
        picked += _draw(choose, [state for state in certain if state.point in near], room // 2)
        picked += _draw(choose, [state for state in certain if state.point not in near], states - len(picked))
    else:
        picked += certain
    blind = [replace(state, kind=BLIND, blind=True) for state in _draw(choose, picked, len(picked) // _BLIND_SHARE)]
    blind += [state for entry in entries for state in _over_a_mark(entry, marks)]
    return sorted(picked + blind, key=lambda state: state.point)


def _certain(point: int, pending: list[Entry], entries: Sequence[Entry]) -> Iterator[CrashState]:
    yield CrashState(point, "kept")
    if pending:
        yield CrashState(point, "all lost", frozenset(entry.number for entry in pending))
    last = entries[point - 1] if point else None
    if last is not None and last.drive is Drive.CARD and last.op is DriveOp.WRITE:
        for kept in range(SECTOR, last.length, SECTOR):
            yield CrashState(point, "card torn", torn=last.number, kept=kept)


def _over_a_mark(entry: Entry, marks: Sequence[int]) -> Iterator[CrashState]:
    inside = any(entry.offset <= mark < entry.offset + entry.length for mark in marks)
    if inside and entry.drive is Drive.DISK and entry.op is DriveOp.WRITE:
        for kept in range(SECTOR, min(entry.length, 2 * PAGE), SECTOR):
            yield CrashState(entry.number + 1, BLIND, torn=entry.number, kept=kept, blind=True)


def _several(point: int, pending: list[Entry], choose: random.Random, count: int) -> list[CrashState]:
    """That many different states of a point, or as many as there are."""
    found: dict[tuple[frozenset[int], int, int], CrashState] = {}
    for _ in range(count if pending else 0):
        state = choose.choice((_one_lost, _some_lost, _torn))(point, pending, choose)
        if state is not None and len(state.lost) < len(pending):
            found.setdefault((state.lost, state.torn, state.kept), state)
    return list(found.values())


def _one_lost(point: int, pending: list[Entry], choose: random.Random) -> CrashState:
    return CrashState(point, "one lost", frozenset({choose.choice(pending).number}))


def _some_lost(point: int, pending: list[Entry], choose: random.Random) -> CrashState | None:
    share = choose.random()
    lost = frozenset(entry.number for entry in pending if choose.random() < share)
    return CrashState(point, "some lost", lost) if lost else None


def _torn(point: int, pending: list[Entry], choose: random.Random) -> CrashState | None:
    """The last one, or another: what QEMU hands on as one write may have been several of the guest's."""
    torn = pending[-1] if choose.random() < 0.5 else choose.choice(pending)
    grain = choose.choice((SECTOR, PAGE))
    if torn.op is not DriveOp.WRITE or torn.length <= grain:
        return None
    others = choose.choice((frozenset[int](), frozenset(e.number for e in pending if choose.random() < 0.5)))
    return CrashState(
        point, "disk torn", others - {torn.number}, torn.number, choose.randrange(grain, torn.length, grain)
    )


def _near_the_card(entries: Sequence[Entry], reach: int = 8) -> set[int]:
    """Points within a few entries of a write to the card."""
    cards = (entry.number for entry in entries if entry.drive is Drive.CARD and entry.op is DriveOp.WRITE)
    return {near for at in cards for near in range(at - reach, at + reach + 2)}


def _draw(choose: random.Random, states: list[CrashState], count: int) -> list[CrashState]:
    return choose.sample(states, min(max(count, 0), len(states)))
