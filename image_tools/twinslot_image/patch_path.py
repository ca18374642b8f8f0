"""Chooses for every eight bytes where they come from: the cheapest path through the candidates (Viterbi's algorithm).

Costs are quarter bits. What a word costs as a residual is learnt from a first pass: differences that come often, such
as those of addresses that moved together, are cheap.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twinslot.image.patch import Op
from twinslot_image.patch_pages import ByteSource, as_words

BLOCK = 8  # bytes decided together: two instructions
BATCH = 32  # spans that walk together; bounds the memory
LITERAL = 12 * 4  # of one word, which may repeat what it replaces; measured on Debian's arm64 programs, as all of these
LITERAL_ZERO = 3 * 4
SWITCH = 32 * 4  # one op and one jump
UNKNOWN = 26 * 4  # a residual word that came at most twice
FIRST_PASS = 14 * 4  # any residual word, before anything is known
_COMMON = 4 * 4  # above the entropy, since the words do not come in the best order
_HASH_BITS = 18
_NEVER = 10**6

Costs = npt.NDArray[np.int32]
Spans = Sequence[tuple[int, int]]


Pair = tuple[ByteSource, ByteSource]  # of the base and of the new content


@dataclass(frozen=True, slots=True)
class Stretch:
    """Bytes from `start` to `end` of the new payload by one op; `distance` to the source for COPY and ADD."""

    start: int
    end: int
    op: Op
    distance: int = 0


@dataclass(frozen=True, slots=True)
class GroupRecipe:
    """One changed group: where it starts, how long it is, and the stretches that fill it."""

    start: int
    length: int
    stretches: tuple[Stretch, ...]


def flat_costs() -> Costs:
    """What residual words cost before anything was counted."""
    return np.full(1 << _HASH_BITS, FIRST_PASS, np.int32)


def no_counts() -> npt.NDArray[np.int64]:
    """Nothing counted yet."""
    return np.zeros(1 << _HASH_BITS, np.int64)


def count_words(old: ByteSource, new: ByteSource, stretches: Sequence[Stretch]) -> npt.NDArray[np.int64]:
    """How often each residual word comes, by its hash."""
    counts = no_counts()
    for stretch in stretches:
        if stretch.op is Op.ADD:
            words = residual_words(old, new, stretch)
            counts += np.bincount(_hash(words[words != 0]), minlength=len(counts))
    return counts


def learn_costs(counts: npt.NDArray[np.int64]) -> Costs:
    """What each residual word costs, by how often it came."""
    total = max(int(counts.sum()), 1)
    bits = -np.log2(np.maximum(counts, 1) / total) * 4 + _COMMON
    return np.where(counts > 2, np.minimum(bits, UNKNOWN), UNKNOWN).astype(np.int32)


def residual_words(old: ByteSource, new: ByteSource, stretch: Stretch) -> npt.NDArray[np.uint32]:
    """New words minus old ones, modulo 2^32; the length is a multiple of four."""
    source = old[stretch.start + stretch.distance : stretch.end + stretch.distance]
    return as_words(new[stretch.start : stretch.end]) - as_words(source)


def choose(
    old: ByteSource,
    new: ByteSource,
    spans: Spans,
    distances: Sequence[list[int]],
    costs: Costs,
    followed: Pair | None = None,
) -> list[list[Stretch]]:
    """The cheapest stretches for each span, whose length is a multiple of `BLOCK`.

    Args:
        old: The base.
        new: The new content.
        spans: Of the new content.
        distances: Candidates for each span.
        costs: Of residual words.
        followed: Both with each reference as what it leads to; a word costs what it costs there, if that is less.
    """
    out: list[list[Stretch]] = [[] for _ in spans]
    order = sorted(range(len(spans)), key=lambda i: (len(distances[i]), spans[i][1] - spans[i][0], i))
    pairs = [(old, new)] if followed is None else [(old, new), followed]
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        paths = _walk(_cost_table(pairs, [spans[i] for i in chosen], [distances[i] for i in chosen], costs))
        for column, i in enumerate(chosen):
            blocks = (spans[i][1] - spans[i][0]) // BLOCK
            out[i] = list(_stretches(old, new, spans[i], distances[i], paths[:blocks, column]))
    return out


def _cost_table(pairs: Sequence[Pair], spans: Spans, distances: Sequence[list[int]], costs: Costs) -> Costs:
    """[block, span, source]; source 0 is literal. Beyond the end of a span everything is free."""
    blocks, size = max(end - start for start, end in spans) // BLOCK, len(pairs[0][0])
    table = np.full((blocks, len(spans), max(map(len, distances)) + 1), _NEVER, np.int32)
    for column, (start, end) in enumerate(spans):
        words, used = [as_words(new[start:end]) for _, new in pairs], (end - start) // BLOCK
        table[:used, column, 0] = np.where(words[0] == 0, LITERAL_ZERO, LITERAL).reshape(used, -1).sum(1)
        for row, distance in enumerate(distances[column], 1):
            first = max(0, -(-(-start - distance) // BLOCK))  # blocks before the base begins or after it ends
            last = max(first, min(used, (size - start - distance) // BLOCK))  # have no source
            inside = slice(first * BLOCK, last * BLOCK)
            source = slice(start + distance + inside.start, start + distance + inside.stop)
            here = slice(inside.start // 4, inside.stop // 4)
            ways = (word[here] - as_words(old[source]) for word, (old, _) in zip(words, pairs, strict=True))
            cost = _least(ways, costs)
            table[first:last, column, row] = cost.reshape(last - first, -1).sum(1)
        table[used:, column, :] = 0
    return table


def _least(ways: Iterator[npt.NDArray[np.uint32]], costs: Costs) -> Costs:
    """What each word costs by the cheapest of some ways, each of which gives a residual."""
    residual = next(ways)
    cost = np.ones(len(residual), np.int32)
    changed = np.flatnonzero(residual)
    cost[changed] = costs[_hash(residual[changed])]
    for other in ways:
        there = other[changed]
        cost[changed] = np.minimum(cost[changed], np.where(there == 0, 1, costs[_hash(there)]))
    return cost


def _walk(table: Costs) -> npt.NDArray[np.int16]:
    """The cheapest source for each [block, span]."""
    blocks, spans, _ = table.shape
    each = np.arange(spans)
    total, switched = table[0].copy(), np.zeros(table.shape, np.bool_)
    cheapest = np.zeros((blocks, spans), np.int16)
    for block in range(1, blocks):
        best = total.argmin(1)
        limit = (total[each, best] + SWITCH)[:, None]
        cheapest[block] = best
        np.greater(total, limit, out=switched[block])
        np.minimum(total, limit, out=total)
        total += table[block]
    path = np.empty((blocks, spans), np.int16)
    path[-1] = total.argmin(1)
    for block in range(blocks - 1, 0, -1):
        now = path[block]
        path[block - 1] = np.where(switched[block, each, now], cheapest[block], now)
    return path


def _stretches(
    old: ByteSource, new: ByteSource, span: tuple[int, int], distances: list[int], path: npt.NDArray[np.int16]
) -> Iterator[Stretch]:
    cuts = [0, *(np.flatnonzero(np.diff(path)) + 1).tolist(), len(path)]
    for first, last in itertools.pairwise(cuts):
        start, end, source = span[0] + first * BLOCK, span[0] + last * BLOCK, int(path[first])
        if source == 0:
            yield Stretch(start, end, Op.LITERAL if new[start:end].any() else Op.ZERO)
            continue
        distance = distances[source - 1]
        same = np.array_equal(new[start:end], old[start + distance : end + distance])
        yield Stretch(start, end, Op.COPY if same else Op.ADD, distance)


def _hash(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    return ((words * np.uint32(2654435761)) >> np.uint32(32 - _HASH_BITS)).astype(np.int64)
