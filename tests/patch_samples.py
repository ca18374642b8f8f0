"""Patches made by hand from ops, without the tool that searches for them: for tests of whoever applies them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from twinslot.image.lzma2 import CONTROL_WINDOW, pack
from twinslot.image.patch import Op
from twinslot.image.wire_patch import PatchHeader, PayloadEntry, build_patch_header, build_patch_table, build_varints

GROUP = 4096  # bytes
Recipe = tuple[int, list[tuple[int, ...]]]  # group number; (op, length) or (op, length, source in the base)


def plain_list(data: bytes, group_size: int = GROUP) -> bytes:
    """32 bytes for each group."""
    return b"".join(hashlib.sha256(data[i : i + group_size]).digest() for i in range(0, len(data), group_size))


def subtract_words(new: bytes, old: bytes) -> bytes:
    """Word by word, the slow way, so that nothing is shared with the code under test."""
    out = bytearray()
    for at in range(0, len(new), 4):
        a, b = (int.from_bytes(data[at : at + 4], "little") for data in (new, old))
        out += ((a - b) % 2**32).to_bytes(4, "little")
    return bytes(out[: len(new)])


@dataclass(frozen=True)
class Streams:
    """A piece before it is packed."""

    groups: int
    ops: bytes
    jumps: bytes
    residual: bytes
    literal: bytes

    def packed(self) -> tuple[bytes, bytes, bytes]:
        """Control, residual and literal as they are stored."""
        return pack(self.ops + self.jumps, CONTROL_WINDOW), pack(self.residual), pack(self.literal)


def streams(old: bytes, new: bytes, recipes: Sequence[Recipe], group_size: int = GROUP) -> Streams:
    """The streams of one piece."""
    ops, jumps, residual, literal, distance = list[int](), list[int](), b"", b"", 0
    for group, steps in recipes:
        at = group * group_size
        for kind, length, *source in steps:
            ops.append(length << 2 | kind)
            end = at + (length or min((group + 1) * group_size, len(new)) - at)
            if source:
                jump, distance = source[0] - at - distance, source[0] - at
                jumps.append(2 * jump if jump >= 0 else -2 * jump - 1)
            if kind == Op.ADD:
                residual += subtract_words(new[at:end], old[source[0] : source[0] + end - at])
            elif kind == Op.LITERAL:
                literal += new[at:end]
            at = end
    return Streams(len(recipes), build_varints(ops), build_varints(jumps), residual, literal)


def entry_for(
    old: bytes, new: bytes, changed: Sequence[int], pieces: Sequence[Streams], group_size: int = GROUP
) -> PayloadEntry:
    """The table's part for one payload, true to the contents."""
    numbers, at = list[int](), 0
    for _, run in groupby(enumerate(changed), lambda pair: pair[1] - pair[0]):
        members = [index for _, index in run]
        numbers += [members[0] - at, len(members)]
        at = members[-1] + 1
    columns = list[int]()
    for piece in pieces:
        control, residual, literal = map(len, piece.packed())
        columns += [piece.groups, control, len(piece.ops), len(piece.jumps), residual, literal]
    return PayloadEntry(
        name="rootfs",
        base=hashlib.sha256(old).digest(),
        base_size=len(old),
        plain_list=hashlib.sha256(plain_list(new, group_size)).digest(),
        size=len(new),
        group_size=group_size,
        changed=len(changed),
        pieces=len(pieces),
        runs=build_varints(numbers),
        columns=build_varints(columns),
    )


def assemble(entries: Sequence[PayloadEntry], digests: bytes, pieces: Sequence[Streams]) -> bytes:
    """A patch file."""
    table = build_patch_table(entries)
    packed, body = pack(table, CONTROL_WINDOW), b"".join(b"".join(piece.packed()) for piece in pieces)
    header = PatchHeader(1, len(packed), len(table), len(digests) // 32, len(body))
    return build_patch_header(header) + packed + digests + body


def make(old: bytes, new: bytes, pieces: Sequence[Sequence[Recipe]], group_size: int = GROUP) -> bytes:
    """A patch from ops."""
    changed = [group for piece in pieces for group, _ in piece]
    whole = plain_list(new, group_size)
    made = [streams(old, new, piece, group_size) for piece in pieces]
    digests = b"".join(whole[32 * group : 32 * group + 32] for group in changed)
    return assemble([entry_for(old, new, changed, made, group_size)], digests, made)


OLD = random.Random(1).randbytes(5 * GROUP)
_moved = bytes((byte + (index % 4 == 0)) % 256 for index, byte in enumerate(OLD[GROUP + 40 : 2 * GROUP + 40]))
# Group 0 as it was; 1 nearly moved; 2 as it was; 3 of zeros, a copy and something new; 4 a copy; 5 new, of 300 bytes.
NEW = (
    OLD[:GROUP]
    + _moved
    + OLD[2 * GROUP : 3 * GROUP]
    + bytes(1000)
    + OLD[3:1003]
    + b"something new".ljust(GROUP - 2000, b".")
)
NEW += OLD[:GROUP] + b"the end" * 50
RECIPES: list[list[Recipe]] = [
    [(1, [(Op.ADD, 0, GROUP + 40)]), (3, [(Op.ZERO, 1000), (Op.COPY, 1000, 3), (Op.LITERAL, 0)])],
    [(4, [(Op.COPY, 4000, 0), (Op.COPY, 0, 4000)]), (5, [(Op.LITERAL, 350)])],
]
SAMPLE = make(OLD, NEW, RECIPES)
