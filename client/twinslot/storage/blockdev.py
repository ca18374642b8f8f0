"""One partition of the target slot: the checks before it is opened, and every way of touching it.

S1: the running slot is never opened for writing; what is mounted, or carries something mounted, is refused, and the
open is exclusive (O_EXCL), so that nobody mounts it meanwhile. Regular files are taken only where the caller says so
(tests, image builds); they get the same interface without the kernel's block calls.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
import struct
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NoReturn

from twinslot.core.circumstance import is_shortage
from twinslot.core.errors import DeviceError, LifecycleError, Refusal, RefusedError
from twinslot.core.model import SECTOR
from twinslot.storage.in_use import refuse_in_use
from twinslot.storage.mounts import Device
from twinslot.storage.write_buffer import WriteBuffer

# include/uapi/linux/fs.h: _IO(0x12, 94), _IO(0x12, 104), _IOR(0x12, 114, size_t), _IO(0x12, 127). A size_t is four
# bytes on 32-bit ARM, and its size is part of the number.
BLKROGET: Final = 0x125E
BLKSSZGET: Final = 0x1268
BLKZEROOUT: Final = 0x127F
BLKGETSIZE64: Final = 0x80001272 | struct.calcsize("@N") << 16

READ_BUFFER: Final = 1 << 19  # bytes; reused, so memory does not grow with the image (S9)
ZERO_STEP: Final = 1 << 28  # bytes per BLKZEROOUT, so that a signal is answered within seconds on slow media
_ZEROS: Final = bytes(1 << 16)
_GONE: Final = (errno.ENXIO, errno.ENODEV, errno.ENOMEDIUM)
_READ_ONLY: Final = (errno.EROFS, errno.EACCES, errno.EPERM)


# keeps: S1
def open_target(path: str | Path, forbidden: Iterable[Device], *, allow_files: bool = False) -> BlockTarget:
    """Open a partition for writing, exclusively. The caller closes it.

    Args:
        path: As configured; links are followed.
        forbidden: Devices of the running slot and those below its root mount.
        allow_files: Take a regular file as well.

    Raises:
        RefusedError: `refused.target-running`, `target-mounted` or `target-busy`; nothing was opened for writing.
        DeviceError: `device.target-gone`, `target-kind`, `target-read-only` or `target-open`.
    """
    real = Path(os.path.realpath(path))
    status = _stat(real)
    is_block = stat.S_ISBLK(status.st_mode)
    if not is_block and not (allow_files and stat.S_ISREG(status.st_mode)):
        raise DeviceError(
            f"the target '{real}' cannot be written", code="target-kind", expected="block device", found=_kind(status)
        )
    if is_block:
        refuse_in_use(real, (os.major(status.st_rdev), os.minor(status.st_rdev)), frozenset(forbidden))
    fd = _open_exclusive(real, is_block=is_block)
    try:
        if os.fstat(fd).st_rdev != status.st_rdev:
            raise DeviceError(f"the target '{real}' changed while it was opened", code="target-open")
        return BlockTarget(str(real), fd, is_block=is_block)
    except OSError as e:
        os.close(fd)
        message = f"the target '{real}' cannot be opened past the page cache"
        raise DeviceError(message, code="target-open", found=e) from e
    except BaseException:
        os.close(fd)
        raise


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as e:
        raise DeviceError(
            f"the target '{path}' is not there",
            code="target-gone",
            found=e.strerror,
            hint="is the partition table right, and '[slots]' in the configuration?",
        ) from e


def _kind(status: os.stat_result) -> str:
    kinds = {stat.S_IFREG: "regular file", stat.S_IFDIR: "directory", stat.S_IFCHR: "character device"}
    return kinds.get(stat.S_IFMT(status.st_mode), "something else")


def _open_exclusive(path: Path, *, is_block: bool) -> int:
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_EXCL if is_block else os.O_NOFOLLOW)
    try:
        return os.open(path, flags)
    except OSError as e:
        if e.errno == errno.EBUSY:
            hint = "a mount in another namespace, swap, device mapper or another program holds it"
            refusal = Refusal("target-busy", f"the target '{path}' is in use", "not in use", e.strerror, hint)
            raise RefusedError(refusal) from e
        code = "target-read-only" if e.errno in _READ_ONLY else "target-gone" if e.errno in _GONE else "target-open"
        raise DeviceError(f"the target '{path}' cannot be opened for writing", code=code, found=e.strerror) from e


class BlockTarget:
    """An open target; implements `TargetDevice`. Owns its descriptors.

    An fsync error means that data already counted as written may be lost, and the kernel reports it only once. So it
    poisons the object: every later call raises the same error, and the slot must be written anew.
    """

    def __init__(self, path: str, fd: int, *, is_block: bool) -> None:
        """Take over the descriptor.

        Raises:
            OSError: As the system says it; the caller names what was meant.
        """
        self._path, self._fd, self._is_block = path, fd, is_block
        self._poison: DeviceError | None = None
        self._closed = False
        if is_block:
            self._size, self._sector = _geometry(path, fd)
        else:
            self._size, self._sector = os.fstat(fd).st_size, SECTOR
        self._buffer = mmap.mmap(-1, READ_BUFFER)  # anonymous mappings are page aligned, as O_DIRECT wants
        self._guard = threading.Lock()  # of the buffer: what was written is read back by another thread
        self._direct_fd, self.is_direct = _open_direct(fd, is_block=is_block)
        self._behind = WriteBuffer(self._write_all, self._write_direct, self._sector if self.is_direct else 0)

    @property
    def path(self) -> str:
        """The device, links followed."""
        return self._path

    @property
    def size(self) -> int:
        """Bytes of the whole partition."""
        return self._size

    @property
    def sector(self) -> int:
        """Logical sector size in bytes: the grain of `read_direct`."""
        return self._sector

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of `data`; see `TargetDevice`."""
        self._check("write", offset, len(data))
        self._behind.write(offset, memoryview(data).cast("B"))

    def zero(self, offset: int, length: int) -> None:
        """Make a range read as zeros: BLKZEROOUT for whole sectors of a device, plain writes for the rest."""
        self._check("zero", offset, length)
        self._behind.hand_over()
        end = offset + length
        first = min(-(-offset // self._sector) * self._sector, end)
        last = max(end // self._sector * self._sector, first)
        if not self._is_block or last == first or not self._zero_sectors(first, last):
            first = last = end
        self._write_zeros(offset, first)
        self._write_zeros(last, end)

    def flush(self) -> None:
        """Return when everything written is on the medium.

        Raises:
            DeviceError: `device.flush`; from then on every call raises it.
        """
        self._check("flush", 0, 0)
        self._behind.hand_over()
        try:
            os.fsync(self._fd)
        except OSError as e:
            self._poison = DeviceError(
                f"the target '{self._path}' lost data that was already written",
                code="flush",
                expected="all data on the medium",
                found=e.strerror,
                hint="the medium is failing; this slot must be written anew",
            )
            raise self._poison from e

    # keeps: S5
    def read_direct(self, offset: int, length: int) -> bytes:
        """Read past the page cache; offset and length in whole sectors."""
        self._check("read", offset, length)
        if offset % self._sector or length % self._sector:
            raise LifecycleError(
                "a direct read must be in whole sectors",
                code="block-device",
                expected=self._sector,
                found=f"{offset}+{length}",
            )
        self._behind.hand_over_region(offset, length)
        pieces = []
        while length:
            piece = self._read_piece(offset, min(length, READ_BUFFER))
            pieces.append(piece)
            offset, length = offset + len(piece), length - len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Release the device; what was held back is written, nothing is flushed. May be called again."""
        if self._closed:
            return
        self._closed = True
        self._behind.close()
        self._buffer.close()
        os.close(self._direct_fd)
        os.close(self._fd)

    def __enter__(self) -> BlockTarget:  # noqa: PYI034 - the class is not made to be inherited from
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check(self, what: str, offset: int, length: int) -> None:
        if self._closed:
            raise LifecycleError(f"cannot {what}: '{self._path}' is closed", code="block-device")
        if self._poison is not None:
            raise self._poison
        if offset < 0 or length < 0 or offset + length > self._size:
            raise LifecycleError(
                f"cannot {what}: the range does not fit '{self._path}'",
                code="block-device",
                expected=f"within {self._size} bytes",
                found=f"{length} bytes at {offset}",
            )

    def _write_direct(self, offset: int, view: memoryview) -> None:
        self._write_all(offset, view, self._direct_fd)

    def _write_all(self, offset: int, view: memoryview, fd: int = -1) -> None:
        while view:
            try:
                done = os.pwrite(self._fd if fd < 0 else fd, view, offset)
            except OSError as e:
                self._failed("write", offset, e)
            if done == 0:
                self._failed("write", offset, OSError(errno.EIO, "nothing was written"))
            view, offset = view[done:], offset + done

    def _write_zeros(self, offset: int, end: int) -> None:
        while offset < end:
            length = min(end - offset, len(_ZEROS))
            self._write_all(offset, memoryview(_ZEROS)[:length])
            offset += length

    def _zero_sectors(self, first: int, last: int) -> bool:
        """Let the kernel do it; False when this device cannot."""
        while first < last:
            length = min(last - first, ZERO_STEP)
            try:
                fcntl.ioctl(self._fd, BLKZEROOUT, struct.pack("@QQ", first, length))
            except OSError as e:
                if e.errno in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL):
                    return False
                self._failed("write", first, e)
            first += length
        return True

    def _read_piece(self, offset: int, length: int) -> bytes:
        with self._guard, memoryview(self._buffer)[:length] as view:
            try:
                if not self.is_direct:  # only a file on a file system without O_DIRECT
                    os.fsync(self._fd)
                    os.posix_fadvise(self._direct_fd, offset, length, os.POSIX_FADV_DONTNEED)
                done = os.preadv(self._direct_fd, [view], offset)
            except OSError as e:
                self._failed("read", offset, e)
            if done == 0:
                self._failed("read", offset, OSError(errno.EIO, "the device ended early"))
            return bytes(view[:done])

    def _failed(self, what: str, offset: int, error: OSError) -> NoReturn:
        hints = {errno.EIO: "the medium is failing", errno.ENOSPC: "the medium or its thin pool is full"}
        hint = "the device is gone" if error.errno in _GONE else hints.get(error.errno or 0)
        raise DeviceError(
            f"cannot {what} '{self._path}' at byte {offset}", code=what, found=error.strerror, hint=hint
        ) from error


def _geometry(path: str, fd: int) -> tuple[int, int]:
    """Size and logical sector size in bytes."""
    try:
        read_only = struct.unpack("@i", fcntl.ioctl(fd, BLKROGET, bytes(4)))[0]
        size = struct.unpack("@Q", fcntl.ioctl(fd, BLKGETSIZE64, bytes(8)))[0]
        sector = struct.unpack("@i", fcntl.ioctl(fd, BLKSSZGET, bytes(4)))[0]
    except OSError as e:
        raise DeviceError(f"the target '{path}' does not answer", code="target-gone", found=e.strerror) from e
    if read_only:
        raise DeviceError(f"the target '{path}' is read-only", code="target-read-only", expected="writable")
    return size, sector


def _open_direct(fd: int, *, is_block: bool) -> tuple[int, bool]:
    """A second descriptor of the same device, past the cache.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    again = f"/proc/self/fd/{fd}"
    if is_block:
        return os.open(again, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC), True
    try:
        return os.open(again, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC), True
    except OSError as e:
        if is_shortage(e):
            raise
    return os.open(again, os.O_RDONLY | os.O_CLOEXEC), False
