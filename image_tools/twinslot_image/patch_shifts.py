"""By how much each part of the base moved: learnt from references that were found on both sides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from twinslot.image.wire_patch import build_varints, from_signed
from twinslot_image.patch_path import Stretch
from twinslot_image.patch_references import WHOLE, Numbers, References

ONE_MORE = 2.0  # references that an interval of its own must put right: what it costs, in what a wrong one costs
SAMPLES_MAX = 1 << 20  # of a whole content: 24 bytes each, and some five times that while they are sorted
_FEW = 1 << 12
_ODD = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, Knuth, TAOCP 3, section 6.4
_SHIFT_MAX = 1 << 40  # bytes; more is no move


@dataclass(frozen=True, slots=True)
class Samples:
    """Old addresses, by how much each moved, and how many references say so."""

    targets: Numbers
    shifts: Numbers
    counts: Numbers

    @staticmethod
    def of(targets: Numbers, shifts: Numbers, counts: Numbers) -> Samples:
        """Each pair of address and shift once, sorted."""
        good = (targets >= 0) & (np.abs(shifts) < _SHIFT_MAX)
        targets, shifts, counts = targets[good], shifts[good], counts[good]
        order = np.lexsort((shifts, targets))
        targets, shifts, counts = targets[order], shifts[order], counts[order]
        if not len(targets):
            return Samples(targets, shifts, counts)
        first = np.flatnonzero(np.concatenate(([True], (np.diff(targets) != 0) | (np.diff(shifts) != 0))))
        return Samples(targets[first], shifts[first], np.add.reduceat(counts, first))

    @staticmethod
    def joined(parts: Sequence[Samples]) -> Samples:
        """Of several."""
        names = ("targets", "shifts", "counts")
        empty = np.empty(0, np.int64)
        return Samples.of(*(np.concatenate([empty, *(getattr(part, name) for part in parts)]) for name in names))

    def triples(self) -> Iterator[tuple[int, int, int]]:
        """Target, shift and count of each: a few at a time, since as numbers of Python they take six times as much."""
        columns = self.targets, self.shifts, self.counts
        for at in range(0, len(self.targets), _FEW):
            yield from zip(*(column[at : at + _FEW].tolist() for column in columns), strict=True)

    def thinned(self, level: int) -> Samples:
        """Those of about one address in 2^level, whichever side it was seen from: the same ones each time."""
        kept = (self.targets.astype(np.uint64) * np.uint64(_ODD) >> np.uint64(40)) & np.uint64((1 << level) - 1) == 0
        return Samples(self.targets[kept], self.shifts[kept], self.counts[kept])


class Sampling:
    """Samples of a whole content; not more than `SAMPLES_MAX` are kept: of ever fewer addresses, if need be."""

    def __init__(self) -> None:
        self._joined, self._waiting, self._level = Samples.joined([]), list[Samples](), 0

    def add(self, samples: Samples) -> None:
        """Some more."""
        self._waiting.append(samples.thinned(self._level))
        if sum(len(one.targets) for one in self._waiting) > max(len(self._joined.targets), SAMPLES_MAX // 4):
            self.result()

    def result(self) -> Samples:
        """All of them."""
        self._joined, self._waiting = Samples.joined([self._joined, *self._waiting]), []
        while len(self._joined.targets) > SAMPLES_MAX:
            self._level += 1
            self._joined = self._joined.thinned(self._level)
        return self._joined


@dataclass(frozen=True, slots=True)
class ShiftMap:
    """Intervals of old addresses that follow each other, and how far each moved. `starts` has one more: the end."""

    starts: Numbers
    shifts: Numbers

    def encoded(self) -> bytes:
        """As a piece has it (docs/patch-format.md section 5)."""
        if not len(self.shifts):
            return b""
        starts, shifts = self.starts.tolist(), self.shifts.tolist()
        numbers = [starts[0]]
        for before, shift, (start, end) in zip([0, *shifts], shifts, pairwise(starts), strict=False):
            numbers += [from_signed(shift - before), end - start]
        return build_varints(numbers)

    def moved(self, targets: Numbers) -> Numbers:
        """New addresses for old ones; where nothing is known, the old one."""
        if not len(self.shifts):
            return targets
        index = np.searchsorted(self.starts, targets, side="right") - 1
        known = (index >= 0) & (index < len(self.shifts))
        return np.where(known, targets + self.shifts[np.clip(index, 0, len(self.shifts) - 1)], targets)


def pair_up(old: References, new: References, stretches: Sequence[Stretch]) -> Samples:
    """The references of stretches of additions whose words lead somewhere on both sides, in the same form.

    Those into the stretch's own source move with it, and say nothing.
    """
    if not stretches:
        return Samples.joined([])
    starts, ends, distances = (
        np.array([getattr(stretch, name) for stretch in stretches], np.int64) for name in ("start", "end", "distance")
    )
    there = np.arange(len(new.places))
    inside = np.searchsorted(starts, new.places[there], side="right") - 1
    good = (inside >= 0) & (new.places[there] + 4 <= ends[np.maximum(inside, 0)])
    there, inside = there[good], inside[good]
    sources = new.places[there] + distances[inside]
    here = np.minimum(np.searchsorted(old.places, sources), max(len(old.places) - 1, 0))
    same = (old.places[here] == sources) & (old.forms[here] == new.forms[there]) if len(old.places) else sources < 0
    there, inside, here = there[same], inside[same], here[same]
    into = old.targets[here] - old.biases[here] - distances[inside]
    out = (into < starts[inside]) | (into >= ends[inside]) | (old.forms[here] == WHOLE)
    there, here = there[out], here[out]
    return Samples.of(old.targets[here], new.targets[there] - old.targets[here], np.ones(len(here), np.int64))


def fit(samples: Samples, limit: int) -> ShiftMap:
    """The intervals that put most references right, each of which must put `ONE_MORE` right to be there.

    Args:
        samples: Sorted.
        limit: Intervals at most.
    """
    cost = ONE_MORE
    while True:
        nodes = _best_path(samples, cost)
        if len(nodes) <= limit:
            break
        cost *= 2
    if not nodes:
        return ShiftMap(np.empty(0, np.int64), np.empty(0, np.int64))
    starts = [start for start, _ in nodes] + [int(samples.targets[-1]) + 1]
    return ShiftMap(np.array(starts, np.int64), np.array([shift for _, shift in nodes], np.int64))


_Node = tuple[int, int, "_Node | None"]


def _best_path(samples: Samples, cost: float) -> list[tuple[int, int]]:
    """Viterbi's algorithm over shifts; a shift's score changes only where one of its samples stands."""
    scores: dict[int, tuple[float, _Node | None]] = {}
    best: tuple[float, _Node | None] = (0.0, None)
    before, last = best, -1
    for target, shift, count in samples.triples():
        if target != last:
            before, last = best, target
        score = scores.get(shift)
        if score is None or score[0] < before[0] - cost:
            score = before[0] - cost, (target, shift, before[1])
        scores[shift] = score = score[0] + count, score[1]
        if score[0] > best[0]:
            best = score
    nodes, node = list[tuple[int, int]](), best[1]
    while node is not None:
        nodes.append((node[0], node[1]))
        node = node[2]
    return nodes[::-1]
