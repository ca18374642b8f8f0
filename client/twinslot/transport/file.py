"""Bytes of an image from a descriptor: a file, a pipe, a USB stick."""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Iterator
from typing import Final

from twinslot.core.errors import BundleError, TransportError

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
                yield chunk
        except OSError as e:
            raise TransportError("the image cannot be read", code="read", found=e.strerror) from e

    def explain(self, error: BundleError) -> BundleError:
        """`bundle.changed` when the file is not what it was at the start; else the error as it is."""
        if self._state() == self._before:
            return error
        return BundleError(
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
