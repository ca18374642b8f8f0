"""Writes that follow each other, handed to the medium as one.

A group is 64 KiB; media take a mebibyte in a fraction of the time of sixteen such writes, and past the page cache it
costs neither a copy of the image there nor what the device had in it (docs/decisions/0016-writing-past-the-cache.md).
"""

from __future__ import annotations

import contextlib
import mmap
import threading
from collections.abc import Callable
from typing import Final

from twinslot.core.errors import DeviceError

WRITE_BUFFER: Final = 1 << 20  # bytes

Write = Callable[[int, memoryview], None]  # offset, and all of what is to stand there; raises DeviceError


class WriteBuffer:
    """Holds back what was written last, until it is `WRITE_BUFFER` bytes, or somebody needs it on the medium.

    What is held back is in no cache: `hand_over` comes before every flush, `hand_over_region` before every read.
    For several threads at once.

    Args:
        plain: Writes any bytes.
        direct: Writes whole sectors from page-aligned memory.
        sector: Bytes that `direct` needs offsets and lengths to be multiples of; 0: there is no `direct`.
    """

    def __init__(self, plain: Write, direct: Write, sector: int) -> None:
        """Make the buffer.

        Raises:
            OSError: As the system says it; the caller names what was meant.
        """
        self._plain, self._direct, self._sector = plain, direct, sector
        self._buffer = mmap.mmap(-1, WRITE_BUFFER)
        self._start = self._length = 0
        self._guard = threading.Lock()

    def write(self, offset: int, view: memoryview) -> None:
        """Take these bytes.

        Raises:
            DeviceError: Those before, or these, could not be written.
        """
        with self._guard:
            if offset != self._start + self._length:
                self._hand_over()
            while view:
                if not self._length:
                    self._start = offset
                taken = view[: WRITE_BUFFER - self._length]
                self._buffer[self._length : self._length + len(taken)] = taken
                self._length += len(taken)
                view, offset = view[len(taken) :], offset + len(taken)
                if self._length == WRITE_BUFFER:
                    self._hand_over()

    # keeps: S5
    def hand_over(self) -> None:
        """Hand over what is held back.

        Raises:
            DeviceError: It could not be written; it is not held back any more.
        """
        with self._guard:
            self._hand_over()

    def hand_over_region(self, offset: int, length: int) -> None:
        """As `hand_over`, if any of these bytes is held back."""
        with self._guard:
            if offset < self._start + self._length and self._start < offset + length:
                self._hand_over()

    def close(self) -> None:
        """Hand over what is held back, if it can be, and release the memory. May be called again.

        Whoever closes without a flush before has an error of its own; what arrived until then is worth keeping.
        """
        with self._guard:
            if not self._buffer.closed:
                with contextlib.suppress(DeviceError):
                    self._hand_over()
            with contextlib.suppress(BufferError):  # an error that somebody still holds points into it
                self._buffer.close()

    def _hand_over(self) -> None:
        start, length = self._start, self._length
        self._length = 0
        if not length:
            return
        whole = length // self._sector * self._sector if self._sector and start % self._sector == 0 else 0
        with memoryview(self._buffer) as view:
            if whole:
                self._direct(start, view[:whole])
            if whole < length:
                self._plain(start + whole, view[whole:length])
