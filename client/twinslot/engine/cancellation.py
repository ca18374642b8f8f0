"""Stopping a job from another thread."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from twinslot.transport.base import ImageStream


class Cancellation(threading.Event):
    """An event that also ends a blocked read: setting it closes the stream that is being waited for."""

    def __init__(self) -> None:
        super().__init__()
        self._guard = threading.Lock()
        self._stream: ImageStream | None = None

    def set(self) -> None:
        """Ask the job to stop; returns at once."""
        super().set()
        with self._guard:
            if self._stream is not None:
                self._stream.close()

    @contextlib.contextmanager
    def ending(self, stream: ImageStream) -> Iterator[None]:
        """While the block runs, cancelling closes this stream."""
        with self._guard:
            self._stream = stream
            if self.is_set():
                stream.close()
        try:
            yield
        finally:
            with self._guard:
                self._stream = None
