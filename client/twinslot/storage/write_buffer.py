"""Writes that follow each other, handed to the medium as one, by a thread of its own.

A group is 64 KiB; media take a mebibyte in a fraction of the time of sixteen such writes, and past the page cache it
costs neither a copy of the image there nor what the device had in it (docs/decisions/0016-writing-past-the-cache.md).
While the medium takes one, the next is filled (docs/decisions/0079-an-install-that-overlaps.md).
"""

from __future__ import annotations

import contextlib
import mmap
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from twinslot.core.errors import DeviceError

WRITE_BUFFER: Final = 1 << 20  # bytes; there are two

Write = Callable[[int, memoryview], None]  # offset, and all of what is to stand there; raises DeviceError


class WriteBuffer:
    """Holds back what was written last, until it is `WRITE_BUFFER` bytes, or somebody needs it on the medium.

    What is held back, and what is on its way, is in no cache: `hand_over` comes before every flush, `hand_over_region`
    before every read. For several threads at once.

    Args:
        plain: Writes any bytes.
        direct: Writes whole sectors from page-aligned memory; also called by a thread of this object.
        sector: Bytes that `direct` needs offsets and lengths to be multiples of; 0: there is no `direct`.
    """

    def __init__(self, plain: Write, direct: Write, sector: int) -> None:
        """Make the buffers.

        Raises:
            OSError: As the system says it; the caller names what was meant.
        """
        self._plain, self._direct, self._sector = plain, direct, sector
        self._buffer, self._other = mmap.mmap(-1, WRITE_BUFFER), mmap.mmap(-1, WRITE_BUFFER)
        self._start = self._length = 0  # of what is held back
        self._region = (0, 0)  # where what is on its way and what is held back begins and ends
        self._run = ThreadPoolExecutor(max_workers=1, thread_name_prefix="write")  # has no thread before its first use
        self._under_way: Future[None] | None = None
        self._guard = threading.Lock()

    def write(self, offset: int, view: memoryview) -> None:
        """Take these bytes.

        Raises:
            DeviceError: Some of those before, or these, could not be written.
        """
        with self._guard:
            if offset != self._start + self._length:
                self._hand_over()
                self._start, self._region = offset, (offset, offset)
            self._region = (self._region[0], offset + len(view))
            while view:
                taken = view[: WRITE_BUFFER - self._length]
                self._buffer[self._length : self._length + len(taken)] = taken
                self._length += len(taken)
                view = view[len(taken) :]
                if self._length == WRITE_BUFFER:
                    self._send()

    # keeps: S5
    def hand_over(self) -> None:
        """Return when the medium took all that was written; it may not be durable yet.

        Raises:
            DeviceError: It could not be written; it is not held back any more.
        """
        with self._guard:
            self._hand_over()

    def hand_over_region(self, offset: int, length: int) -> None:
        """As `hand_over`, if any of these bytes is held back or on its way.

        Asked without the lock, which a writer holds while it waits for the medium: whoever reads behind it need not
        wait as well. The region is replaced as one, before bytes are taken, and shrinks only when they are written.
        """
        first, end = self._region
        if offset < end and first < offset + length:
            self.hand_over()

    def close(self) -> None:
        """Hand over what is held back, if it can be, end the thread and release the memory. May be called again.

        Whoever closes without a flush before has an error of its own; what arrived until then is worth keeping.
        """
        with self._guard:
            if self._buffer.closed:
                return
            with contextlib.suppress(DeviceError):
                self._hand_over()
            self._run.shutdown()
            for buffer in (self._buffer, self._other):
                with contextlib.suppress(BufferError):  # an error that somebody still holds points into it
                    buffer.close()

    def _send(self) -> None:
        """Have the thread write a full buffer, if that is whole sectors, and fill the other one meanwhile."""
        if not self._sector or self._start % self._sector:
            self._hand_over()
            return
        start = self._take()
        self._await_medium()
        self._buffer, self._other = self._other, self._buffer
        self._region = (start, self._region[1])
        self._under_way = self._run.submit(self._write_whole, start, self._other)

    def _write_whole(self, start: int, buffer: mmap.mmap) -> None:
        with memoryview(buffer) as view:
            self._direct(start, view)

    def _await_medium(self) -> None:
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()

    def _hand_over(self) -> None:
        start = self._take()
        try:
            self._await_medium()
            if start < self._start:
                self._write_held(start, self._start - start)
        finally:
            self._region = (self._start, self._region[1])

    def _take(self) -> int:
        """Count what is held back as gone, written or not; where it began."""
        start = self._start
        self._start, self._length = start + self._length, 0
        return start

    def _write_held(self, start: int, length: int) -> None:
        whole = length // self._sector * self._sector if self._sector and start % self._sector == 0 else 0
        with memoryview(self._buffer) as view:
            if whole:
                self._direct(start, view[:whole])
            if whole < length:
                self._plain(start + whole, view[whole:length])
