"""ELF programs made by hand: code that calls and points at things, and the same after everything has moved."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, replace

PAGE = 4096
AARCH64 = 183  # e_machine, System V ABI


@dataclass(frozen=True)
class Section:
    """A section header: type, flags, address, offset, size."""

    kind: int
    flags: int
    address: int
    offset: int
    size: int


@dataclass(frozen=True)
class Program:
    """An ELF file before its headers are written; `fields` replaces numbers of the header by name."""

    machine: int
    content: bytes
    sections: tuple[Section, ...]
    segments: tuple[tuple[int, int, int], ...] = ()  # p_type, p_offset, p_filesz

    def build(self, **fields: int) -> bytes:
        """The file: header, segments, content at its offsets, sections."""
        at = -(-len(self.content) // 8) * 8
        header = {
            "e_type": 3, "e_machine": self.machine, "e_version": 1, "e_entry": 0, "e_phoff": 64, "e_shoff": at,
            "e_flags": 0, "e_ehsize": 64, "e_phentsize": 56, "e_phnum": len(self.segments), "e_shentsize": 64,
            "e_shnum": len(self.sections), "e_shstrndx": 0,
        } | fields  # fmt: skip
        out = bytearray(self.content.ljust(at, b"\0"))
        out[:64] = b"\x7fELF\2\1\1".ljust(16, b"\0") + struct.pack("<HHIQQQIHHHHHH", *header.values())
        for number, (kind, offset, size) in enumerate(self.segments):
            segment = struct.pack("<IIQQQQQQ", kind, 4, offset, offset, offset, size, size, 8)
            out[64 + 56 * number : 120 + 56 * number] = segment
        for one in self.sections:
            values = (0, one.kind, one.flags, one.address, one.offset, one.size, 0, 0, 8, 0)
            out += struct.pack("<IIQQQQIIQQ", *values)
        return bytes(out)


def a64_branch(source: int, target: int, *, link: bool = True) -> int:
    """BL or B."""
    return (0x94000000 if link else 0x14000000) | (target - source) // 4 & 0x3FFFFFF


def a64_address(source: int, target: int, register: int) -> tuple[int, int]:
    """ADRP and ADD."""
    pages = target // PAGE - source // PAGE
    adrp = 0x90000000 | (pages >> 2 & 0x7FFFF) << 5 | (pages & 3) << 29 | register
    return adrp, 0x91000000 | target % PAGE << 10 | register << 5 | register


def a64_program(seed: int, insert: dict[int, int]) -> Program:
    """400 functions that call each other and point at 300 objects; `insert` adds bytes before functions by number.

    The same seed gives the same program; what is inserted moves what follows, and all that leads there changes.
    """
    source = random.Random(seed)
    sizes = [source.randrange(16, 60) * 4 for _ in range(400)]
    plan = [
        [(source.random(), source.randrange(400), source.randrange(300), source.getrandbits(32)) for _ in range(n // 4)]
        for n in sizes
    ]
    text, starts, at = 0x1000, list[int](), 0x1000
    for number, size in enumerate(sizes):
        at += insert.get(number, 0)
        starts.append(at)
        at += size
    data = -(-at // PAGE) * PAGE + 0x80 * len(insert)
    objects = [data + 48 * number + 16 * len([one for one in insert if one < number]) for number in range(300)]
    code = bytearray(at - text)
    for number, (begin, words) in enumerate(zip(starts, plan, strict=True)):
        position = begin
        while position < begin + sizes[number]:
            kind, function, item, noise = words[(position - begin) // 4]
            if kind < 0.3:
                made: tuple[int, ...] = (a64_branch(position, starts[function]),)
            elif kind < 0.45 and position + 8 <= begin + sizes[number]:
                made = a64_address(position, objects[item], noise % 16)
            else:
                made = (0xAA0003E0 | noise & 0x1F001F,)  # MOV between registers
            struct.pack_into(f"<{len(made)}I", code, position - text, *made)
            position += 4 * len(made)
    rela = 0x200
    entries = b"".join(struct.pack("<QQQ", objects[i % 300], 1027, starts[i]) for i in range(100))
    end = objects[-1] + 48
    content = bytes(rela) + entries
    content = content.ljust(text, b"\0") + bytes(code)
    content = content.ljust(data, b"\0") + b"".join(struct.pack("<QQ", starts[i], i) for i in range(100))
    sections = (
        Section(0, 0, 0, 0, 0),
        Section(4, 2, rela, rela, len(entries)),
        Section(1, 6, text, text, len(code)),
        Section(1, 3, data, data, 1600),
    )
    return Program(AARCH64, content.ljust(end, b"\0"), sections)


def lying(program: Program, number: int, **changes: int) -> Program:
    """The same with a section that is not where its header says."""
    sections = list(program.sections)
    sections[number % len(sections)] = replace(sections[number % len(sections)], **changes)
    return replace(program, sections=tuple(sections))
