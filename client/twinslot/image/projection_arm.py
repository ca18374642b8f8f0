"""References in 32-bit Arm code, followed and made anew (docs/patch-format.md section 6.2). Pure.

T32, A32, and the index by which exceptions find their handlers. As in `projection_code` the candidates are found by one
regular expression over one byte of each instruction, and the work in Python is bounded by those.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from twinslot.image.projection_code import NOWHERE, RunAddresses, Shifts

# Arm Architecture Reference Manual for A-profile (DDI 0487), F3.1: by the high bytes of two halves BL, BLX, B.W and
# Bcc.W, by that of one what may be ADD from PC; F4.1: by the top byte of a word B, BL and BLX, and what may be ADD.
THUMB_FIRST: Final = re.compile(rb"[\xf0-\xf7][\x80-\xff]|\x44")
_ARM: Final = re.compile(b"[" + bytes(top << 4 | low for top in range(16) for low in (10, 11)) + b"\xe0]")
_INDEX: Final = re.compile(rb"[\x40-\x7f]")
_HALVES: Final = struct.Struct("<HH")
_NUMBER: Final = struct.Struct("<i")
_PUT: Final = struct.Struct("<I")
BEHIND: Final = 16  # instructions in front of an ADD from PC in which the load of its register is looked for


def predict_thumb(run: bytes, run_at: RunAddresses, shifts: Shifts) -> bytes | None:
    """T32 code: long branches, and words that ADD takes from PC."""
    source, place, low, high = run_at
    starts, moved = shifts
    own, out = place - source, bytearray(run)
    halves = struct.unpack(f"<{len(run) // 2}H", run)
    changed = False
    for match in THUMB_FIRST.finditer(run[1::2]):
        i = match.start()
        first = halves[i]
        if first < 0x4500:
            if first & 0xFF78 == 0x4478:
                changed |= _predict_literal(find_thumb_literal(halves, i, source), 2 * i + 4, run, out, run_at, shifts)
            continue
        second = halves[i + 1]
        form = second & 0xD000
        value = thumb_branch(first, second)
        if form == 0x8000 and first & 0x380 == 0x380:
            continue
        here = source + 2 * i + 4
        if form == 0xC000:
            here &= ~3
        target = here + value
        if low <= target < high:
            continue
        shift = moved[bisect_right(starts, target)]
        if shift in (own, NOWHERE):
            continue
        there = place + 2 * i + 4
        if form == 0xC000:
            there &= ~3
        _HALVES.pack_into(out, 2 * i, *with_thumb_branch(first, second, target + shift - there))
        changed = True
    return bytes(out) if changed else None


def thumb_branch(first: int, second: int) -> int:
    """How far a branch of two halves leads from its own address plus four, in bytes."""
    sign, one, two = first >> 10 & 1, second >> 13 & 1, second >> 11 & 1
    if second & 0xD000 == 0x8000:  # conditional: S, J2, J1, 6 and 11 bits
        return (two << 19 | one << 18 | (first & 0x3F) << 12 | (second & 0x7FF) << 1) - (sign << 20)
    one, two = one ^ sign ^ 1, two ^ sign ^ 1  # S, I1, I2, 10 and 11 bits
    return (one << 23 | two << 22 | (first & 0x3FF) << 12 | (second & 0x7FF) << 1) - (sign << 24)


def with_thumb_branch(first: int, second: int, value: int) -> tuple[int, int]:
    """The two halves of the same branch, by another distance."""
    if second & 0xD000 == 0x8000:
        sign, two, one = value >> 20 & 1, value >> 19 & 1, value >> 18 & 1
        first = first & 0xFBC0 | sign << 10 | value >> 12 & 0x3F
    else:
        sign = value >> 24 & 1
        one, two = value >> 23 & 1 ^ sign ^ 1, value >> 22 & 1 ^ sign ^ 1
        first = first & 0xF800 | sign << 10 | value >> 12 & 0x3FF
    return first, second & 0xD000 | one << 13 | two << 11 | value >> 1 & 0x7FF


def find_thumb_literal(halves: Sequence[int], i: int, source: int) -> int:
    """Where the word stands that an ADD from PC takes, in bytes of the run; below zero if none is found."""
    register = halves[i] & 7 | halves[i] >> 4 & 8
    for j in range(i - 1, max(i - 1 - BEHIND, -1), -1):
        word = halves[j]
        if word & 0xF800 == 0x4800 and word >> 8 & 7 == register:
            return (source + 2 * j + 4 & ~3) - source + 4 * (word & 255)
        if word == 0xF8DF and halves[j + 1] >> 12 == register:
            return (source + 2 * j + 4 & ~3) - source + (halves[j + 1] & 4095)
    return -1


def _predict_literal(at: int, counted: int, run: bytes, out: bytearray, run_at: RunAddresses, shifts: Shifts) -> bool:
    """The word at a place of the run counts from another one; whether it has changed."""
    source, place, low, high = run_at
    starts, moved = shifts
    if not 0 <= at <= len(run) - 4:
        return False
    value = _NUMBER.unpack_from(run, at)[0]
    target = source + counted + value
    shift = moved[bisect_right(starts, target)]
    if low <= target < high or shift in (place - source, NOWHERE):
        return False
    _PUT.pack_into(out, at, value + shift - place + source & 0xFFFFFFFF)
    return True


def predict_arm(run: bytes, run_at: RunAddresses, shifts: Shifts) -> bytes | None:
    """A32 code: branches, and words that ADD takes from PC."""
    source, place, low, high = run_at
    starts, moved = shifts
    own, out, changed = place - source, bytearray(run), False
    words = struct.unpack(f"<{len(run) // 4}I", run)
    for match in _ARM.finditer(run[3::4]):
        i = match.start()
        word = words[i]
        if word & 0x0E000000 != 0x0A000000:
            if word & 0x0FFF0FF0 == 0x008F0000:
                changed |= _predict_literal(find_arm_literal(words, i), 4 * i + 8, run, out, run_at, shifts)
            continue
        target = source + 4 * i + 8 + (((word & 0xFFFFFF ^ 0x800000) - 0x800000) << 2)
        if low <= target < high:
            continue
        shift = moved[bisect_right(starts, target)]
        if shift not in (own, NOWHERE):
            _PUT.pack_into(out, 4 * i, word & 0xFF000000 | word + (shift - own >> 2) & 0xFFFFFF)
            changed = True
    return bytes(out) if changed else None


def find_arm_literal(words: Sequence[int], i: int) -> int:
    """Where the word stands that an ADD from PC takes, in bytes of the run; below zero if none is found."""
    register = words[i] & 15
    for j in range(i - 1, max(i - 1 - BEHIND, -1), -1):
        if words[j] & 0x0F7FF000 == 0x051F0000 | register << 12:
            offset = words[j] & 4095
            return 4 * j + 8 + (offset if words[j] & 0x00800000 else -offset)
    return -1


def predict_index(run: bytes, run_at: RunAddresses, shifts: Shifts) -> bytes | None:
    """Words of 31 bits below zero that count from their own place: `.ARM.exidx` and `.ARM.extab`."""
    source, place, low, high = run_at
    starts, moved = shifts
    own, out, changed = place - source, bytearray(run), False
    words = struct.unpack(f"<{len(run) // 4}I", run)
    for match in _INDEX.finditer(run[3::4]):
        i = match.start()
        target = source + 4 * i + words[i] - 0x80000000
        shift = moved[bisect_right(starts, target)]
        if shift not in (own, NOWHERE) and not low <= target < high:
            _PUT.pack_into(out, 4 * i, words[i] + shift - own & 0x7FFFFFFF)
            changed = True
    return bytes(out) if changed else None
