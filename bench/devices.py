"""Slots on this host: loop devices over files below build/bench/. Needs root."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from twinslot_lab.command import run

_BLKFLSBUF: Final = 0x1261  # include/uapi/linux/fs.h: _IO(0x12, 97): write out and drop the device's page cache
_STEP: Final = 1 << 20
_SECTOR: Final = 512  # bytes in /sys/block/*/stat, whatever the device's own are: Documentation/block/stat.rst
_WRITTEN, _DISCARDED = 6, 13  # its fields: write sectors, discard sectors


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a device was asked to do, in bytes."""

    written: int
    discarded: int

    def __sub__(self, other: Traffic) -> Traffic:
        return Traffic(self.written - other.written, self.discarded - other.discarded)


class LoopDevice:
    """A file as a block device while the `with` block runs.

    Args:
        file: Below build/bench/; made with `size` bytes if it is missing.
        size: Of the device, in bytes.
    """

    def __init__(self, file: Path, size: int) -> None:
        self.file, self.size = file, size
        if not file.exists() or file.stat().st_size != size:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as out:
                out.truncate(size)
        # Past the host's page cache: what is read back comes from the file, as from a card.
        self.path = Path(run("losetup", "--find", "--show", "--direct-io=on", file).strip())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        run("losetup", "--detach", self.path)

    def flush(self) -> None:
        """Return when all that was written is on the medium."""
        fd = os.open(self.path, os.O_WRONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def drop_caches(self) -> None:
        """Forget what the page cache holds of the device and of the file behind it."""
        self.flush()
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _BLKFLSBUF)
        finally:
            os.close(fd)
        with self.file.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def digest(self, length: int) -> str:
        """SHA-256 of the first bytes as the medium has them now, and proof that nothing stands behind them.

        Returns:
            The digest in hex; with `+tail` when a byte behind `length` is not zero.
        """
        self.drop_caches()
        digest, tail = hashlib.sha256(), False
        with self.path.open("rb") as device:
            while block := device.read(min(_STEP, max(length, 0)) or _STEP):
                if length > 0:
                    digest.update(block)
                else:
                    tail = tail or block.count(0) != len(block)
                length -= len(block)
        return digest.hexdigest() + ("+tail" if tail else "")

    def traffic(self) -> Traffic:
        """Since the device was made."""
        fields = [int(word) for word in Path(f"/sys/block/{self.path.name}/stat").read_text().split()]
        return Traffic(fields[_WRITTEN] * _SECTOR, fields[_DISCARDED] * _SECTOR if len(fields) > _DISCARDED else 0)

    def written(self) -> int:
        """Bytes, zeros included, since the device was made."""
        return self.traffic().written

    def fill_with(self, image: Path) -> None:
        """Make the slot hold an image, all of it written."""
        with image.open("rb") as source, self.path.open("wb", buffering=0) as device:
            while block := source.read(_STEP):
                device.write(block)
        self.drop_caches()

    def clear(self) -> None:
        """Make the slot hold zeros, and its file none of them: `BLKDISCARD` punches holes into the file."""
        run("blkdiscard", "--force", self.path)
        self.drop_caches()

    def fill_with_noise(self, seed: int = 1) -> None:
        """Make the slot hold nothing that any image holds: what a full install finds."""
        noise = random.Random(seed).randbytes(_STEP)
        with self.path.open("wb", buffering=0) as device:
            for at in range(0, self.size, _STEP):
                device.write(noise[: min(_STEP, self.size - at)])
        self.drop_caches()


@functools.cache
def digest_of(path: Path) -> str:
    """SHA-256 of a file that does not change any more, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
