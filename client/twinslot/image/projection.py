"""Predicts what a word of the base becomes when what it refers to has moved (docs/patch-format.md section 6.2). Pure.

A piece brings *areas*, runs of the new content that hold references of one kind, and *shifts*, by how much each part
of the base moved. A reference in a word of the base is followed to its old target, the target is moved, and the word is
made anew for its new place. The residual is against that. Only words that may be references are looked at.

Whatever a patch says here costs bytes and time, never safety: each group's digest decides (S2). Memory is bounded by
`SHIFTS_MAX` shifts of 16 bytes and what one part of an op takes, whatever the patch says: some 0.4 MiB.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, NamedTuple

from twinslot.image.lzma2 import PackedError
from twinslot.image.projection_arm import predict_arm, predict_index, predict_thumb
from twinslot.image.projection_code import NOWHERE, Code, RunAddresses, Shifts, predict_arm64, predict_relative
from twinslot.image.projection_x86 import predict_x86
from twinslot.image.wire_patch import PATCH_VERSION, PROJECTED_VERSION, read_varints, to_signed

PART: Final = 16 * 1024  # bytes of an op, from its start, that are predicted at once
SHIFTS_MAX: Final = 8192  # of a piece; the bench's largest piece has 1,300
_AREA_NUMBERS: Final = 5  # bytes left out, length, kind, two biases
WORD: Final = 4  # bytes; what a run begins and ends at a multiple of


class Area(NamedTuple):
    """A part of the new content with references of one kind.

    Attributes:
        start: Its first byte in the new content.
        end: Behind its last byte.
        kind: A key of `CODES` or of `TABLES`.
        old_bias: What is added to a place, or to the content of a word, in the base to get an address.
        new_bias: The same in the new content.
    """

    start: int
    end: int
    kind: int
    old_bias: int
    new_bias: int


class Table(NamedTuple):
    """Words that hold addresses, by their place in an entry: bytes of a word, words of an entry, which of them."""

    size: int
    entry: int
    members: tuple[int, ...]


CODES: Final[dict[int, Code]] = {
    0: predict_arm64,
    1: predict_arm,
    2: predict_thumb,
    3: predict_x86,
    4: predict_relative,
    5: predict_index,
}
STEPS: Final = {2: 2, 3: 1}  # bytes whose multiples instructions begin at, where these are not `WORD`
TABLES: Final[dict[int, Table]] = {
    6: Table(8, 1, (0,)),  # pointers
    7: Table(8, 3, (0, 2)),  # Elf64_Rela: r_offset, r_addend
    8: Table(8, 3, (1,)),  # Elf64_Sym: st_value
    9: Table(4, 1, (0,)),  # pointers
    10: Table(4, 2, (0,)),  # Elf32_Rel: r_offset
    11: Table(4, 4, (1,)),  # Elf32_Sym: st_value
}

_FIRST_KINDS: Final = (0, 4, *TABLES)


def since(kind: int) -> int:
    """The oldest format of a patch that has areas of a kind."""
    return PROJECTED_VERSION if kind in _FIRST_KINDS else PATCH_VERSION


def read_areas(data: bytes) -> Iterator[Area]:
    """The areas of a piece, one after another.

    Raises:
        PackedError: They make no sense; after those that do.
    """
    at = old_bias = new_bias = 0
    numbers = _sound(read_varints(data))
    while (area := list(islice(numbers, _AREA_NUMBERS))) != []:
        if len(area) < _AREA_NUMBERS:
            raise PackedError("the areas end too early")
        gap, length, kind, old_step, new_step = area
        if not length or (kind not in CODES and kind not in TABLES):
            raise PackedError("an area that cannot be")
        old_bias, new_bias = old_bias + to_signed(old_step), new_bias + to_signed(new_step)
        yield Area(at + gap, at + gap + length, kind, old_bias, new_bias)
        at += gap + length


def _sound(numbers: Iterator[int]) -> Iterator[int]:
    try:
        yield from numbers
    except ValueError as e:
        raise PackedError("areas or shifts that are no numbers") from e


# keeps: S9
def read_shifts(data: bytes) -> Shifts:
    """The shifts of a piece.

    Raises:
        PackedError: They make no sense, or are too many.
    """
    starts, shifts, at, shift = array("q"), array("q", [NOWHERE]), 0, 0
    numbers = _sound(read_varints(data))
    try:
        for gap in numbers:
            at += gap
            starts.append(at)
            if (step := next(numbers, None)) is None:  # the last number says where the last shift ends
                shifts.append(NOWHERE)
                return starts, shifts
            shift += to_signed(step)
            shifts.append(shift)
            if len(starts) > SHIFTS_MAX:
                raise PackedError("more shifts than a piece may have")
    except OverflowError as e:
        raise PackedError("shifts that cannot be") from e
    raise PackedError("shifts without an end")


class Projection:
    """The areas and shifts of one piece, applied in the order of the new content."""

    def __init__(self, areas: bytes, shifts: bytes) -> None:
        """Both as they stand in the control stream.

        Raises:
            PackedError: They make no sense.
        """
        self._areas = read_areas(areas)
        self._area = next(self._areas, None)
        self._shifts = read_shifts(shifts) if shifts else (array("q"), array("q", [NOWHERE]))

    def predict(self, base: bytes, place: int, distance: int, op: tuple[int, int]) -> bytes | bytearray:
        """What a part of an op is expected to be.

        Args:
            base: The base's bytes for it.
            place: Where it stands in the new content; not before any place that was asked for earlier.
            distance: From there to its source.
            op: The first and the end of the op's source.

        Raises:
            PackedError: The next area makes no sense.
        """
        out: bytes | bytearray = base
        end = place + len(base)
        while self._area is not None and self._area.start < end:
            if self._area.end > place:
                out = self._apply(self._area, out, place, distance, op)
            if self._area.end > end:
                break
            self._area = next(self._areas, None)
        return out

    def _apply(
        self, area: Area, base: bytes | bytearray, place: int, distance: int, op: tuple[int, int]
    ) -> bytes | bytearray:
        step = STEPS.get(area.kind, WORD)
        first = -(-max(place, area.start) // step) * step
        last = min(place + len(base), area.end) // step * step
        if first >= last or distance % step:
            return base
        run = bytes(base[first - place : last - place])
        source, old_bias = first + distance, area.old_bias
        if area.kind in TABLES:
            made = predict_table(run, TABLES[area.kind], first - area.start, area, self._shifts)
        else:
            addresses = RunAddresses(source + old_bias, first + area.new_bias, op[0] + old_bias, op[1] + old_bias)
            made = CODES[area.kind](run, addresses, self._shifts)
        return base if made is None else bytes(base[: first - place]) + made + bytes(base[last - place :])


def predict_table(run: bytes, table: Table, offset: int, area: Area, shifts: Shifts) -> bytes | None:
    """A run of words that hold addresses; None if nothing of it changes.

    Args:
        run: The base's bytes.
        table: Which words do.
        offset: Of the run in its area, in bytes.
        area: Gives the biases.
        shifts: Of the piece.
    """
    skip, (starts, moved), out = -offset % table.size, shifts, None
    count = max(len(run) - skip, 0) // table.size
    if not count:
        return None
    words = struct.unpack_from(f"<{count}{'Q' if table.size == 8 else 'i'}", run, skip)
    first, mask = (offset + skip) // table.size, (1 << 8 * table.size) - 1
    bias, change = area.old_bias, area.old_bias - area.new_bias
    put: Callable[..., None] = struct.Struct("<Q" if table.size == 8 else "<I").pack_into
    for member in table.members:
        for i in range((member - first) % table.entry, count, table.entry):
            shift = moved[bisect_right(starts, words[i] + bias)]
            if shift != NOWHERE and shift + change:
                out = out or bytearray(run)
                put(out, skip + table.size * i, words[i] + shift + change & mask)
    return None if out is None else bytes(out)
