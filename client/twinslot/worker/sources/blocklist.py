"""Groups put together from blocks of what the device runs, whatever release that is (docs/blocks-format.md).

A block list beside the image says which blocks a group has; what the device lacks of it comes packed from there as
well. Nothing in it is signed: a group goes on once it has the digest in the signed list.
"""

from __future__ import annotations

import hashlib
import logging
import os
from array import array
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Final

from twinslot.core.bitset import ones
from twinslot.core.bounds import DIGEST_SIZE
from twinslot.core.errors import ImageError
from twinslot.core.manifest import Payload
from twinslot.core.span import Span
from twinslot.core.stream import Base
from twinslot.image.block_index import BlockIndex, numbers
from twinslot.image.lzma2 import PackedError, Unpacker
from twinslot.image.wire_blocks import BLOCK_SIZE, PACKED_EXTRA, BlocksHead
from twinslot.worker.sources.base import GroupSource, Tell
from twinslot.worker.sources.sidecar import Parts

log = logging.getLogger(__name__)

_STEP: Final = 1 << 18  # bytes of the base that are read at once


class BlockListSource(GroupSource):
    """One payload: groups of which the base has every block, and packed ones.

    Args:
        payload: From the verified manifest.
        plain_list: Its list.
        base: What the device runs.
        source: Of the block list.
        head: Of the block list.
        number: The payload's, in the manifest.
        note: Told when it is given up.
    """

    def __init__(
        self,
        payload: Payload,
        plain_list: bytes,
        base: Base,
        source: Parts,
        head: BlocksHead,
        number: int,
        note: Tell,
    ) -> None:
        super().__init__(payload, "block list", note)
        self._plain_list, self._base, self._source = plain_list, base, source
        self._entry, (lengths, self._sums, self._packed) = head.entries[number], head.spans(number)
        self._lengths = _lengths(source.read(lengths.offset, lengths.length), self._entry.packed, payload)
        self._index = BlockIndex(payload.group_size // BLOCK_SIZE)
        for index in range(payload.groups):
            self._makes(index)

    def look(self, wanted: bytes, tick: Callable[[], None]) -> None:
        """Fetch what these groups consist of, and look for it in the base."""
        for index, (_, sums) in zip(ones(wanted), self._source.stream(self._sum_spans(wanted)), strict=False):
            if self._index.full:
                break
            self._index.add(index, sums)
        self._index.make_searchable()
        for at in range(0, self._base.size, _STEP):
            self._index.show(at // BLOCK_SIZE, self._read(at, min(_STEP, self._base.size - at)))
            tick()

    def cost(self, wanted: bytes) -> int:
        """Bytes of the packed groups among these."""
        return sum(self._lengths[index] for index in ones(wanted) if not self._index.has(index))

    def _decoded(self, wanted: bytes) -> Iterator[tuple[int, bytes | None]]:
        packed = self._source.stream(self._packed_spans(wanted))
        for index in ones(wanted):
            if not self._index.has(index):
                yield index, self._checked(index, self._unpacked(index, next(packed)[1]))
            elif (plain := self._checked(index, self._assembled(index))) is not None:
                yield index, plain
            else:  # two blocks with one sum, or a medium that fails
                start = self._packed.offset + sum(self._lengths[:index])
                yield index, self._checked(index, self._unpacked(index, self._source.read(start, self._lengths[index])))

    def _assembled(self, index: int) -> bytes:
        pieces = (
            bytes(count * BLOCK_SIZE) if first is None else self._read(first * BLOCK_SIZE, count * BLOCK_SIZE)
            for first, count in self._index.runs(index)
        )
        return b"".join(pieces)[: self._payload.group_length(index)]

    def _unpacked(self, index: int, stored: bytes) -> bytes:
        length = self._payload.group_length(index)
        try:
            return Unpacker(stored).take(length) if stored else bytes(length)
        except PackedError as e:
            log.warning("group %d of the block list cannot be unpacked: %s", index, e)
            return b""

    # keeps: S2 (in the worker's process)
    def _checked(self, index: int, plain: bytes) -> bytes | None:
        digest = self._plain_list[index * DIGEST_SIZE : (index + 1) * DIGEST_SIZE]
        return plain if hashlib.sha256(plain).digest() == digest else None

    def _read(self, offset: int, length: int) -> bytes:
        """Of the base; what cannot be read is not there."""
        try:
            found = os.pread(self._base.descriptor, length, offset)
            os.posix_fadvise(self._base.descriptor, offset, length, os.POSIX_FADV_DONTNEED)
        except OSError as e:
            log.warning("the base cannot be read at byte %d: %s", offset, e.strerror)
            return b""
        return found

    def _sum_spans(self, wanted: bytes) -> Iterator[Span]:
        size = self._entry.group_sums
        return (Span(self._sums.offset + index * size, size) for index in ones(wanted))

    def _packed_spans(self, wanted: bytes) -> Iterator[Span]:
        starts, at = accumulate(self._lengths, initial=self._packed.offset), -1
        start = 0
        for index in ones(wanted):
            while at < index:
                start, at = next(starts), at + 1
            if not self._index.has(index):
                yield Span(start, self._lengths[index])


def _lengths(data: bytes, packed: int, payload: Payload) -> array[int]:
    """The table of lengths, in bounds.

    Raises:
        ImageError: `image.blocks`.
    """
    lengths = numbers(data)
    largest = payload.group_size + PACKED_EXTRA
    if sum(lengths) != packed or max(lengths) > largest:
        raise ImageError(
            "the lengths in the block list",
            code="blocks",
            expected=f"{packed} bytes in groups of up to {largest}",
            found=f"{sum(lengths)} in groups of up to {max(lengths)}",
        )
    return lengths
