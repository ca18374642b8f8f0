"""Sets of groups as bits: the lowest bit of the first byte stands for the first group."""

from __future__ import annotations

from collections.abc import Callable, Iterator


def bits_where(count: int, chosen: Callable[[int], bool]) -> bytes:
    """The set of those below `count` that are chosen; empty bytes when none is."""
    bits = bytearray((count + 7) // 8)
    for index in range(count):
        if chosen(index):
            bits[index >> 3] |= 1 << (index & 7)
    return bytes(bits) if any(bits) else b""


def ones(bits: bytes, first: int = 0) -> Iterator[int]:
    """The members from `first` on, in ascending order."""
    for at in range(first >> 3, len(bits)):
        byte = bits[at]
        while byte:
            lowest = byte & -byte
            byte ^= lowest
            index = at * 8 + lowest.bit_length() - 1
            if index >= first:
                yield index


def has(bits: bytes, index: int) -> bool:
    """Whether the set holds this one."""
    return index >> 3 < len(bits) and bool(bits[index >> 3] >> (index & 7) & 1)
