"""Turns stretches into the streams of a piece (docs/patch-format.md sections 5 and 6)."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import add, gt

from twinslot.image.codec import Encoder
from twinslot.image.lzma2 import CONTROL_WINDOW, PRESET_BEST, VARINTS, WIDE_WINDOW, pack
from twinslot.image.replaced import REPLACED_MAX, Op, PlacedOp, replaced_runs
from twinslot.image.wire_patch import (
    CONTROL_MAX,
    PATCH_VERSION,
    PLAIN_VERSION,
    build_varints,
    from_signed,
    piece_max,
)
from twinslot_image.liblzma import pack_after
from twinslot_image.patch_pages import ByteSource
from twinslot_image.patch_path import GroupRecipe, Stretch, residual_words
from twinslot_image.patch_project import Knowledge, Projected, project

PIECE_AIM = 64 * 1024  # bytes stored, or one group if that is more: what an interrupted fetch repeats
PIECE_PLAIN_MAX = 16 * 1024 * 1024  # bytes of content: what a cut makes the device decode again
_ESTIMATE = 1.7  # zstd's fastest level against what LZMA2 makes of several groups together; measured
PRESET_FAST = 6  # for patches so large that the best preset would take minutes
FAST_ABOVE = 128 * 1024 * 1024  # bytes of residuals and literals


@dataclass(frozen=True, slots=True)
class Form:
    """What a piece may be: bytes of a group, the newest format that may be used, and the preset of packing."""

    group_size: int
    newest: int = PATCH_VERSION
    preset: int = PRESET_BEST


@dataclass(frozen=True, slots=True)
class PieceNumbers:
    """What the table says of a piece (section 4.2): groups, and bytes of each of its streams.

    `version` is the oldest format that has what it needs.
    """

    groups: int
    ops: int
    jumps: int
    areas: int
    shifts: int
    version: int
    control: int
    residual: int
    literal: int

    def columns(self, version: int) -> tuple[int, ...]:
        """In the table's order; format 1 has no areas and shifts."""
        plain = self.groups, self.control, self.ops, self.jumps, self.residual, self.literal
        return plain if version == PLAIN_VERSION else (*plain, self.areas, self.shifts)

    @property
    def length(self) -> int:
        """Bytes stored."""
        return self.control + self.residual + self.literal


@dataclass(frozen=True, slots=True)
class EncodedPiece:
    """The streams of a piece as they stand in the patch, and its numbers."""

    numbers: PieceNumbers
    control: bytes = field(repr=False)
    residual: bytes = field(repr=False)
    literal: bytes = field(repr=False)


def merge(stretches: Iterable[Stretch]) -> Iterator[Stretch]:
    """Neighbours of one op and one distance become one."""
    last: Stretch | None = None
    for stretch in stretches:
        if last and (last.op, last.distance, last.end) == (stretch.op, stretch.distance, stretch.start):
            last = Stretch(last.start, stretch.end, last.op, last.distance)
            continue
        if last:
            yield last
        last = stretch
    if last:
        yield last


def control_of(groups: Sequence[GroupRecipe]) -> tuple[bytes, bytes]:
    """The ops and the jumps of a piece."""
    ops, jumps, distance = list[int](), list[int](), 0
    for group in groups:
        for stretch in group.stretches:
            rest = stretch.end == group.start + group.length
            ops.append((0 if rest else stretch.end - stretch.start) << 2 | stretch.op)
            if stretch.op in (Op.COPY, Op.ADD):
                jumps.append(from_signed(stretch.distance - distance))
                distance = stretch.distance
    return build_varints(ops), build_varints(jumps)


def contents_of(old: ByteSource, new: ByteSource, groups: Sequence[GroupRecipe]) -> tuple[bytes, bytes]:
    """The residual and the literal bytes of a piece, not packed."""
    residual, literal = bytearray(), bytearray()
    for group in groups:
        for stretch in group.stretches:
            if stretch.op is Op.ADD:
                residual += residual_words(old, new, stretch).tobytes()
            elif stretch.op is Op.LITERAL:
                literal += new[stretch.start : stretch.end].tobytes()
    return bytes(residual), bytes(literal)


def replaced_of(old: ByteSource, groups: Sequence[GroupRecipe]) -> bytes:
    """What the literals of a piece may repeat of the base (section 5.1)."""
    return b"".join(old[start : start + size].tobytes() for start, size in replaced_runs(_placed(groups), len(old)))


def _placed(groups: Sequence[GroupRecipe]) -> Iterator[PlacedOp]:
    for one in (one for group in groups for one in group.stretches):
        yield PlacedOp(one.op, one.end - one.start, one.start + one.distance)


def estimate(old: ByteSource, new: ByteSource, group: GroupRecipe) -> int:
    """About how many bytes a group will take."""
    residual, literal = contents_of(old, new, [group])
    data = residual + literal
    return int(len(Encoder(1).encode(data)) / _ESTIMATE) if data else 0


def cut(groups: Sequence[GroupRecipe], estimates: Sequence[int], form: Form) -> Iterator[list[GroupRecipe]]:
    """Pieces of about `PIECE_AIM` bytes, whose literals do not replace more than may stand in for them."""
    limits = max(PIECE_AIM, form.group_size), PIECE_PLAIN_MAX, CONTROL_MAX, REPLACED_MAX
    piece, sums = list[GroupRecipe](), (0, 0, 0, 0)
    for group, size in zip(groups, estimates, strict=True):
        ops = sum(map(len, control_of([group])))
        replaced = sum(length for _, length in replaced_runs(_placed([group]), sys.maxsize))
        own = size, group.length, ops, replaced if form.newest >= PATCH_VERSION else 0
        with_it = tuple(map(add, sums, own))
        if piece and any(map(gt, with_it, limits)):
            yield piece
            piece, with_it = [], own
        piece.append(group)
        sums = with_it
    if piece:
        yield piece


def encode(
    sides: tuple[ByteSource, ByteSource], known: Knowledge | None, groups: Sequence[GroupRecipe], form: Form
) -> list[EncodedPiece]:
    """The piece; several when it came out larger than was aimed at.

    Args:
        sides: The base and the new content.
        known: Of the ELF files in them; None: format 1.
        groups: Of the piece.
        form: What it may be.
    """
    ops, jumps = control_of(groups)
    if len(ops) + len(jumps) > CONTROL_MAX:  # of one group: `cut` has split all others
        return encode(sides, known, [_as_literal(group) for group in groups], form)
    residual, literal = contents_of(*sides, groups)
    made = Projected(b"", b"", residual, PLAIN_VERSION)
    control, added = _pack_numbers(ops + jumps), pack(residual, CONTROL_WINDOW, preset=form.preset)
    if known is not None:
        better = project(known, *sides, groups, residual)
        other = _pack_numbers(ops + jumps + better.areas + better.shifts)
        others = pack(better.residual, CONTROL_WINDOW, preset=form.preset) if better.areas else added
        if len(other) + len(others) < len(control) + len(added):
            made, control, added = better, other, others
    replaced = replaced_of(sides[0], groups) if form.newest >= PATCH_VERSION and literal else b""
    preset = form.preset
    packed = pack_after(replaced, literal, WIDE_WINDOW, preset=preset) if replaced else pack(literal, preset=preset)
    numbers = PieceNumbers(
        groups=len(groups),
        ops=len(ops),
        jumps=len(jumps),
        areas=len(made.areas),
        shifts=len(made.shifts),
        version=PATCH_VERSION if replaced else made.version,
        control=len(control),
        residual=len(added),
        literal=len(packed),
    )
    if len(groups) == 1 and numbers.length > piece_max(form.group_size):
        return encode(sides, known, [_as_literal(groups[0])], form)
    if len(groups) == 1 or numbers.length <= max(PIECE_AIM, form.group_size):
        return [EncodedPiece(numbers, control, added, packed)]
    half = len(groups) // 2
    parts = groups[:half], groups[half:]
    return [one for part in parts for one in encode(sides, known, part, form)]


def _pack_numbers(data: bytes) -> bytes:
    return pack(data, CONTROL_WINDOW, bits=VARINTS)


def _as_literal(group: GroupRecipe) -> GroupRecipe:
    return GroupRecipe(group.start, group.length, (Stretch(group.start, group.start + group.length, Op.LITERAL),))
