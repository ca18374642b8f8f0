"""The head of a patch: which groups it makes, of what digest, and where its pieces are (docs/patch-format.md 2 to 4).

Nothing of it is signed. `PayloadPatch.new_plain_list` is what leads from it to the signed digest.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Generic, TypeVar, overload

from twinslot.core.bounds import DIGEST_SIZE
from twinslot.core.errors import ImageError
from twinslot.image.lzma2 import CONTROL_WINDOW, PackedError, Unpacker
from twinslot.image.wire_patch import (
    CONTROL_MAX,
    PATCH_HEADER_SIZE,
    PIECE_COLUMNS,
    PROJECTION_MAX,
    PayloadEntry,
    bad_table,
    parse_patch_header,
    parse_patch_table,
    piece_max,
    read_varints,
    truncated,
)

PATCH_NAME_DIGITS = 16  # of the base's digest: 64 bits
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ChangedGroup:
    """One group that the base does not hold at the same place: its number, and the 32 bytes of its plain digest."""

    index: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of the patch that is decoded alone, so that an interrupted fetch starts again at a piece.

    Attributes:
        offset: Of its first byte, from the start of the patch file.
        first: Position of its first group in `PayloadPatch.changed`.
        count: How many groups it makes, one after another.
        control: Bytes of its control stream as stored.
        ops: Bytes of the ops, which the control stream starts with, unpacked.
        jumps: Bytes of the jumps, which follow them.
        residual: Bytes of its residual stream as stored.
        literal: Bytes of its literal stream as stored.
        areas: Bytes of the areas, which follow the jumps, unpacked; 0 in format 1.
        shifts: Bytes of the shifts, which follow them; 0 in format 1.
    """

    offset: int
    first: int
    count: int
    control: int
    ops: int
    jumps: int
    residual: int
    literal: int
    areas: int
    shifts: int

    @property
    def length(self) -> int:
        """Bytes stored."""
        return self.control + self.residual + self.literal


class _Packed(Sequence[_T], Generic[_T]):
    """A sequence that makes its items when they are asked for."""

    def item(self, position: int) -> _T:
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> _T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[_T]: ...
    def __getitem__(self, index: int | slice) -> _T | Sequence[_T]:
        if isinstance(index, slice):
            return [self.item(position) for position in range(*index.indices(len(self)))]
        return self.item(range(len(self))[index])


class ChangedGroups(_Packed[ChangedGroup]):
    """The changed groups as runs of consecutive numbers: 32 bytes each in memory, and 8 for a run."""

    __slots__ = ("_digests", "_ends", "_shifts")

    def __init__(self, ends: array[int], shifts: array[int], digests: bytes) -> None:
        """For each run the position after its last group, and by how much numbers in it exceed positions."""
        self._ends, self._shifts, self._digests = ends, shifts, digests

    def __len__(self) -> int:
        return len(self._digests) // DIGEST_SIZE

    def item(self, position: int) -> ChangedGroup:
        """The changed group at a position."""
        digest = self._digests[position * DIGEST_SIZE : (position + 1) * DIGEST_SIZE]
        return ChangedGroup(position + self._shifts[bisect_right(self._ends, position)], digest)


class Pieces(_Packed[Piece]):
    """The pieces as columns of numbers: 80 bytes each in memory."""

    __slots__ = ("_columns",)

    def __init__(self, columns: Sequence[array[int]]) -> None:
        """Columns in the order of Piece's attributes."""
        self._columns = columns

    def __len__(self) -> int:
        return len(self._columns[2])  # the first two go on to where the next piece would be

    def item(self, position: int) -> Piece:
        """The piece of a number."""
        return Piece(*(column[position] for column in self._columns))


@dataclass(frozen=True, slots=True)
class PayloadPatch:
    """What a patch says of one payload; nothing of it is signed.

    Attributes:
        name: Of the payload.
        base: SHA-256 of the base payload, 64 hex digits: whether this device runs the base at all.
        base_size: Bytes of the base payload.
        plain_list: SHA-256 of the new payload's plain list, 64 hex digits; equals the manifest's, or the patch belongs
            to another image.
        size: Bytes of the new payload.
        group_size: Bytes.
        version: Of the patch's format.
        changed: In ascending order; all groups beyond the end of the base are among them.
        pieces: In the order of the file, without gaps.
    """

    name: str
    base: str
    base_size: int
    plain_list: str
    size: int
    group_size: int
    version: int
    changed: Sequence[ChangedGroup] = field(repr=False)
    pieces: Sequence[Piece] = field(repr=False)

    @property
    def groups(self) -> int:
        """How many groups the new payload has."""
        return -(-self.size // self.group_size)

    def group_length(self, index: int) -> int:
        """Bytes of plain content in one group of the new payload."""
        return min(self.group_size, self.size - index * self.group_size)

    def new_plain_list(self, base_list: bytes) -> bytes:
        """The new payload's plain list: the base's, with the changed digests put in.

        Args:
            base_list: The device's own plain list of the base in groups of the same size, 32 bytes for each group.

        Returns:
            The list, not yet believed: `image.groups.check_plain_list` holds it to the signed digest.

        Raises:
            ImageError: `image.patch-base`: the list has not one digest for each group of the base.
        """
        expected = -(-self.base_size // self.group_size) * DIGEST_SIZE
        if len(base_list) != expected:
            what = f"the plain list of the base of payload '{self.name}'"
            raise ImageError(what, code="patch-base", expected=f"{expected} bytes", found=f"{len(base_list)} bytes")
        whole = bytearray(base_list[: self.groups * DIGEST_SIZE].ljust(self.groups * DIGEST_SIZE, b"\0"))
        for group in self.changed:
            whole[group.index * DIGEST_SIZE : (group.index + 1) * DIGEST_SIZE] = group.digest
        return bytes(whole)


@dataclass(frozen=True, slots=True)
class PatchHead:
    """Header, table and digests of a patch: all that stands before the first piece.

    Attributes:
        version: Of the format.
        length: Bytes of the head, which starts the file.
        total: Bytes of the whole patch file.
        payloads: In the order of names, as in the manifest. A payload that did not change is there without groups.
    """

    version: int
    length: int
    total: int
    payloads: tuple[PayloadPatch, ...]

    def payload(self, name: str) -> PayloadPatch:
        """The part for one payload.

        Raises:
            KeyError: The patch has none for it.
        """
        for part in self.payloads:
            if part.name == name:
                return part
        raise KeyError(name)


def patch_name(image: str, base: str) -> str:
    """The file name under which devices look for a patch (section 7).

    Args:
        image: File name of the image, `NAME.twin`.
        base: SHA-256 of the base of the image's first payload, 64 hex digits.
    """
    return f"{image.removesuffix('.twin')}.from-{base[:PATCH_NAME_DIGITS]}.twinpatch"


def patch_head_length(data: bytes) -> int:
    """How many bytes `parse_patch_head` needs, from the first `PATCH_HEADER_SIZE` bytes of the file; bounded.

    Raises:
        ImageError: `image.truncated`, `image.patch-header` (not a patch, or a format this client does not know) or
            `image.length` (above its bound).
    """
    return parse_patch_header(data).head


def parse_patch_head(data: bytes) -> PatchHead:
    """Read the head of a patch; `data` starts with it and may go on.

    Raises:
        ImageError: As `patch_head_length`, or `image.patch-table`.
    """
    header = parse_patch_header(data)
    if len(data) < header.head:
        raise truncated("head", header.head, len(data))
    end = PATCH_HEADER_SIZE + header.packed
    try:
        table = Unpacker(data[PATCH_HEADER_SIZE:end], CONTROL_WINDOW).take(header.table)
    except PackedError as e:
        raise bad_table("packing", "an LZMA2 stream", e) from e
    entries = parse_patch_table(table)
    if (found := sum(entry.changed for entry in entries)) != header.changed:
        raise bad_table("changed groups", str(header.changed), found)
    parts, offset = list[PayloadPatch](), header.head
    for entry in entries:
        digests = data[end : end + entry.changed * DIGEST_SIZE]
        end += len(digests)
        parts.append(_payload(entry, digests, offset, header.version))
        offset += sum(piece.length for piece in parts[-1].pieces)
    if offset != header.head + header.pieces:
        raise bad_table("lengths of pieces", str(header.pieces), offset - header.head)
    return PatchHead(header.version, header.head, offset, tuple(parts))


def _payload(entry: PayloadEntry, digests: bytes, offset: int, version: int) -> PayloadPatch:
    return PayloadPatch(
        name=entry.name,
        base=entry.base.hex(),
        base_size=entry.base_size,
        plain_list=entry.plain_list.hex(),
        size=entry.size,
        group_size=entry.group_size,
        version=version,
        changed=_changed(entry, digests),
        pieces=_pieces(entry, offset, version),
    )


def _changed(entry: PayloadEntry, digests: bytes) -> ChangedGroups:
    """Section 4.1: pairs of (groups left out since the last run, groups in this run)."""
    numbers = _numbers(entry.runs, "runs")
    skips, counts = numbers[::2], numbers[1::2]
    if len(skips) != len(counts) or 0 in counts or 0 in skips[1:]:
        raise bad_table("runs", "pairs, none empty, none touching", len(numbers))
    found, at = sum(counts), sum(numbers)
    if found != entry.changed or at > -(-entry.size // entry.group_size):
        raise bad_table("runs", f"{entry.changed} groups of the payload", f"{found} up to {at}")
    return ChangedGroups(array("I", accumulate(counts)), array("I", accumulate(skips)), digests)


def _pieces(entry: PayloadEntry, offset: int, version: int) -> Pieces:
    """Section 4.2: for each piece six numbers, or eight."""
    numbers, columns = _numbers(entry.columns, "pieces"), PIECE_COLUMNS[version]
    if len(numbers) != entry.pieces * columns:
        raise bad_table("pieces", f"{entry.pieces * columns} numbers", len(numbers))
    counts, control, ops, jumps, residual, literal, *more = (
        array("Q", numbers[column::columns]) for column in range(columns)
    )
    areas, shifts = more or (array("Q", bytes(len(counts) * counts.itemsize)),) * 2
    if 0 in counts or sum(counts) != entry.changed:
        raise bad_table("pieces", f"{entry.changed} groups, none without", sum(counts))
    largest = max(map(sum, zip(control, residual, literal, strict=True)), default=0)
    if largest > piece_max(entry.group_size):
        raise bad_table("length of a piece", f"up to {piece_max(entry.group_size)} bytes", largest)
    for first, second, limit in ((ops, jumps, CONTROL_MAX), (areas, shifts, PROJECTION_MAX)):
        if any(a + b > limit for a, b in zip(first, second, strict=True)):
            raise bad_table("control stream of a piece", f"up to {limit} bytes", "more")
    firsts = array("Q", accumulate(counts, initial=0))
    offsets = array("Q", accumulate(map(sum, zip(control, residual, literal, strict=True)), initial=offset))
    return Pieces((offsets, firsts, counts, control, ops, jumps, residual, literal, areas, shifts))


def _numbers(data: bytes, what: str) -> array[int]:
    try:
        return array("Q", read_varints(data))
    except ValueError as e:
        raise bad_table(what, "numbers of up to nine bytes", e) from e
