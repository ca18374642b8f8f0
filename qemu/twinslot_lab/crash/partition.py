"""The data partition of a state: repaired as the device repairs it, and the record taken out of it without a mount."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

from twinslot_lab.command import run
from twinslot_lab.errors import LabError

RECORD: Final = "/lib/twinslot"  # below /var, where this partition is mounted
_MEMORY: Final = Path("/dev/shm")
_PIECE: Final = 1 << 20
# Its name; that there is no record any more; that files are ours when we are not root (debugfs/dump.c).
_EXPECTED: Final = re.compile(r"^debugfs \d|: File not found by ext2_lookup|while changing ownership of|^\s*$")


class Health(StrEnum):
    """What became of the file system."""

    CLEAN = "clean"  # the journal was replayed, if that
    ERRORS = "errors"  # fsck -p was content, and a full look is not: the device goes on with it
    REPAIRED = "repaired"  # fsck -p was not content, fsck -y was: a torn superblock, for example
    LOST = "lost"  # the device would go on without it, in memory


@dataclass(frozen=True, slots=True)
class FoundPartition:
    """What a boot finds on the data partition: the record's files by name; none if it is lost."""

    health: Health
    files: tuple[tuple[str, bytes], ...]

    @property
    def key(self) -> bytes:
        """The same for the same files."""
        digest = hashlib.sha256(self.health.encode())
        for name, content in self.files:
            digest.update(f"{name} {len(content)}\n".encode() + content)
        return digest.digest()


class Partition:
    """The flushed data partition as a file in memory, and a second file for each state's look at it.

    Args:
        disk: The disk before the first entry.
        start: First byte of the partition.
        size: Bytes.
    """

    def __init__(self, disk: Path, start: int, size: int) -> None:
        self._start, self._end = start, start + size
        self._place = tempfile.TemporaryDirectory(prefix="crash-", dir=_MEMORY if _MEMORY.is_dir() else None)
        self.folder = Path(self._place.name)
        self._flushed, self._look = self.folder / "flushed.img", self.folder / "look.img"
        _cut_out(disk, start, size, self._flushed)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._place.cleanup()

    def flush(self, writes: Iterable[tuple[int, bytes]]) -> None:
        """These became durable: offsets on the disk, and bytes."""
        self._write(self._flushed, writes)

    def look(self, writes: Iterable[tuple[int, bytes]]) -> FoundPartition:
        """With these laid over it: check, repair, take out the record.

        Raises:
            LabError: debugfs cannot read what e2fsck calls good.
        """
        run("cp", "--sparse=always", self._flushed, self._look)
        self._write(self._look, writes)
        health = _repair(self._look)
        return FoundPartition(health, () if health is Health.LOST else self._record())

    def _record(self) -> tuple[tuple[str, bytes], ...]:
        out = self.folder / "record"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        argv = ["debugfs", "-R", f"rdump {RECORD} {out}", str(self._look)]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        odd = [line for line in (done.stdout + done.stderr).splitlines() if not _EXPECTED.search(line)]
        if odd or done.returncode:  # its status is 0 also when it could not read a file
            raise LabError(f"debugfs cannot take out '{RECORD}': {'; '.join(odd) or done.returncode}")
        files = sorted(file for file in out.rglob("*") if file.is_file())
        return tuple((file.name, file.read_bytes()) for file in files)

    def _write(self, path: Path, writes: Iterable[tuple[int, bytes]]) -> None:
        with path.open("r+b") as file:
            for offset, data in writes:
                first, end = max(offset, self._start), min(offset + len(data), self._end)
                if first < end:
                    file.seek(first - self._start)
                    file.write(data[first - offset : end - offset])


def _repair(image: Path) -> Health:
    """As mount.board-data does it, and then a full look. e2fsck(8), exit code: 0 and 1 are good, more is not."""
    if _e2fsck("-p", image) <= 1:
        return Health.CLEAN if _e2fsck("-fn", image) == 0 else Health.ERRORS
    return Health.REPAIRED if _e2fsck("-y", image) <= 1 else Health.LOST


def _e2fsck(option: str, image: Path) -> int:
    done = subprocess.run(["e2fsck", option, str(image)], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.returncode


def _cut_out(disk: Path, start: int, size: int, out: Path) -> None:
    """A part of a disk as a sparse file."""
    with disk.open("rb") as source, out.open("wb") as target:
        source.seek(start)
        target.truncate(size)
        for at in range(0, size, _PIECE):
            piece = source.read(_PIECE)
            if piece.count(0) != len(piece):
                target.seek(at)
                target.write(piece)
