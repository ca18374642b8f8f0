"""Finds, by content and at any offset, where new bytes could come from in the old payload."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from twinslot_image.patch_pages import PAGE, Bytes, ByteSource, Hashes, read_blocks

WINDOW = 16  # bytes that are hashed; a power of two
_BATCH = 1 << 20  # bytes hashed at once
INDEXED_MAX = 16 * 1024 * 1024 * 1024  # bytes; 2^32 offsets of four bytes
_VOTES_MIN = 6  # positions of a page that must agree on a distance
_BEST_OF_PAGE = 12  # distances
_ODD = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, Knuth, TAOCP 3, section 6.4
_MASK = 2**64 - 1


def rolling_hashes(data: Bytes) -> Hashes:
    """A hash of the `WINDOW` bytes from each position, in steps of doubling: h(2k) = h(k) * m^k + h(k)[k:]."""
    hashes, factor, width = data.astype(np.uint64) + np.uint64(1), _ODD, 1
    while width < WINDOW:
        hashes = hashes[:-width] * np.uint64(factor) + hashes[width:]
        factor, width = factor * factor & _MASK, width * 2
    hashes ^= hashes >> np.uint64(31)
    hashes *= np.uint64(0xBF58476D1CE4E5B9)  # splitmix64's finalizer
    hashes ^= hashes >> np.uint64(29)
    return hashes


class Index:
    """A table from hashes to offsets of the old payload, in two files so that processes share it.

    One offset for each hash: of several the lowest. 6 bytes for each entry.
    """

    def __init__(self, path: Path, bits: int, *, create: bool = False) -> None:
        self._bits = bits
        self._offsets: npt.NDArray[np.uint32] = _table(Path(f"{path}.offsets"), np.uint32, 1 << bits, create)
        self._checks: npt.NDArray[np.uint16] = _table(Path(f"{path}.checks"), np.uint16, 1 << bits, create)

    def fill(self, file: Path, spans: Iterable[tuple[int, int]], stride: int) -> None:
        """Take in every `stride`-th position of the spans, which ascend."""
        for start, end in spans:
            for at, data in read_blocks(file, start, min(end, INDEXED_MAX), _BATCH, WINDOW - 1):
                if len(data) < WINDOW:
                    continue
                slots, checks = self._place(rolling_hashes(data)[::stride])
                free = np.flatnonzero(self._checks[slots] == 0)[::-1]  # so that the lowest offset is written last
                self._offsets[slots[free]] = (at + free * stride) // 4
                self._checks[slots[free]] = checks[free]

    def look_up(self, hashes: Hashes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """(positions that were found, the offset for each); about one in 60,000 is wrong."""
        slots, checks = self._place(hashes)
        found = np.flatnonzero(self._checks[slots] == checks)
        return found, self._offsets[slots[found]].astype(np.int64) * 4

    def _place(self, hashes: Hashes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint16]]:
        slots = (hashes >> np.uint64(64 - self._bits)).astype(np.int64)
        return slots, (hashes & np.uint64(0xFFFF)).astype(np.uint16) | np.uint16(1)


def _table(path: Path, kind: type[np.unsignedinteger[Any]], entries: int, create: bool) -> Any:
    return np.memmap(path, kind, "w+" if create else "r", shape=(entries,))


def candidates(new: ByteSource, span: tuple[int, int], indexes: Sequence[Index], limit: int) -> list[int]:
    """The distances, source minus place, that most positions of the span agree on; best first, at most `limit`."""
    start, end = span
    part = new[start:end]
    if len(part) < WINDOW:
        return []
    hashes, votes = rolling_hashes(part), dict[int, int]()
    for index in indexes:
        at, offsets = index.look_up(hashes)
        distances = offsets - at - start
        pages = np.searchsorted(at, np.arange(0, end - start + PAGE, PAGE))
        for low, high in zip(pages[:-1].tolist(), pages[1:].tolist(), strict=True):
            _count(distances[low:high], votes)
    return sorted(votes, key=lambda distance: (-votes[distance], distance))[:limit]


def _count(distances: npt.NDArray[np.int64], votes: dict[int, int]) -> None:
    values, counts = np.unique(distances, return_counts=True)
    enough = counts >= _VOTES_MIN
    values, counts = values[enough], counts[enough]
    best = np.argsort(-counts, kind="stable")[:_BEST_OF_PAGE]
    for value, count in zip(values[best].tolist(), counts[best].tolist(), strict=True):
        votes[value] = votes.get(value, 0) + count
