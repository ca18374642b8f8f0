"""Tables of numbers, eight bytes each."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable
from itertools import islice
from typing import Final

_PIECE: Final = 1 << 13  # numbers that are objects at once; an object and its place in a list take 40 bytes


def sorted_table(numbers: Iterable[int]) -> array[int]:
    """Numbers from 0 to 2**64 - 1 in ascending order, sorted by pieces: the memory of two tables, not of objects."""
    rest = iter(numbers)
    pieces: list[array[int]] = []
    while piece := sorted(islice(rest, _PIECE)):
        pieces.append(array("Q", piece))
    return array("Q", heapq.merge(*pieces))
