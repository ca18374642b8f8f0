"""Reading back behind the writer, so that an install does not wait for the medium twice.

A region is read back early only after a device flush that began when the region had been written for the last time.
What is read is what `writer` checks at the end of an install without this: the order of S5 does not change, since the
first group is still written after everything else was read back.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Final

from twinslot.core.errors import LifecycleError
from twinslot.storage.base import TargetDevice

STEP: Final = (
    16 * 1024 * 1024
)  # bytes between two flushes; each costs an eMMC some milliseconds, so not for every group

AT_ONCE: Final = 4  # steps that are read back in one go; whoever cancels waits for them

# First and end, bytes, and a thread that is idle meanwhile: reads that region and compares; raises DeviceError.
ReadBack = Callable[[int, int, Executor | None], None]


class ReadBehind:
    """Flushes and reads back what was written for good, one region at a time, in ascending order.

    A power cut at any point loses nothing: the target is unloadable until all of it was read back.

    Args:
        device: The target. Written by the caller while a region behind is read.
        read_back: Reads a region past every cache and compares it.
        run: Where regions are read back, one at a time; its owner shuts it down before the device is closed. None:
            nothing is done before `finish`.
        step: Bytes that must have come together before a flush is worth it; a multiple of the group size.
    """

    def __init__(
        self, device: TargetDevice, read_back: ReadBack, run: Executor | None = None, step: int = STEP
    ) -> None:
        self._device, self._read_back, self._run, self._step = device, read_back, run, step
        self._done = 0  # everything below was read back, or is being read back now
        self._at_work: Future[None] | None = None

    def writing(self, offset: int) -> None:
        """Tell that bytes from `offset` on are about to be written.

        Raises:
            LifecycleError: `lifecycle.sweep`: what stands there was read back already; nothing would look at it again.
        """
        if offset < self._done:
            raise LifecycleError("sweep: what was read back is written again", code="sweep", expected=self._done)

    def reached(self, end: int) -> None:
        """Tell that nothing below `end` bytes will be written again.

        Raises:
            DeviceError: A region that was read back since is not what was written.
        """
        if self._run is None or (self._at_work is not None and not self._at_work.done()):
            return
        self._await_reading()
        if end - self._done >= self._step:
            first = self._done
            self._done = min(end, first + AT_ONCE * self._step)
            self._at_work = self._run.submit(self._flush_and_read, first, self._done, None)

    def finish(self, end: int) -> None:
        """Flush and read back the rest, up to `end` bytes; errors as `reached`."""
        self._await_reading()
        first, self._done = self._done, end
        self._flush_and_read(first, end, self._run)

    def _await_reading(self) -> None:
        at_work, self._at_work = self._at_work, None
        if at_work is not None:
            at_work.result()

    def _flush_and_read(self, first: int, end: int, idle: Executor | None) -> None:
        self._device.flush()
        self._read_back(first, end, idle)
