"""The update lock (S17): one flock(2) on one file covers whatever changes slot, record or environment.

Shell shares it: `flock /run/twinslot/lock COMMAND` (util-linux) takes the same lock. The kernel drops it when the
holder ends, however it ends, so no stale lock can stop an update. A forked child that keeps the descriptor keeps the
lock. The holder writes who it is into the file, for the loser's message only; nothing is decided by it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import stat
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from twinslot.core.circumstance import is_shortage, shortage
from twinslot.core.errors import DeviceError, Refusal, RefusedError
from twinslot.storage.sync import make_directory

LOCK_PATH: Final = Path("/run/twinslot/lock")
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
LOCKS: Final = Path("/proc/locks")  # proc_locks(5)
POLL: Final = 0.1  # seconds between two tries while waiting
_HOLDER_LIMIT: Final = 4096  # bytes read of what a holder wrote
_NOT_FOR_WRITING: Final = (errno.EROFS, errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the lock.

    Attributes:
        pid: Process.
        what: What it does, one line.
        since: Seconds on the monotonic clock.
        boot_id: The boot to which `since` belongs.
    """

    pid: int
    what: str
    since: float
    boot_id: str


def this_boot() -> str:
    """The kernel's id of this boot.

    Raises:
        DeviceError: `device.system`, or `device.resources`: it cannot be read.
    """
    try:
        return BOOT_ID.read_text().strip()
    except OSError as e:
        if is_shortage(e):
            raise shortage(f"'{BOOT_ID}' cannot be read now", e) from e
        raise DeviceError(f"'{BOOT_ID}' cannot be read", code="system", found=e, hint="is /proc mounted?") from e


class UpdateLock:
    """Takes the lock for the length of a `with` block.

    Args:
        what: What we are about to do, told to whoever loses.
        path: The lock file; its directory is made if it is missing.
        wait: Seconds to wait for another holder; 0: lose at once.

    Raises:
        RefusedError: `refused.locked` with the holder.
        DeviceError: `device.lock`: the file cannot be made or opened.
    """

    def __init__(
        self,
        what: str,
        path: Path = LOCK_PATH,
        *,
        wait: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._what, self._path, self._wait = what, path, wait
        self._clock, self._sleep = clock, sleep
        self._fd = -1

    def __enter__(self) -> Self:
        fd = self._open()
        try:
            self._take(fd)
            self._sign(fd)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        fd, self._fd = self._fd, -1
        try:
            with contextlib.suppress(OSError):
                os.ftruncate(fd, 0)
        finally:
            os.close(fd)  # drops the lock

    def _open(self) -> int:
        try:
            make_directory(self._path.parent, 0o755)
            fd = self._open_file()
            if stat.S_IMODE(os.fstat(fd).st_mode) != 0o600:
                os.fchmod(fd, 0o600)  # flock(2) needs only a descriptor for reading: nobody else may have one
            return fd
        except OSError as e:
            hint = "changing the device needs root" if isinstance(e, PermissionError) else None
            raise DeviceError(f"the lock '{self._path}' cannot be opened", code="lock", found=e, hint=hint) from e

    def _open_file(self) -> int:
        """For writing where that is possible; the lock itself needs no more than reading.

        Raises:
            OSError: As the system says it; the caller names what was meant.
        """
        try:
            return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as e:
            if e.errno not in _NOT_FOR_WRITING:
                raise
            try:
                return os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                raise e from None  # what is missing is room for it

    # keeps: S17, S27
    def _take(self, fd: int) -> None:
        until = self._clock() + self._wait
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError as e:
                if self._clock() >= until:
                    raise RefusedError(self._refusal(fd)) from e
            except OSError as e:
                raise DeviceError(f"the lock '{self._path}' cannot be taken", code="lock", found=e) from e
            self._sleep(POLL)

    # keeps: S12
    def _sign(self, fd: int) -> None:
        """Who holds the lock, for the loser's message only: /run may be full or read-only, and the lock holds."""
        with contextlib.suppress(OSError):
            holder = Holder(os.getpid(), self._what, self._clock(), BOOT_ID.read_text().strip())
            os.ftruncate(fd, 0)
            os.pwrite(fd, json.dumps(asdict(holder)).encode() + b"\n", 0)

    def _refusal(self, fd: int) -> Refusal:
        holder = read_holder(fd)
        if holder is None:
            who = "a process that left no name"
        else:
            seconds = f", for {self._clock() - holder.since:.0f} s" if holder.since else ""
            who = f"{holder.what} (process {holder.pid}{seconds})"
        return Refusal(
            "locked", "another change of this device is under way", "no holder", who, "wait until it ends, or cancel it"
        )


def read_holder(fd: int) -> Holder | None:
    """Who holds the lock on this open file; None when nobody can be named.

    What the file says counts only if the kernel names the same process; a shell holder writes nothing and is named by
    the kernel alone.
    """
    kernel = _kernel_pid(fd)
    try:
        written = _written(os.pread(fd, _HOLDER_LIMIT, 0))
    except OSError:  # only a courtesy
        written = None
    if written is not None and kernel in (None, written.pid):
        return written
    if kernel is None:
        return None
    try:
        command = Path(f"/proc/{kernel}/comm").read_text().strip()
    except OSError:
        command = "unknown program"
    return Holder(kernel, command, 0.0, "")


def _written(data: bytes) -> Holder | None:
    try:
        fields = json.loads(data)
        return Holder(int(fields["pid"]), str(fields["what"]), float(fields["since"]), str(fields["boot_id"]))
    except (ValueError, KeyError, TypeError, RecursionError):  # torn, foreign or empty: it is only a courtesy
        return None


def _kernel_pid(fd: int) -> int | None:
    """The process that took the flock, from /proc/locks: `1: FLOCK ADVISORY WRITE PID MAJOR:MINOR:INODE 0 EOF`."""
    status = os.fstat(fd)
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        lines = LOCKS.read_text().splitlines()
    except OSError:
        return None
    for fields in map(str.split, lines):
        if len(fields) >= 6 and fields[1] == "FLOCK" and fields[5] == place:
            return int(fields[4]) if int(fields[4]) > 0 else None  # 0 or -1: a process of another namespace
    return None
