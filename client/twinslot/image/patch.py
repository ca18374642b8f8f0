"""Patches: how a device makes a new payload out of the one it runs (docs/patch-format.md). Pure; no I/O of its own.

A patch is not signed. What it says of digests is believed only after the list that they complete has the digest in the
signed manifest, and what it decodes to is believed group by group against that list (S2). Its streams are decoded in
the unprivileged worker alone, with memory and output capped. The order of use:

    length = patch_head_length(first PATCH_HEADER_SIZE bytes)
    head = parse_patch_head(first `length` bytes)
    part = head.payload("rootfs")
    new_list = check_plain_list(payload, part.new_plain_list(base_list))   # image.groups: the signed digest decides
    for index, plain in PatchDecoder(part, new_list, read_base).groups(chunks):
        ...                                                                # plain is None: fetch it from the image
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from twinslot.core.bounds import DIGEST_SIZE
from twinslot.core.errors import LifecycleError
from twinslot.image.lzma2 import CONTROL_WINDOW, WIDE_WINDOW, WINDOW, PackedError, Unpacker
from twinslot.image.patch_head import (
    ChangedGroup,
    PatchHead,
    PayloadPatch,
    Piece,
    parse_patch_head,
    patch_head_length,
    patch_name,
)
from twinslot.image.projection import PART, Projection
from twinslot.image.replaced import Op, PlacedOp, replaced_runs
from twinslot.image.wire_patch import PATCH_HEADER_SIZE, PROJECTED_VERSION, read_varints, to_signed, truncated

__all__ = [
    "PATCH_HEADER_SIZE",
    "ChangedGroup",
    "Op",
    "PatchDecoder",
    "PatchHead",
    "PayloadPatch",
    "Piece",
    "ReadBase",
    "add_words",
    "parse_patch_head",
    "patch_head_length",
    "patch_name",
]

ReadBase = Callable[[int, int], bytes]  # (offset, length), both in bytes of the base payload
_SLICE = 64 * 1024  # bytes of an op that are worked on at once


class PatchDecoder:
    """Makes the changed groups of one payload.

    Memory stays below 1 MiB for groups of 64 KiB, whatever the patch says: two windows of 256 KiB, one of 64 KiB, a
    piece, its control, and a few times a group. In format 3 the windows take 0.6 MiB more: 1 MiB, and twice 64 KiB.
    What is predicted takes up to 0.4 MiB (`image.projection`).

    Args:
        part: From the head.
        plain_list: The new payload's whole plain list, once it had the digest in the signed manifest.
        read_base: Reads the base payload. May return less at the end of the medium; may raise OSError, which is taken
            as a damaged base.
    """

    def __init__(self, part: PayloadPatch, plain_list: bytes, read_base: ReadBase) -> None:
        if len(plain_list) != part.groups * DIGEST_SIZE:
            raise LifecycleError("patch: a plain list of another payload", code="patch")
        self._part = part
        self._plain_list = plain_list
        self._read_base = read_base

    # keeps: S2
    def piece(self, number: int, stored: bytes) -> Iterator[tuple[int, bytes | None]]:
        """The groups of one piece, each as (index, plain content).

        Content that does not have its digest in the list never leaves: the group comes as (index, None), and so do the
        rest of a piece whose streams are damaged. Such a group must come from the image.

        Args:
            number: Of the piece.
            stored: Its bytes, exactly `Piece.length`.
        """
        piece, changed = self._part.pieces[number], self._part.changed
        recipe = self._recipe(piece, stored)
        for position in range(piece.first, piece.first + piece.count):
            index = changed[position].index
            plain = None
            if recipe is not None:
                try:
                    plain = recipe.group(index * self._part.group_size, self._part.group_length(index))
                except PackedError:
                    recipe = None  # what follows cannot be found any more
            yield index, plain if plain is not None and self._is_good(index, plain) else None

    def groups(self, chunks: Iterable[bytes], first: int = 0) -> Iterator[tuple[int, bytes | None]]:
        """The groups of all pieces from `first` on, in the order of the file.

        Args:
            chunks: The bytes of the patch from the offset of that piece on, cut anyhow; what follows the payload's last
                piece is not taken.
            first: Number of the piece to start with.

        Raises:
            ImageError: `image.truncated`: the chunks end before the last piece does.
        """
        source, buffer = iter(chunks), bytearray()
        for number in range(first, len(self._part.pieces)):
            length = self._part.pieces[number].length
            while len(buffer) < length:
                chunk = next(source, None)
                if chunk is None:
                    raise truncated(f"piece {number}", length, len(buffer))
                buffer += chunk
            stored = bytes(buffer[:length])
            del buffer[:length]
            yield from self.piece(number, stored)

    def _recipe(self, piece: Piece, stored: bytes) -> _Recipe | None:
        if len(stored) != piece.length:
            raise LifecycleError("patch: a piece of another length", code="patch")
        try:
            recipe = _Recipe(piece, memoryview(stored), self._part, self._read_base)
            if self._part.version > PROJECTED_VERSION and piece.literal:
                recipe.look_at_replaced(self._places(piece))
        except PackedError:
            return None
        return recipe

    def _places(self, piece: Piece) -> Iterator[tuple[int, int]]:
        """Where each group of a piece starts in the new payload, and its length."""
        part = self._part
        for position in range(piece.first, piece.first + piece.count):
            index = part.changed[position].index
            yield index * part.group_size, part.group_length(index)

    def _is_good(self, index: int, plain: bytes) -> bool:
        digest = self._plain_list[index * DIGEST_SIZE : (index + 1) * DIGEST_SIZE]
        return hmac.compare_digest(hashlib.sha256(plain).digest(), digest)


class _Recipe:
    """The three streams of a piece, read in step (sections 5 and 6)."""

    def __init__(self, piece: Piece, stored: memoryview, part: PayloadPatch, read_base: ReadBase) -> None:
        lengths = piece.ops, piece.jumps, piece.areas, piece.shifts
        control = Unpacker(stored[: piece.control], CONTROL_WINDOW).take(sum(lengths))
        ends = tuple(accumulate(lengths))
        self._control = control[: ends[0]], control[ends[0] : ends[1]]
        self._ops, self._jumps = (read_varints(column) for column in self._control)
        self._projection = None
        if piece.areas:
            self._projection = Projection(control[ends[1] : ends[2]], control[ends[2] :])
        literal = piece.control + piece.residual
        small, wide = (CONTROL_WINDOW, WIDE_WINDOW) if part.version > PROJECTED_VERSION else (WINDOW, WINDOW)
        self._residual = Unpacker(stored[piece.control : literal], small)
        self._literal = Unpacker(stored[literal:], wide)
        self._base_size = part.base_size
        self._read_base = read_base
        self._distance = 0  # from a byte of the new payload to its source in the base

    def look_at_replaced(self, groups: Iterable[tuple[int, int]]) -> None:
        """Let the literals repeat what they replace (section 5.1).

        Args:
            groups: Where each starts in the new payload, and its length.

        Raises:
            PackedError: The recipe makes no sense.
        """
        runs = replaced_runs(self._placed(groups), self._base_size)
        self._literal.put_before(self._read(*run).ljust(run[1], b"\0") for run in runs)

    def _placed(self, groups: Iterable[tuple[int, int]]) -> Iterator[PlacedOp]:
        (ops, jumps), distance = map(read_varints, self._control), 0
        for offset, length in groups:
            done = 0
            while done < length:
                kind, size = _next_op(ops, length - done)
                if kind in (Op.COPY, Op.ADD):
                    distance += to_signed(_take(jumps))
                yield PlacedOp(kind, size, offset + done + distance)
                done += size

    def group(self, offset: int, length: int) -> bytes | None:
        """One group, which starts at `offset` of the new payload; None if the base cannot be read.

        Raises:
            PackedError: The recipe makes no sense.
        """
        out, whole = bytearray(), True
        while len(out) < length:
            kind, size = _next_op(self._ops, length - len(out))
            if kind in (Op.COPY, Op.ADD):
                self._distance += to_signed(_take(self._jumps))
            step, op = PART if kind == Op.ADD else _SLICE, offset + len(out)
            for done in range(0, size, step):
                wanted = min(step, size - done)
                part = self._make(kind, op + done, wanted, (op, op + size))
                whole = whole and len(part) == wanted
                out += part.ljust(wanted, b"\0")
        return bytes(out) if whole else None

    def _make(self, kind: int, at: int, size: int, op: tuple[int, int]) -> bytes:
        if kind == Op.ZERO:
            return bytes(size)
        if kind == Op.LITERAL:
            return self._literal.take(size)
        source = at + self._distance
        if not 0 <= source <= self._base_size - size:
            raise PackedError("a source outside the base")
        base = self._read(source, size)
        if kind == Op.ADD:
            residual = self._residual.take(size)
            return add_words(self._expected(base, at, op), residual) if len(base) == size else b""
        return base

    def _read(self, source: int, size: int) -> bytes:
        try:
            return self._read_base(source, size)
        except OSError:
            return b""

    def _expected(self, base: bytes, at: int, op: tuple[int, int]) -> bytes | bytearray:
        """What the base's bytes are expected to have become, where a piece says how to know."""
        if self._projection is None:
            return base
        return self._projection.predict(base, at, self._distance, (op[0] + self._distance, op[1] + self._distance))


def add_words(base: bytes | bytearray, residual: bytes) -> bytes:
    """The sums of words of four bytes, little endian, modulo 2^32; the last word may be cut short (section 6.1).

    One addition of big integers: the top bit of each word is kept out of it, so that nothing carries into the next.
    """
    size = len(base)
    words = -(-size // 4)
    low = int.from_bytes(b"\xff\xff\xff\x7f" * words, "little")
    x, y = int.from_bytes(base, "little"), int.from_bytes(residual, "little")
    total = ((x & low) + (y & low)) ^ ((x ^ y) & ~low)
    return total.to_bytes(4 * words, "little")[:size]


def _next_op(ops: Iterator[int], room: int) -> tuple[int, int]:
    number = _take(ops)
    size = number >> 2 or room
    if size > room:
        raise PackedError("an op goes beyond its group")
    return number & 3, size


def _take(numbers: Iterator[int]) -> int:
    try:
        return next(numbers)
    except (StopIteration, ValueError) as e:
        raise PackedError("the control stream ends too early") from e
