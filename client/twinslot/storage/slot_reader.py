"""The running slot, read-only: where groups are taken from that need not be fetched (S1: never opened for writing)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from twinslot.core.bounds import GROUPS_MAX
from twinslot.core.errors import DeviceError
from twinslot.storage.known_lists import KnownList

READ_SIZE: Final = 1024 * 1024  # bytes at once; a multiple of every group size


class SlotReader:
    """One partition, opened O_RDONLY. Owns its descriptor; close it.

    What is read is dropped from the page cache again, so that an update does not push out what the device works with.
    """

    def __init__(self, path: str, descriptor: int) -> None:
        self.path, self.descriptor = path, descriptor

    @property
    def size(self) -> int:
        """Bytes of the whole partition."""
        return os.lseek(self.descriptor, 0, os.SEEK_END)

    def forget(self) -> None:
        """Drop what the kernel kept of it, so that what is read next comes from the medium.

        Raises:
            DeviceError: `device.read`.
        """
        try:
            os.posix_fadvise(self.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        except OSError as e:
            raise DeviceError(f"cannot read '{self.path}'", code="read", found=e.strerror) from e

    def read(self, offset: int, length: int) -> bytes:
        """At most `length` bytes; fewer at the end.

        Raises:
            DeviceError: `device.read` with the offset.
        """
        try:
            pieces = []
            while length and (piece := os.pread(self.descriptor, length, offset)):
                os.posix_fadvise(self.descriptor, offset, len(piece), os.POSIX_FADV_DONTNEED)
                pieces.append(piece)
                offset, length = offset + len(piece), length - len(piece)
        except OSError as e:
            message = f"cannot read '{self.path}' at byte {offset}"
            raise DeviceError(message, code="read", found=e.strerror, hint="the medium is failing") from e
        return b"".join(pieces)

    def close(self) -> None:
        """Release the descriptor; may be called again."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def open_reader(path: str | Path) -> SlotReader:
    """Open a partition for reading. The caller closes it.

    Raises:
        DeviceError: `device.slot-read`.
    """
    try:
        return SlotReader(str(path), os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY))
    except OSError as e:
        raise DeviceError(f"the slot '{path}' cannot be read", code="slot-read", found=e.strerror) from e


def list_on(reader: SlotReader, size: int, group_size: int, tick: Callable[[int], None]) -> KnownList:
    """The plain list of what a partition holds now, as far as a list may go: `GROUPS_MAX` groups.

    Args:
        reader: Of the partition.
        size: Bytes of the payload on it.
        group_size: Bytes.
        tick: Told of the bytes of each step.

    Raises:
        DeviceError: It cannot be read, or is smaller than that.
    """
    whole, digests = hashlib.sha256(), bytearray()
    size = min(size, GROUPS_MAX * group_size)
    for start in range(0, size, READ_SIZE):
        piece = memoryview(reader.read(start, min(READ_SIZE, size - start)))
        if len(piece) != min(READ_SIZE, size - start):
            raise DeviceError(f"'{reader.path}' ends early", code="size", expected=size, found=start + len(piece))
        whole.update(piece)
        for offset in range(0, len(piece), group_size):
            digests += hashlib.sha256(piece[offset : offset + group_size]).digest()
        tick(len(piece))
    return KnownList(size, group_size, whole.hexdigest(), bytes(digests))
