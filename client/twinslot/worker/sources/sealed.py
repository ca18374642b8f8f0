"""Parts of a sealed file beside an encrypted image, opened as they come."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from twinslot.core.errors import ImageError
from twinslot.core.span import Span
from twinslot.image.sealed_file import (
    CHUNK_SIZE,
    SEALED_HEADER_SIZE,
    parse_sealed_head,
)
from twinslot.image.units import TAG_SIZE
from twinslot.transport.http.ranges import RangeSource
from twinslot.worker.opener import RemoteOpener

FIRST: Final = SEALED_HEADER_SIZE + CHUNK_SIZE + TAG_SIZE  # bytes that are asked for at once: they hold most heads


@dataclass(frozen=True, slots=True)
class _Part:
    """A part that was asked for: the chunks that it is in, and those of them that are not here yet."""

    span: Span
    chunks: range
    missing: range


class SealedRanges:
    """The content of a sealed file, by parts: what `RangeSource` is for one that is not.

    Args:
        source: The file; owned by the caller.
        opener: Of the image beside it.

    Raises:
        ImageError: From every method: it is no such file, or does not open.
        TransportError: From every method: the source.
    """

    def __init__(self, source: RangeSource, opener: RemoteOpener) -> None:
        self._source = source
        self._head = parse_sealed_head(source.read(0, SEALED_HEADER_SIZE))
        if source.size is not None and source.size != self._head.total:
            what, expected = "the length of the sealed file beside the image", self._head.total
            raise ImageError(what, code="length", expected=expected, found=source.size)
        self._opener = opener.beside(self._head.file_id)

    @property
    def size(self) -> int:
        """Bytes of the content."""
        return self._head.size

    @property
    def fetched(self) -> int:
        """Bytes fetched so far, of the file."""
        return self._source.fetched

    def read(self, offset: int, length: int) -> bytes:
        """This part of the content."""
        return next(self.stream([Span(offset, length)]))[1]

    def stream(self, spans: Iterable[Span]) -> Iterator[tuple[Span, bytes]]:
        """Each part with its bytes, in the order asked; a chunk that two neighbours share is fetched once."""
        parts: deque[_Part] = deque()
        last = b""  # the chunk that the part before ended in
        for _, sealed in self._source.stream(self._covers(spans, parts)):
            part = parts.popleft()
            plain, last = self._opened(part, sealed, last)
            yield part.span, plain

    def _covers(self, spans: Iterable[Span], parts: deque[_Part]) -> Iterator[Span]:
        """What is to be fetched for each; read ahead of what is handed out."""
        held = -1
        for span in spans:
            chunks = self._head.chunks_of(span)
            missing = range(chunks.start + (held == chunks.start), chunks.stop) if chunks else chunks
            held = chunks[-1] if chunks else held
            parts.append(_Part(span, chunks, missing))
            yield self._head.cover(missing)

    def _opened(self, part: _Part, sealed: bytes, last: bytes) -> tuple[bytes, bytes]:
        if not part.chunks:
            return b"", last
        units, at = [], 0
        for chunk in part.missing:
            length = self._head.length(chunk)
            units.append((self._head.place(chunk), sealed[at : at + length]))
            at += length
        opened = list(self._opener.stream(units))
        plain = b"".join([last, *opened] if len(part.missing) < len(part.chunks) else opened)
        start = part.span.offset - part.chunks.start * CHUNK_SIZE
        return plain[start : start + part.span.length], opened[-1] if opened else last
