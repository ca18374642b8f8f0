"""Stopping a job from another thread."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from twinslot.core.errors import CancelledError
from twinslot.core.model import Reason
from twinslot.core.origin import Origin
from twinslot.core.stream import ImageStream


class Cancellation(threading.Event):
    """An event that also ends a blocked read: setting it closes the stream that is being waited for.

    Attributes:
        by: Who asked to stop; None: nobody did, or whoever asked for the job.
        reason: What is stored: `cancelled`, or `service-stopped` where nobody meant this job.
    """

    def __init__(self) -> None:
        super().__init__()
        self._guard = threading.Lock()
        self._stream: ImageStream | None = None
        self.by: Origin | None = None
        self.reason = Reason.CANCELLED

    def set(self, by: Origin | None = None, reason: Reason = Reason.CANCELLED) -> None:
        """Ask the job to stop; returns at once."""
        if not self.is_set():
            self.by, self.reason = by, reason
        super().set()
        with self._guard:
            if self._stream is not None:
                self._stream.close()

    def error(self) -> CancelledError:
        """How a job ends that was stopped."""
        hint = "the target slot stays unbootable; install again"
        if self.reason is Reason.STOPPED:
            return CancelledError("the update service was stopped", code="stopped", hint=hint)
        return CancelledError("the install was cancelled", hint=hint)

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
