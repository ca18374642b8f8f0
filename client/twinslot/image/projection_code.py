"""References in machine code, followed and made anew (docs/patch-format.md section 6.2). Pure.

Each function takes a run of the base's bytes and gives what they are expected to be at their new place, or None if
nothing changes. Candidates are found by one regular expression over one byte of each word, at the speed of C; the work
in Python is bounded by the words that may be references.
"""

from __future__ import annotations

import re
import struct
from array import array
from bisect import bisect_right
from collections.abc import Callable
from typing import Final, NamedTuple

NOWHERE: Final = -(1 << 63)  # the shift of an address of which nothing is known

# Where intervals of old addresses begin, and the shift of each; before the first and behind the last one: NOWHERE.
Shifts = tuple["array[int]", "array[int]"]


class RunAddresses(NamedTuple):
    """Addresses of a run: its first byte in the base and in the new content, and the op's source from, to its end."""

    source: int
    place: int
    low: int
    high: int


Code = Callable[[bytes, RunAddresses, Shifts], "bytes | None"]

# Arm Architecture Reference Manual for A-profile (DDI 0487), C4.1: the top byte of B, BL, B.cond, CBZ, CBNZ, ADR, ADRP.
_ARM64: Final = re.compile(rb"[\x10\x14-\x17\x30\x34\x35\x50\x54\x70\x90\x94-\x97\xb0\xb4\xb5\xd0\xf0]")
_NEGATIVE: Final = re.compile(rb"[\x80-\xff]")
_WORD: Final = struct.Struct("<I")
_AHEAD: Final = 8  # words behind an ADRP in which its low parts are looked for


def predict_arm64(run: bytes, run_at: RunAddresses, shifts: Shifts) -> bytes | None:
    """A64 code: branches by 26 and 19 bits, ADR, and ADRP with the low parts that follow it."""
    source, place, low, high = run_at
    starts, moved = shifts
    own = place - source
    words = struct.unpack(f"<{len(run) // 4}I", run)
    changes: dict[int, int] = {}
    for match in _ARM64.finditer(run[3::4]):
        i = match.start()
        word = words[i]
        if word & 0x7C000000 == 0x14000000:  # B, BL
            bits, at = 26, 0
        elif word & 0x1F000000 != 0x10000000:  # CBZ, CBNZ, B.cond; the last one has no bit 4
            if word & 0xFF000010 == 0x54000010:
                continue
            bits, at = 19, 5
        elif word >= 0x80000000:
            _predict_pages(words, i, run_at, shifts, changes)
            continue
        else:
            bits, at = 0, 0
        sign = 1 << bits >> 1
        value = ((word >> at & 2 * sign - 1 ^ sign) - sign) << 2 if bits else _adr_immediate(word)
        target = source + 4 * i + value
        if low <= target < high:
            continue
        shift = moved[bisect_right(starts, target)]
        if shift in (own, NOWHERE):
            continue
        if bits:
            mask = 2 * sign - 1 << at
            changes[i] = word & ~mask | ((value + shift - own) >> 2 << at) & mask
        else:
            changes[i] = _with_adr_immediate(word, value + shift - own)
    return _put(run, changes)


def _predict_pages(
    words: tuple[int, ...], i: int, run_at: RunAddresses, shifts: Shifts, changes: dict[int, int]
) -> None:
    """An ADRP and the low parts of what it points into: ADD, or LDR and STR with an unsigned offset."""
    source, place, low, high = run_at
    starts, moved = shifts
    word, own = words[i], place - source
    register, page = word & 31, (source + 4 * i & ~4095) + (_adr_immediate(word) << 12)
    target = shift = None
    for j in range(i + 1, min(i + 1 + _AHEAD, len(words))):
        other = words[j]
        if other >> 5 & 31 != register:
            continue
        if other & 0xFFC00000 == 0x91000000:
            scale = 0
        elif other & 0x3B000000 == 0x39000000:
            scale = 4 if other & 0x04800000 == 0x04800000 else other >> 30
        else:
            continue
        address = page + ((other >> 10 & 4095) << scale)
        step = own if low <= address < high else moved[bisect_right(starts, address)]
        if target is None:
            target, shift = address, step
        if step != NOWHERE and step & 4095:
            changes[j] = other & 0xFFC003FF | (address + step & 4095) >> scale << 10
        if other & 31 == register:
            break
    if target is None or shift is None:
        target, shift = page, own if low <= page < high else moved[bisect_right(starts, page)]
    if shift != NOWHERE:
        changes[i] = _with_adr_immediate(word, (target + shift >> 12) - (place + 4 * i >> 12))


def _adr_immediate(word: int) -> int:
    return ((word >> 3 & 0x1FFFFC | word >> 29 & 3) ^ 0x100000) - 0x100000


def _with_adr_immediate(word: int, value: int) -> int:
    return word & 0x9F00001F | (value & 0x1FFFFC) << 3 | (value & 3) << 29


def predict_relative(run: bytes, run_at: RunAddresses, shifts: Shifts) -> bytes | None:
    """Words below zero that count from their own place: how `.eh_frame` points back to code."""
    source, place, low, high = run_at
    starts, moved = shifts
    own = place - source
    words = struct.unpack(f"<{len(run) // 4}i", run)
    changes: dict[int, int] = {}
    for match in _NEGATIVE.finditer(run[3::4]):
        i = match.start()
        target = source + 4 * i + words[i]
        shift = moved[bisect_right(starts, target)]
        if shift != NOWHERE and not low <= target < high:
            changes[i] = words[i] + shift - own & 0xFFFFFFFF
    return _put(run, changes)


def _put(run: bytes, changes: dict[int, int]) -> bytes | None:
    if not changes:
        return None
    out, put = bytearray(run), _WORD.pack_into
    for i, word in changes.items():
        put(out, 4 * i, word)
    return bytes(out)
