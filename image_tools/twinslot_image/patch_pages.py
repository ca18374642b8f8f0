"""Finds pages of the new payload that stand somewhere in the old one as they are. File systems move files by pages."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

PAGE = 4096  # bytes; the block of ext4 and erofs
_BLOCK = 4 * 1024 * 1024  # bytes hashed at once

Bytes = npt.NDArray[np.uint8]
Hashes = npt.NDArray[np.uint64]


class ByteSource(Protocol):
    """Bytes of a payload, as they are or with references made comparable."""

    def __getitem__(self, part: slice, /) -> Bytes:
        """A part, in bytes."""
        ...

    def __len__(self) -> int:
        """Bytes."""
        ...


class FileBytes:
    """A file, of which each part is read when it is asked for, and kept by nobody.

    Read, not mapped: what was once touched of a map stays, as memory of this process, so a map of an image takes as
    much as the image.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        self._size = os.fstat(self._file.fileno()).st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> Bytes:
        start, stop, _ = part.indices(self._size)
        return np.frombuffer(os.pread(self._file.fileno(), max(stop - start, 0), start), np.uint8)


def read_blocks(path: Path, start: int, end: int, block: int, more: int = 0) -> Iterator[tuple[int, Bytes]]:
    """(offset, content) of a part of a file, block by block, each with `more` bytes of the next one."""
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


def byte_runs(pages: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """(start, end) in bytes of each run of pages."""
    return ((first * PAGE, end * PAGE) for first, end in runs(pages))


def touches(pages: npt.NDArray[np.bool_], start: int, end: int) -> bool:
    """Whether bytes from `start` to `end` lie in one of some pages."""
    return bool(pages[start // PAGE : -(-end // PAGE)].any())


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

    def distances(self, pages: Iterable[int]) -> Iterator[tuple[int, int]]:
        """Each page that the old payload has, and bytes from it to its source, which change as seldom as possible."""
        if not len(self._old):
            return
        known, first, counts = np.unique(self._old, return_index=True, return_counts=True)
        place = np.minimum(np.searchsorted(known, self._new), len(known) - 1)
        where, single = first[place], ~self.hard & (counts[place] == 1)
        distance = 0
        for page in pages:
            if self.hard[page]:
                continue
            if not self._stands_at(page, page + distance):
                # Of many equal pages the one whose neighbours fit: the next page with a single source shows it.
                ahead = (near for near in range(page, min(page + 4, len(self._new))) if single[near])
                guesses = (int(where[near]) - near for near in ahead)
                fitting = (guess for guess in guesses if self._stands_at(page, page + guess))
                distance = next(fitting, int(where[page]) - page)
            yield page, distance * PAGE

    def _stands_at(self, page: int, source: int) -> bool:
        return 0 <= source < len(self._old) and bool(self._old[source] == self._new[page])


def as_words(data: Bytes) -> npt.NDArray[np.uint32]:
    """The same bytes as words, little endian; copied where they do not stand well."""
    return np.frombuffer(data.tobytes(), "<u4")
