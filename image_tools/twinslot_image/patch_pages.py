"""Finds pages of the new payload that stand somewhere in the old one as they are. File systems move files by pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

PAGE = 4096  # bytes; the block of ext4 and erofs
_BLOCK = 4 * 1024 * 1024  # bytes hashed at once

Bytes = npt.NDArray[np.uint8]
Hashes = npt.NDArray[np.uint64]


def map_file(path: Path) -> Bytes:
    """A file as an array that is read when it is touched."""
    return np.memmap(path, dtype=np.uint8, mode="r")


def read_blocks(path: Path, start: int, end: int, block: int, more: int = 0) -> Iterator[tuple[int, Bytes]]:
    """(offset, content) of a part of a file, block by block, each with `more` bytes of the next one.

    Read, not mapped: a map of the whole file would count as memory of this process.
    """
    with path.open("rb") as file:
        for at in range(start, end, block):
            file.seek(at)
            yield at, np.frombuffer(file.read(min(block + more, end - at)), np.uint8)


def block_hashes(data: Bytes, size: int) -> Hashes:
    """64 bits for each block of `size` bytes, which fill the data; 0 for one of zeros."""
    weights = np.random.default_rng(0).integers(0, 2**63, size // 8, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    mixed = np.frombuffer(data, "<u8").reshape(-1, size // 8)
    mixed = (mixed ^ (mixed >> np.uint64(29))) * weights
    mixed ^= mixed >> np.uint64(32)
    found: Hashes = mixed.sum(1, dtype=np.uint64)
    return found


def hash_pages(path: Path) -> Hashes:
    """64 bits for each whole page, 0 for one of zeros. No digest: whoever trusts a match hashes the result."""
    count = path.stat().st_size // PAGE
    out = np.empty(count, np.uint64)
    for at, data in read_blocks(path, 0, count * PAGE, _BLOCK):
        out[at // PAGE : (at + len(data)) // PAGE] = block_hashes(data, PAGE)
    return out


def runs(mask: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """(first, end) of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], mask.astype(np.int8), [0]))))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


class PageMap:
    """Where each page of the new payload stands in the old one, and which pages are in one of the two only."""

    def __init__(self, old: Path, new: Path) -> None:
        self._old, self._new = hash_pages(old), hash_pages(new)
        self.filled = int(np.count_nonzero(self._new))  # pages of the new payload that are not zeros
        self.hard: npt.NDArray[np.bool_] = ~np.isin(self._new, self._old)
        self.orphans: npt.NDArray[np.bool_] = ~np.isin(self._old, self._new)

    def is_zero(self, page: int) -> bool:
        """Whether a page of the new payload is all zeros."""
        return bool(self._new[page] == 0)

    def distances(self, pages: Sequence[int]) -> dict[int, int]:
        """For each page that the old payload has: bytes from it to its source. Changes as seldom as possible."""
        if not len(self._old):
            return {}
        known, first, counts = np.unique(self._old, return_index=True, return_counts=True)
        place = np.minimum(np.searchsorted(known, self._new), len(known) - 1)
        where, single = first[place].tolist(), (~self.hard & (counts[place] == 1)).tolist()
        found: dict[int, int] = {}
        distance = 0
        for page in pages:
            if self.hard[page]:
                continue
            if not self._stands_at(page, page + distance):
                # Of many equal pages the one whose neighbours fit: the next page with a single source shows it.
                ahead = (near for near in range(page, min(page + 4, len(self._new))) if single[near])
                guesses = (where[near] - near for near in ahead)
                fitting = (guess for guess in guesses if self._stands_at(page, page + guess))
                distance = next(fitting, where[page] - page)
            found[page] = distance * PAGE
        return found

    def _stands_at(self, page: int, source: int) -> bool:
        return 0 <= source < len(self._old) and bool(self._old[source] == self._new[page])


def as_words(data: Bytes) -> npt.NDArray[np.uint32]:
    """The same bytes as words, little endian; copied where they do not stand well."""
    return np.frombuffer(data.tobytes(), "<u4")
