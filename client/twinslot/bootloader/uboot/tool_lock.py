"""The lock of fw_setenv and fw_printenv, made the caller's alone before the tool opens it (S27).

libubootenv (src/uboot_env.c, `libuboot_lock`) opens /var/lock/fw_printenv.lock with `O_CREAT | O_TRUNC`, mode 0666, and
waits in flock(2) without end; U-Boot's own tools do the same. The directory is open to every user. So a file that
others may open lets any of them stop each decision, and a link in its place has the tool truncate what it points to.

Systemd makes the file at each start (systemd/twinslot.tmpfiles); this is for systems where nothing does, and for a
file that a tool made earlier with an open umask. A file that others could have opened is replaced, not narrowed:
whoever has it open could still lock it.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from twinslot.core.circumstance import is_shortage

log = logging.getLogger(__name__)

# The tool says /var/lock; Debian links it to /run/lock, other systems have two directories.
TOOL_LOCKS: Final = (Path("/run/lock/fw_printenv.lock"), Path("/var/lock/fw_printenv.lock"))
WAIT: Final = 2.0  # seconds for a tool that runs now; one run takes tens of milliseconds on a card
POLL: Final = 0.05  # seconds between two looks
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def fault(path: Path) -> str | None:
    """What is wrong with this lock file, a clause for people; None when it is private, or not there.

    `doctor` shows it. Nothing is changed.
    """
    try:
        status = path.lstat()
    except OSError:
        return None
    if stat.S_ISLNK(status.st_mode):
        return "is a link, which the tool would follow"
    if not stat.S_ISREG(status.st_mode):
        return "is not a file"
    if status.st_uid != os.geteuid():
        return f"belongs to user {status.st_uid}"
    if status.st_mode & 0o077 or status.st_nlink > 1:
        return f"may be opened by others (mode {stat.S_IMODE(status.st_mode):04o})"
    return None


# keeps: S27
def make_private(
    paths: tuple[Path, ...] = TOOL_LOCKS,
    *,
    wait: float = WAIT,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """See to it that nobody else can open the tool's lock. What cannot be done is logged: the write decides.

    Args:
        paths: The names of the lock file.
        wait: Seconds to wait for the holder of a file that is about to be replaced.
        clock: Seconds that only rise.
        sleep: Waits some seconds.
    """
    for path in paths:
        try:
            _make_private(path, clock() + wait, clock, sleep)
        except FileNotFoundError:  # no such directory: then the tool makes no lock
            continue
        except OSError as e:
            log.warning("the lock '%s' of the boot environment's tool cannot be made private: %s", path, e.strerror)


def _make_private(path: Path, until: float, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
    """Replace one file, unless it is private already.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    try:
        fd = os.open(path, _OPEN)
    except FileNotFoundError:
        _replace(path)
        return
    except OSError as e:  # a link, or a file that only its owner may read
        if is_shortage(e):  # it may be as it should be, and held
            raise
        _replace(path)
        return
    try:
        if fault(path) is not None:
            _wait_for_holder(fd, until, clock, sleep)
            _replace(path)
    finally:
        os.close(fd)


def _wait_for_holder(fd: int, until: float, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
    """Root's own tool ends in a moment; somebody who keeps the lock is not waited for longer than that."""
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except OSError:
            if clock() >= until:
                return
        sleep(POLL)


def _replace(path: Path) -> None:
    """Put a new file under this name; rename(2) replaces a link itself and follows nothing.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    try:
        fd, fresh = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)  # 0600
    except FileNotFoundError:
        raise
    except OSError as e:  # no room for a file: without one of that name the tool makes its own, with our umask
        if not is_shortage(e):
            path.unlink(missing_ok=True)
        raise
    os.close(fd)
    try:
        if path.is_dir() and not path.is_symlink():  # the tool could write without its lock, but not beside another
            path.rename(tempfile.mkdtemp(prefix=f"{path.name}.", dir=path.parent))
        Path(fresh).rename(path)
    except OSError:
        with contextlib.suppress(OSError):
            Path(fresh).unlink()
        raise
