"""Where a device holds the blocks of groups that it lacks (docs/blocks-format.md). Pure: sums and bytes in, places out.

CRC-32 finds, it proves nothing: what is put together here counts once it has the digest that was signed.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from twinslot.core.tables import sorted_table
from twinslot.image.wire_blocks import BLOCK_SIZE, SUM_SIZE

BLOCKS_MAX: Final = 1 << 18  # blocks that are looked for: 1 GiB of content; 12 bytes of memory each, once searchable
_NOWHERE, _ZERO, _FIRST = 0, 1, 2  # in the table of places; from _FIRST on: number of the base's block plus _FIRST
_ZERO_SUM: Final = zlib.crc32(bytes(BLOCK_SIZE))


def block_sums(content: bytes) -> bytes:
    """CRC-32 of each block of a group, filled up with zeros to its whole size by the caller."""
    view = memoryview(content)
    sums = array("I", (zlib.crc32(view[at : at + BLOCK_SIZE]) for at in range(0, len(view), BLOCK_SIZE)))
    return _little(sums).tobytes()


def numbers(data: bytes) -> array[int]:
    """A table of the file: four bytes each."""
    found = array("I")
    found.frombytes(data)
    return _little(found)


class BlockIndex:
    """Finds the blocks of some groups in a base that is shown to it once.

    First `add` every group, then `show` the base from front to back, then ask for `runs`.

    Args:
        group_blocks: Blocks of a whole group.
    """

    def __init__(self, group_blocks: int) -> None:
        self._blocks = group_blocks
        self._ranks: dict[int, int] = {}  # number of a group -> its rank among those that were added
        self._sums = array("I")
        self._places = array("I")
        self._keys = array("Q")

    @property
    def full(self) -> bool:
        """Nothing more can be added."""
        return len(self._sums) + self._blocks > BLOCKS_MAX

    def add(self, group: int, sums: bytes) -> None:
        """Look for the blocks of a group.

        Args:
            group: Its number.
            sums: Of all its blocks, in the order of the file.
        """
        assert len(sums) == self._blocks * SUM_SIZE
        self._ranks[group] = len(self._ranks)
        self._sums.extend(numbers(sums))

    def make_searchable(self) -> None:
        """Every group was added."""
        self._places = array("I", (_ZERO if each == _ZERO_SUM else _NOWHERE for each in self._sums))
        self._keys = sorted_table(each << 32 | at for at, each in enumerate(self._sums) if each != _ZERO_SUM)
        self._sums = array("I")

    def show(self, first: int, content: bytes) -> None:
        """Look at some blocks of the base.

        Args:
            first: The number of the first one.
            content: Their bytes; a block that is cut off at the end is not looked at.
        """
        view = memoryview(content)
        for number in range(len(view) // BLOCK_SIZE):
            found = zlib.crc32(view[number * BLOCK_SIZE : (number + 1) * BLOCK_SIZE])
            if found != _ZERO_SUM:
                self._found(found, first + number + _FIRST)

    def _found(self, found: int, place: int) -> None:
        """Each block is put into the table once: a base that repeats itself costs no more than another."""
        keys, low = self._keys, found << 32
        at = bisect_left(keys, low)
        while at < len(keys) and keys[at] >> 32 == found and not self._places[keys[at] & 0xFFFFFFFF]:
            self._places[keys[at] & 0xFFFFFFFF] = place
            at += 1

    def has(self, group: int) -> bool:
        """Whether every block of this group was found."""
        rank = self._ranks.get(group)
        return rank is not None and _NOWHERE not in self._places[rank * self._blocks : (rank + 1) * self._blocks]

    def runs(self, group: int) -> Iterator[tuple[int | None, int]]:
        """The group as runs of blocks: number of the first in the base, or None for zeros; and how many."""
        rank = self._ranks[group]
        places = self._places[rank * self._blocks : (rank + 1) * self._blocks]
        starts = [0, *(at + 1 for at, pair in enumerate(pairwise(places)) if not _follows(*pair)), len(places)]
        for start, end in pairwise(starts):
            yield (None if places[start] == _ZERO else places[start] - _FIRST), end - start


def _follows(one: int, other: int) -> bool:
    return one == other == _ZERO or (one >= _FIRST and other == one + 1)


def _little(table: array[int]) -> array[int]:
    """Between the machine's order of bytes and the file's; its own inverse."""
    if sys.byteorder == "big":
        table.byteswap()
    return table
