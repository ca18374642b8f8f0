"""Finds the references in a part of an ELF file, by its kind: code and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from twinslot.image.projection import TABLES
from twinslot.image.projection_x86 import FIELD
from twinslot_image.patch_finders_arm import find_arm, find_thumb
from twinslot_image.patch_pages import ByteSource, byte_runs
from twinslot_image.patch_references import (
    ADR,
    BRANCH,
    CONDITION,
    LOW,
    NEXT,
    PAGE,
    WHOLE,
    Numbers,
    References,
    join_references,
    made_of,
    signed,
    words_of,
)
from twinslot_image.patch_sections import ARM, ARM64, INDEX, RELATIVE, THUMB, X86, Part

CHUNK = (
    1 << 18
)  # bytes of a part that are looked at together; the numbers made of them take up to a hundred times as much
AROUND = 8192  # bytes on both sides that are looked at with them: what ARM loads lies 4095 bytes from there at most
_AHEAD = 8  # words; as the device looks, `projection_code`
_POINTER_MAX = 1 << 40  # what a word of eight bytes may hold to be taken for an address in a program


def find_references(content: ByteSource, parts: Iterable[Part], pages: npt.NDArray[np.bool_]) -> Iterator[References]:
    """Those of some parts, which are sorted, whose words begin in some pages; a few at a time, sorted.

    Of a part `CHUNK` bytes are looked at together, with what stands around them, so that it may be of any size.
    """
    for part, start, end in _chunks(parts, list(byte_runs(pages))):
        first, last = max(part.start, start - AROUND), min(part.end, end + AROUND)
        found = _FINDERS.get(part.kind, _table)(content, replace(part, start=first, end=last))
        yield found.between(start, end)


def _chunks(parts: Iterable[Part], ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[Part, int, int]]:
    at = 0
    for part in parts:
        while at < len(ranges) and ranges[at][1] <= part.start:
            at += 1
        for index in range(at, len(ranges)):
            start, end = max(ranges[index][0], part.start), min(ranges[index][1], part.end)
            if start >= end:
                break
            yield from ((part, place, min(place + CHUNK, end)) for place in range(start, end, CHUNK))


def _adr(words: Numbers) -> Numbers:
    return signed(words >> 3 & 0x1FFFFC | words >> 29 & 3, 21)


def _arm64(content: ByteSource, part: Part) -> References:
    first, words = words_of(content, part, "<u4")
    places = first + 4 * np.arange(len(words), dtype=np.int64)
    found = []
    for form, wanted, mask, field, shift, bits in (
        (BRANCH, 0x14000000, 0x7C000000, 0x3FFFFFF, 0, 26),
        (CONDITION, 0x34000000, 0x7E000000, 0x7FFFF << 5, 5, 19),
        (CONDITION, 0x54000000, 0xFF000010, 0x7FFFF << 5, 5, 19),
    ):
        at = np.flatnonzero(words & mask == wanted)
        targets = places[at] + part.bias + 4 * signed(words[at] >> shift, bits)
        found.append(made_of(part, places[at], targets, words[at] & ~field, form))
    at = np.flatnonzero(words & 0x9F000000 == 0x10000000)
    found.append(made_of(part, places[at], places[at] + part.bias + _adr(words[at]), words[at] & 0x9F00001F, ADR))
    return join_references([*found, *_pages(part, words, places)])


def _pages(part: Part, words: Numbers, places: Numbers) -> list[References]:
    at = np.flatnonzero(words & 0x9F000000 == 0x90000000)
    page = (places[at] + part.bias & ~4095) + (_adr(words[at]) << 12)
    target, open_, seen = page.copy(), np.ones(len(at), np.bool_), np.zeros(len(at), np.bool_)
    lows: dict[int, list[Numbers]] = {scale: [] for scale in range(5)}
    where: dict[int, list[Numbers]] = {scale: [] for scale in range(5)}
    for ahead in range(1, _AHEAD + 1):
        other = words[np.minimum(at + ahead, len(words) - 1)]
        add = other & 0xFFC00000 == 0x91000000
        load = other & 0x3B000000 == 0x39000000
        scale = np.where(add, 0, np.where(other & 0x04800000 == 0x04800000, 4, other >> 30))
        hit = open_ & (at + ahead < len(words)) & (add | load) & (other >> 5 & 31 == words[at] & 31)
        address = page + ((other >> 10 & 4095) << scale)
        target = np.where(hit & ~seen, address, target)
        seen |= hit
        open_ &= ~(hit & (other & 31 == words[at] & 31))
        for size in range(5):
            chosen = np.flatnonzero(hit & (scale == size))
            lows[size].append(address[chosen])
            where[size].append(at[chosen] + ahead)
    found = [made_of(part, places[at], target, words[at] & 0x9F00001F, PAGE)]
    for size in range(5):
        index = np.concatenate(where[size])
        index, keep = np.unique(index, return_index=True)
        rests = words[index] & 0xFFC003FF
        found.append(made_of(part, places[index], np.concatenate(lows[size])[keep], rests, LOW + size))
    return found


def _x86(content: ByteSource, part: Part) -> References:
    data = content[part.start : part.end].tobytes()
    at = np.fromiter((match.end() for match in FIELD.finditer(data)), np.int64)
    fields = np.frombuffer(data, np.uint8)[at[:, None] + np.arange(4)].copy().view("<i4")[:, 0].astype(np.int64)
    places = part.start + at
    return made_of(part, places, places + part.bias + 4 + fields, np.zeros(len(at), np.int64), NEXT)


def _index(content: ByteSource, part: Part) -> References:
    first, words = words_of(content, part, "<u4")
    at = np.flatnonzero(words >> 30 == 1)
    places = first + 4 * at
    return made_of(part, places, places + part.bias + words[at] - (1 << 31), np.zeros(len(at), np.int64), NEXT)


def _relative(content: ByteSource, part: Part) -> References:
    first, words = words_of(content, part, "<i4")
    at = np.flatnonzero(words < 0)
    places = first + 4 * at
    return made_of(part, places, places + part.bias + words[at], np.zeros(len(at), np.int64), WHOLE)


def _table(content: ByteSource, part: Part) -> References:
    table = TABLES[part.kind]
    first, words = words_of(content, part, "<i8" if table.size == 8 else "<i4", table.size)
    entry = ((first - part.origin) // table.size + np.arange(len(words))) % table.entry
    at = np.flatnonzero(np.isin(entry, table.members) & (words != 0) & (np.abs(words) < _POINTER_MAX))
    return made_of(part, first + table.size * at, words[at] + part.bias, np.zeros(len(at), np.int64), WHOLE)


_FINDERS: Final[dict[int, Callable[[ByteSource, Part], References]]] = {
    ARM64: _arm64,
    ARM: find_arm,
    THUMB: find_thumb,
    X86: _x86,
    RELATIVE: _relative,
    INDEX: _index,
}
