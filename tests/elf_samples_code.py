"""Programs for armhf and amd64 made by hand, like those for arm64 of `elf_samples`: code that calls and points."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

from elf_samples import PAGE, Program, Section

ARM, X86_64 = 40, 62  # e_machine, System V ABI
_SLOT = 16  # bytes of code that do one thing
Emit = Callable[[int, int, int, int], bytes]  # place, a function's address, an object's address, noise: one slot


def x86_slot(place: int, function: int, item: int, noise: int) -> bytes:
    """CALL, LEA from RIP, or MOV between registers."""
    if noise % 10 < 3:
        return b"\xe8" + struct.pack("<i", function - place - 5) + noise.to_bytes(4, "little") + b"\x90" * 7
    if noise % 10 < 5:
        return b"\x48\x8d\x35" + struct.pack("<i", item - place - 7) + noise.to_bytes(4, "little") + b"\x90" * 5
    return b"\x48\x89" + bytes([0xC0 | noise & 63]) + noise.to_bytes(4, "little") + b"\x90" * 9


def thumb_branch(place: int, target: int) -> bytes:
    """BL."""
    value = target - place - 4
    sign, one, two = value >> 24 & 1, value >> 23 & 1, value >> 22 & 1
    first = 0xF000 | sign << 10 | value >> 12 & 0x3FF
    return struct.pack("<HH", first, 0xD000 | (one ^ sign ^ 1) << 13 | (two ^ sign ^ 1) << 11 | value >> 1 & 0x7FF)


def thumb_slot(place: int, function: int, item: int, noise: int) -> bytes:
    """BL; LDR from a literal word with ADD from PC; or MOV and more."""
    if noise % 10 < 3:
        rest = struct.pack("<HH", 0x4600 | noise & 0x3F, 0xBF00) + noise.to_bytes(8, "little")
        return thumb_branch(place, function) + rest
    if noise % 10 < 5:
        register = noise & 7
        word = item - (place + 2 + 4)
        halves = 0x4801 | register << 8, 0x4478 | register, 0xE003, 0xBF00
        return struct.pack("<HHHHi", *halves, word) + (noise & 0xFFFF).to_bytes(4, "little")
    return struct.pack("<HHIII", 0x4600 | noise & 0x3F, 0xBF00, noise & 0x7FFFFFFF, noise >> 8, 0xBF00BF00)


def arm_slot(place: int, function: int, item: int, noise: int) -> bytes:
    """BL; LDR from a literal word with ADD from PC; or MOV."""
    if noise % 10 < 3:
        return struct.pack("<IIII", 0xEB000000 | (function - place - 8) // 4 & 0xFFFFFF, *[0xE1A00000 | noise & 7] * 3)
    if noise % 10 < 5:
        register = noise & 7
        load, add = 0xE59F0004 | register << 12, 0xE08F0000 | register << 12 | register
        return struct.pack("<IIIi", load, add, 0xEA000000, item - (place + 4 + 8))
    return struct.pack("<IIII", 0xE1A00000 | noise & 7, 0xE2800000 | noise & 0xFFF, 0xE1A01000, 0xE1A02003)


def code_program(machine: int, emit: Emit, seed: int, insert: dict[int, int], count: int = 400) -> Program:
    """`count` functions that call each other and point at 300 objects; `insert` adds bytes before some of them."""
    source = random.Random(seed)
    slots = [source.randrange(4, 15) for _ in range(count)]
    plan = [[(source.randrange(count), source.randrange(300), source.getrandbits(31)) for _ in range(n)] for n in slots]
    text, starts, at = 0x1000, list[int](), 0x1000
    for number, count in enumerate(slots):
        at += insert.get(number, 0)
        starts.append(at)
        at += count * _SLOT
    data = -(-at // PAGE) * PAGE + 0x80 * len(insert)
    objects = [data + 48 * number + 16 * len([one for one in insert if one < number]) for number in range(300)]
    code = bytearray(at - text)
    for begin, each in zip(starts, plan, strict=True):
        for number, (function, item, noise) in enumerate(each):
            place = begin + _SLOT * number
            code[place - text : place - text + _SLOT] = emit(place, starts[function], objects[item], noise)
    content = (bytes(text) + bytes(code)).ljust(objects[-1] + 48, b"\0")
    return Program(machine, content, (Section(0, 0, 0, 0, 0), Section(1, 6, text, text, len(code))))


def x86_absolute_slot(place: int, function: int, item: int, noise: int) -> bytes:
    """As `x86_slot`, in a program that always lies at one address: MOV of an object's address as it is."""
    if noise % 10 in (3, 4):
        return b"\xbe" + struct.pack("<I", item) + noise.to_bytes(4, "little") + b"\x90" * 7
    return x86_slot(place, function, item, noise)


def arm_absolute_slot(place: int, function: int, item: int, noise: int) -> bytes:
    """As `arm_slot`, in a program that always lies at one address: MOVW and MOVT of an object's address."""
    if noise % 10 in (3, 4):
        halves = (0xE3000000 | (half & 0xF000) << 4 | half & 0xFFF for half in (item & 0xFFFF, item >> 16))
        low, high = (word | (noise & 7) << 12 for word in halves)
        return struct.pack("<IIII", low, high | 0x400000, 0xE1A01000, 0xE1A02003)
    return arm_slot(place, function, item, noise)
