"""The medium on which the raw copies stand, read past the page cache."""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
from typing import Final, Self

from twinslot.bootloader.base import Place
from twinslot.core.circumstance import is_shortage
from twinslot.core.errors import DeviceError

ALIGNMENT: Final = 4096  # bytes; the largest logical sector in use, so right for every O_DIRECT read


class Medium:
    """Both places, open for reading for the length of a `with` block.

    Keeping the files open while another program writes means that our `flush` hears of its write-back errors: the
    kernel reports them to each open file (errseq), and libubootenv ignores what its own fsync says.
    """

    def __init__(self, places: tuple[Place, ...]) -> None:
        self.places = places
        self._fds: list[int | OSError] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        for place in self.places:
            try:
                fd = _open(place)
            except OSError as e:
                self._fds.append(e)
            else:
                self._stack.callback(os.close, fd)
                self._fds.append(fd)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._fds.clear()

    # keeps: S4
    def read(self, index: int, size: int | None = None) -> bytes:
        """One place, `size` bytes (default: its own size); shorter at the end of the device.

        Raises:
            OSError: The device is gone or its medium failing.
        """
        fd = self._fds[index]
        if isinstance(fd, OSError):
            raise fd
        return read_direct(fd, self.places[index].offset, size or self.places[index].size)

    def restore(self, index: int, data: bytes) -> None:
        """Put back what one place held before, durably. A cut in between leaves a copy whose CRC is wrong.

        Raises:
            DeviceError: `device.env-write`: the old bytes could not be written.
        """
        place = self.places[index]
        try:
            with open(place.device, "r+b", buffering=0) as stream:
                if os.pwrite(stream.fileno(), data, place.offset) != len(data):
                    raise OSError(None, "written only in part")
                os.fsync(stream.fileno())
        except OSError as e:
            raise DeviceError(
                f"a part of a decision stands in the boot environment's copy {place} and cannot be undone",
                code="env-write",
                found=e.strerror,
            ) from e

    def flush(self) -> None:
        """Wait until all that was written is on the medium.

        Raises:
            OSError: Data was lost on the way.
        """
        for fd in self._fds:
            if isinstance(fd, int):
                os.fsync(fd)


def _open(place: Place) -> int:
    """Open one place, for reading.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    fd = os.open(place.device, os.O_RDONLY | os.O_CLOEXEC)
    mode = os.fstat(fd).st_mode
    if not (stat.S_ISBLK(mode) or stat.S_ISREG(mode)):
        os.close(fd)
        raise DeviceError(
            f"the boot environment cannot stand on '{place.device}'",
            code="env-medium",
            expected="block device or file",
            found="raw flash or something else",
            hint="environments on MTD and UBI are not supported",
        )
    return fd


def read_direct(fd: int, offset: int, size: int) -> bytes:
    """Read past the page cache: O_DIRECT, or for files on file systems without it, after dropping what is cached.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    start = offset // ALIGNMENT * ALIGNMENT
    length = -(-(offset + size - start) // ALIGNMENT) * ALIGNMENT
    try:
        direct = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    except OSError as e:
        if is_shortage(e):
            raise
        os.fsync(fd)
        os.posix_fadvise(fd, start, length, os.POSIX_FADV_DONTNEED)
        return os.pread(fd, size, offset)
    try:
        with mmap.mmap(-1, length) as buffer, memoryview(buffer) as view:
            done = _fill(direct, view, start)
            return bytes(view[offset - start : min(offset - start + size, done)])
    finally:
        os.close(direct)


def _fill(fd: int, view: memoryview, offset: int) -> int:
    """Read until the view is full, or the device ends.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    done = 0
    while done < len(view):
        with view[done:] as rest:
            got = os.preadv(fd, [rest], offset + done)
        done += got
        if got == 0 or done % ALIGNMENT:  # the end of the device; an unaligned read after it would be refused
            break
    return done
