"""Finds what moved as it is by less than a page: file systems with blocks of 1 or 2 KiB move files by these.

Without it all of such a file system would be searched byte by byte, though nothing of it has changed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from twinslot.image.patch import Op
from twinslot_image.patch_pages import ByteSource, Hashes, block_hashes
from twinslot_image.patch_path import Stretch

UNIT = 1024  # bytes; the smallest block of ext4
RUN_MIN = 8  # units in a row from one distance; fewer are left to the search, which sees more
_BATCH = 4096  # units hashed at once
Ranges = Sequence[tuple[int, int]]


def find_moved(old: ByteSource, new: ByteSource, orphans: Ranges, hard: Ranges) -> list[Stretch]:
    """Copies of at least `RUN_MIN` units, in the order of the new content.

    Args:
        old: The base.
        new: The new content.
        orphans: What of the base is nowhere in the new content, by whole pages.
        hard: What of the new content is nowhere in the base, by whole pages.
    """
    places, known = _hashed(old, orphans)
    if not len(places):
        return []
    known, first, counts = np.unique(known, return_index=True, return_counts=True)
    single = counts == 1
    found = list[Stretch]()
    for start, end in hard:
        if end - start >= RUN_MIN * UNIT:
            here, hashes = _hashed(new, [(start, end)])
            at = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
            sure = (known[at] == hashes) & single[at]
            if sure.any():
                distances = places[first[at]] - here
                found += _runs(old, new, here, _filled(distances, sure))
    return found


def without(ranges: Ranges, taken: Ranges) -> Iterator[tuple[int, int]]:
    """What is left of sorted ranges without others, which are sorted and lie in them."""
    rest = iter([*taken, (1 << 63, 1 << 63)])
    one = next(rest)
    for start, end in ranges:
        at = start
        while one[0] < end:
            if one[0] > at:
                yield at, one[0]
            at = one[1]
            one = next(rest)
        if at < end:
            yield at, end


def _hashed(content: ByteSource, ranges: Ranges) -> tuple[npt.NDArray[np.int64], Hashes]:
    places, hashes = [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
    for start, end in ranges:
        for at in range(start, end // UNIT * UNIT, _BATCH * UNIT):
            data = content[at : min(at + _BATCH * UNIT, end // UNIT * UNIT)]
            places.append(at + UNIT * np.arange(len(data) // UNIT, dtype=np.int64))
            hashes.append(block_hashes(data, UNIT))
    return np.concatenate(places), np.concatenate(hashes)


def _filled(distances: npt.NDArray[np.int64], sure: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Units of which nothing is known, or too much, are taken for neighbours of the last one that is sure."""
    index = np.where(sure, np.arange(len(sure)), 0)
    index = np.maximum.accumulate(index)
    index[: int(np.argmax(sure))] = int(np.argmax(sure))
    return distances[index]


def _runs(
    old: ByteSource, new: ByteSource, places: npt.NDArray[np.int64], distances: npt.NDArray[np.int64]
) -> Iterator[Stretch]:
    edges = [0, *(np.flatnonzero(np.diff(distances)) + 1).tolist(), len(distances)]
    for first, last in itertools.pairwise(edges):
        distance, start = int(distances[first]), int(places[first])
        start = max(start, -(distance // UNIT) * UNIT)  # not before the base begins
        end = min(int(places[last - 1]) + UNIT, (len(old) - distance) // UNIT * UNIT)
        if end - start < RUN_MIN * UNIT:
            continue
        equal = np.concatenate(([False], *_equal_units(old, new, start, end, distance), [False]))
        turns = np.flatnonzero(np.diff(equal.astype(np.int8)))
        for begin, stop in zip(turns[::2].tolist(), turns[1::2].tolist(), strict=True):
            if stop - begin >= RUN_MIN:
                yield Stretch(start + begin * UNIT, start + stop * UNIT, Op.COPY, distance)


def _equal_units(
    old: ByteSource, new: ByteSource, start: int, end: int, distance: int
) -> Iterator[npt.NDArray[np.bool_]]:
    for at in range(start, end, _BATCH * UNIT):
        stop = min(at + _BATCH * UNIT, end)
        yield (new[at:stop] == old[at + distance : stop + distance]).reshape(-1, UNIT).all(1)
