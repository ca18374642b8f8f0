"""The log of both drives: started, read, and cut into the moments at which power may vanish.

A folder holds `log` (entries of `ENTRY`, in the order in which the guest was answered), `data` (what was written, equal
blocks once), and the images from which the recording began.
"""

from __future__ import annotations

import mmap
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final

from twinslot_lab.errors import LabError

ENTRY: Final = struct.Struct("<BBBxxxxxQQQd")  # as nbd_plugin.py writes it
PLUGIN: Final = Path(__file__).with_name("nbd_plugin.py")
_START: Final = 20  # seconds for nbdkit to listen


class Drive(IntEnum):
    """Number of a drive in the log."""

    DISK = 0  # virtio: a write may be lost until a flush
    CARD = 1  # SD: a write is durable once answered


class DriveOp(IntEnum):
    """What was asked."""

    WRITE = 1
    ZERO = 2
    TRIM = 3
    FLUSH = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """One request that was answered.

    Attributes:
        number: Position in the log, from 0.
        drive: Which drive.
        op: What.
        fua: Durable when answered, whatever is flushed.
        offset: Bytes from the start of the drive.
        length: Bytes; 0 for a flush.
        place: Where its data stands in the side file.
        seconds: Since the server started.
    """

    number: int
    drive: Drive
    op: DriveOp
    fua: bool
    offset: int
    length: int
    place: int
    seconds: float


class Log:
    """A recorded log, read only; holds the side file open.

    Raises:
        LabError: It is not there, or ends within an entry.
    """

    def __init__(self, folder: Path) -> None:
        try:
            raw = (folder / "log").read_bytes()
            with (folder / "data").open("rb") as data:
                size = (folder / "data").stat().st_size
                self._data = mmap.mmap(data.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
        except OSError as e:
            raise LabError(f"no log in '{folder}': {e.strerror}") from e
        if len(raw) % ENTRY.size:
            raise LabError(f"the log in '{folder}' ends within an entry")
        self.entries: tuple[Entry, ...] = tuple(
            Entry(number, Drive(drive), DriveOp(op), bool(flags & 1), offset, length, place, seconds)
            for number, (drive, op, flags, offset, length, place, seconds) in enumerate(ENTRY.iter_unpack(raw))
        )

    def content(self, entry: Entry) -> bytes:
        """What the entry leaves on its range: the data, or zeros; what was trimmed reads as zeros."""
        return self.piece(entry, 0, entry.length)

    def piece(self, entry: Entry, offset: int, length: int) -> bytes:
        """Some bytes of that."""
        if entry.op is DriveOp.WRITE:
            return bytes(self._data[entry.place + offset : entry.place + offset + length])
        return bytes(length)


@contextmanager
def served(folder: Path, disk: Path, card: Path) -> Iterator[Mapping[str, str]]:
    """Both drives behind one NBD server on a Unix socket; gives the options for `QemuBoard(drives=...)`.

    Args:
        folder: Takes `log` and `data`.
        disk: Raw file, changed.
        card: Raw file, changed.
    """
    place = tempfile.TemporaryDirectory(prefix="nbd-")  # the path of a Unix socket is short (unix(7): 108 bytes)
    path = Path(place.name) / "socket"
    files = (f"disk={disk}", f"card={card}", f"log={folder / 'log'}", f"data={folder / 'data'}")
    argv = ("nbdkit", "--foreground", "--exit-with-parent", "--unix", str(path), "python", str(PLUGIN), *files)
    with (folder / "nbdkit.log").open("wb") as said:
        try:
            server = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        except OSError as e:
            raise LabError("nbdkit cannot be started", hint="apt install the list in qemu/apt-packages.txt") from e
    try:
        _wait_for(path, server, folder / "nbdkit.log")
        # Unsafe modes would swallow the guest's flushes; writeback hands each one on.
        options = "format=raw,cache=writeback,discard=unmap,file=nbd+unix:///{name}?socket={socket}"
        yield {drive.name.lower(): options.format(name=drive.name.lower(), socket=path) for drive in Drive}
    finally:
        server.terminate()
        server.wait(_START)
        place.cleanup()


def _wait_for(place: Path, server: subprocess.Popen[bytes], said: Path) -> None:
    """Until somebody can connect: the socket is there a moment earlier."""
    until = time.monotonic() + _START
    while not _listens(place):
        if server.poll() is not None or time.monotonic() > until:
            raise LabError(f"nbdkit does not serve: {said.read_text(errors='replace')[-500:]}")
        time.sleep(0.02)


def _listens(place: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(place)) == 0
