"""Bytes of an image from a descriptor: a file, a pipe, a USB stick."""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from twinslot.core.errors import ImageError, TransportError
from twinslot.core.span import Span

CHUNK: Final = 256 * 1024  # bytes read at once
TICK: Final = 10.0  # seconds of silence in a pipe after which an empty chunk says that we still wait


class DescriptorSource:
    """An open file or pipe, read from where it stands to its end. The caller owns the descriptor.

    A file may change while it is read: then a digest does not match and nothing of it is used. `explain` tells so,
    since it is the better explanation.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._before = self._state()
        self.fetched = 0  # bytes read so far

    def chunks(self) -> Iterator[bytes]:
        """The bytes; an empty chunk for each `TICK` in which a pipe was silent.

        Raises:
            TransportError: `transport.read`: the system's reason.
        """
        try:
            waits = not stat.S_ISREG(os.fstat(self._descriptor).st_mode)
            while True:
                while waits and not self._ready():
                    yield b""
                try:
                    chunk = os.read(self._descriptor, CHUNK)
                except BlockingIOError:  # another reader of this pipe was faster
                    continue
                if not chunk:
                    return
                self.fetched += len(chunk)
                yield chunk
        except OSError as e:
            raise TransportError("the image cannot be read", code="read", found=e.strerror) from e

    def expect(self, length: int) -> None:
        """A file ends where it ends."""

    def explain(self, error: ImageError) -> ImageError:
        """`image.changed` when the file is not what it was at the start; else the error as it is."""
        if self._state() == self._before:
            return error
        return ImageError(
            "the image file changed while it was read",
            code="changed",
            found=error,
            hint="copy it to its place first, then install",
        )

    def _ready(self) -> bool:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(TICK * 1000))

    def _state(self) -> tuple[int, int] | None:
        """Size and time of the last change of a regular file; a pipe has neither."""
        try:
            status = os.fstat(self._descriptor)
        except OSError:
            return None
        return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


class FileRanges:
    """Parts of a regular file, from where the descriptor stands; the twin of `transport.ranges.RangeSource`.

    The caller owns the descriptor.

    Args:
        descriptor: Of a file that can seek.
        tick: Called after each read.
    """

    def __init__(self, descriptor: int, tick: Callable[[], None] = lambda: None) -> None:
        self._descriptor, self._tick = descriptor, tick
        self._start = os.lseek(descriptor, 0, os.SEEK_CUR)
        self._source = DescriptorSource(descriptor)
        self.fetched = 0  # bytes read so far

    @property
    def size(self) -> int | None:
        """Bytes of the file as it is now."""
        return max(os.fstat(self._descriptor).st_size - self._start, 0)

    def read(self, offset: int, length: int) -> bytes:
        """These bytes, all of them.

        Raises:
            TransportError: `transport.read`: the system's reason.
            ImageError: `image.truncated`: the file ends before.
        """
        pieces, missing = [], length
        try:
            while missing:
                at = self._start + offset + length - missing
                piece = os.pread(self._descriptor, min(missing, CHUNK), at)
                if not piece:
                    raise ImageError("the image file ends early", code="truncated", expected=at + missing, found=at)
                pieces.append(piece)
                missing -= len(piece)
                self.fetched += len(piece)
                self._tick()
        except OSError as e:
            raise TransportError("the image cannot be read", code="read", found=e.strerror) from e
        return b"".join(pieces)

    def stream(self, spans: Iterable[Span]) -> Iterator[tuple[Span, bytes]]:
        """Each span with its bytes, in the order asked. Raises as `read`."""
        for span in spans:
            yield span, self.read(span.offset, span.length)

    def know_by(self, front: bytes) -> None:
        """A file that changes is told by its date; see `explain`."""

    def explain(self, error: ImageError) -> ImageError:
        """As `DescriptorSource.explain`."""
        return self._source.explain(error)

    def close(self) -> None:
        """Nothing to do: the descriptor is the caller's."""


def can_seek(descriptor: int) -> bool:
    """A regular file; everything else is read front to back."""
    return stat.S_ISREG(os.fstat(descriptor).st_mode)
