"""nbdkit's Python plugin: both drives of a board, and one ordered log of what was written and flushed.

Runs in nbdkit's own interpreter, with the standard library only; log.py describes the log's layout and starts it.
nbdkit gives a Python plugin one request at a time, over all connections: that is the one order of both drives. A
request is logged before it is answered, so what the guest was told is done stands in the log.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time

import nbdkit  # type: ignore[import-not-found]  # nbdkit brings it

API_VERSION = 2
DRIVES = ("disk", "card")  # export names; the position is the drive's number in the log
WRITE, ZERO, TRIM, FLUSH = 1, 2, 3, 4
FUA = 1  # flag: this write is on the medium when it is answered
ENTRY = struct.Struct("<BBBxxxxxQQQd")  # drive, op, flags, offset, length, place of the data, seconds

_config: dict[str, str] = {}
_drives: dict[str, int] = {}
_places: dict[bytes, int] = {}  # digest of logged data -> where it stands
_began = time.monotonic()
_log = _data = -1


def config(key: str, value: str) -> None:
    """`disk`, `card`: raw files; `log`, `data`: new files."""
    _config[key] = value


def config_complete() -> None:
    """Open everything."""
    global _log, _data
    for name in DRIVES:
        _drives[name] = os.open(_config[name], os.O_RDWR | os.O_CLOEXEC)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
    _log, _data = (os.open(_config[name], flags, 0o644) for name in ("log", "data"))


def open(readonly: bool) -> str:  # noqa: A001, ARG001 - nbdkit's name
    """One connection to one drive."""
    name = nbdkit.export_name()
    if name not in _drives:
        raise ValueError(f"no drive '{name}'")
    return str(name)


def get_size(drive: str) -> int:
    """Bytes."""
    return os.fstat(_drives[drive]).st_size


def can_fua(drive: str) -> int:  # noqa: ARG001
    """The flag arrives with the write."""
    return int(nbdkit.FUA_NATIVE)


def pread(drive: str, buffer: bytearray, offset: int, flags: int) -> None:  # noqa: ARG001
    """Fill the buffer."""
    done = os.preadv(_drives[drive], [buffer], offset)
    if done != len(buffer):
        raise OSError(f"short read of '{drive}' at {offset}")


def pwrite(drive: str, buffer: bytes, offset: int, flags: int) -> None:
    """Write and log."""
    if os.pwrite(_drives[drive], buffer, offset) != len(buffer):
        raise OSError(f"short write to '{drive}' at {offset}")
    _append(drive, WRITE, flags, offset, len(buffer), _keep(bytes(buffer)))


def zero(drive: str, count: int, offset: int, flags: int) -> None:
    """Zeros, in a file that may stay sparse."""
    _make_zero(drive, offset, count)
    _append(drive, ZERO, flags, offset, count, 0)


def trim(drive: str, count: int, offset: int, flags: int) -> None:
    """What is trimmed reads as zeros here."""
    _make_zero(drive, offset, count)
    _append(drive, TRIM, flags, offset, count, 0)


def flush(drive: str, flags: int) -> None:
    """Only logged: what a power cut would leave is computed from the log, not from this machine's disk."""
    _append(drive, FLUSH, flags, 0, 0, 0)


def _make_zero(drive: str, offset: int, count: int) -> None:
    piece = bytes(min(count, 1 << 20))
    while count:
        done = os.pwrite(_drives[drive], piece[:count], offset)
        offset, count = offset + done, count - done


def _keep(data: bytes) -> int:
    digest = hashlib.blake2b(data, digest_size=20).digest()
    if digest not in _places:
        _places[digest] = os.fstat(_data).st_size
        if os.write(_data, data) != len(data):
            raise OSError("the log is full")
    return _places[digest]


def _append(drive: str, op: int, flags: int, offset: int, length: int, place: int) -> None:
    durable = FUA if flags & nbdkit.FLAG_FUA else 0
    now = time.monotonic() - _began
    os.write(_log, ENTRY.pack(DRIVES.index(drive), op, durable, offset, length, place, now))
