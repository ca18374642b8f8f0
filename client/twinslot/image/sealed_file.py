"""A patch or block list of an encrypted image: sealed in chunks, so that parts of it can be opened.

docs/image-format.md section 11.4. Pure: bytes and arithmetic; `crypto.units` seals and opens.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from twinslot.core.errors import ImageError
from twinslot.core.span import Span
from twinslot.core.text import in_words
from twinslot.image.units import FILE_ID_SIZE, TAG_SIZE, UnitKind, UnitPlace

SEALED_MAGIC: Final = b"\x89TWSD\r\n\x1a"  # as an image's (image-format.md section 2), with other letters
SEALED_VERSION: Final = 1
CHUNK_SIZE: Final = 4096  # bytes of content; groups of a block list ask for less than that at a time
_HEADER: Final = struct.Struct(f"<8sII{FILE_ID_SIZE}sQ")
SEALED_HEADER_SIZE: Final = _HEADER.size
SEALED_MAX: Final = 1 << 40  # bytes; far above what patches and block lists may have themselves


@dataclass(frozen=True, slots=True)
class SealedHead:
    """The front of a sealed file: its random id, and the bytes of its content."""

    file_id: bytes
    size: int

    @property
    def chunks(self) -> int:
        """How many."""
        return -(-self.size // CHUNK_SIZE)

    @property
    def total(self) -> int:
        """Bytes of the whole file."""
        return SEALED_HEADER_SIZE + self.size + self.chunks * TAG_SIZE

    def place(self, chunk: int) -> UnitPlace:
        """Of a chunk."""
        return UnitPlace(UnitKind.CHUNK, 0, chunk)

    def length(self, chunk: int) -> int:
        """Bytes of a sealed chunk; the last one may be shorter."""
        return min(CHUNK_SIZE, self.size - chunk * CHUNK_SIZE) + TAG_SIZE

    def cover(self, chunks: range) -> Span:
        """Where these chunks stand in the file."""
        if not chunks:
            return Span(SEALED_HEADER_SIZE, 0)
        start = SEALED_HEADER_SIZE + chunks.start * (CHUNK_SIZE + TAG_SIZE)
        return Span(start, sum(self.length(chunk) for chunk in chunks))

    def chunks_of(self, span: Span) -> range:
        """The chunks that a part of the content is in.

        Raises:
            ImageError: `image.sealed-file`: it is beyond the end.
        """
        if span.end > self.size:
            raise _bad("the end", f"{span.end} bytes", f"{self.size} bytes")
        if not span.length:
            return range(0)
        return range(span.offset // CHUNK_SIZE, -(-span.end // CHUNK_SIZE))


def parse_sealed_head(data: bytes) -> SealedHead:
    """Read the first `SEALED_HEADER_SIZE` bytes of a sealed file.

    Raises:
        ImageError: `image.sealed-file`: it is none, or of another form.
    """
    if len(data) < SEALED_HEADER_SIZE:
        raise _bad("the length", f"{SEALED_HEADER_SIZE} bytes or more", f"{len(data)} bytes")
    magic, version, chunk, file_id, size = _HEADER.unpack_from(data)
    if magic != SEALED_MAGIC:
        raise _bad("the first bytes", in_words(SEALED_MAGIC), in_words(magic))
    if (version, chunk) != (SEALED_VERSION, CHUNK_SIZE):
        raise _bad("version and chunk size", f"{SEALED_VERSION}, {CHUNK_SIZE}", f"{version}, {chunk}")
    if not 1 <= size <= SEALED_MAX:
        raise _bad("the size of the content", f"1 to {SEALED_MAX} bytes", f"{size} bytes")
    return SealedHead(file_id, size)


def build_sealed_head(head: SealedHead) -> bytes:
    """The front of a sealed file."""
    return _HEADER.pack(SEALED_MAGIC, SEALED_VERSION, CHUNK_SIZE, head.file_id, head.size)


def _bad(what: str, expected: object, found: object) -> ImageError:
    return ImageError(f"the sealed file beside the image: {what}", code="sealed-file", expected=expected, found=found)
