"""Opening the record's database whatever state it is in, and moving it to a new version.

A file that cannot be used is set aside under another name, never changed and never deleted.
"""

from __future__ import annotations

import contextlib
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from twinslot.core.errors import DeviceError
from twinslot.storage.record import schema
from twinslot.storage.sync import sync_directory, sync_file

MODE: Final = 0o600  # a descriptor for reading is enough to lock the database, and so to hold up each save (S27)
PATIENCE: Final = 5.0  # seconds, together, for whoever keeps the database locked
# Primary result codes (sqlite3.h) that say nothing about the file's content: PERM, BUSY, LOCKED, NOMEM, READONLY,
# IOERR, FULL, CANTOPEN, AUTH.
_CIRCUMSTANCES: Final = frozenset({3, 5, 6, 7, 8, 10, 13, 14, 23})
_LOCKED: Final = frozenset({5, 6})


class BusyTimeout:
    """How long a process waits for a locked database: once, not at each statement of each session.

    Args:
        seconds: For the first statement that finds it locked; afterwards none waits.
    """

    def __init__(self, seconds: float = PATIENCE) -> None:
        self.left = seconds

    # keeps: S27
    def heard(self, error: sqlite3.Error, connection: sqlite3.Connection) -> None:
        """A statement failed: if it has waited in vain, the next one shall not."""
        if _primary(error) in _LOCKED:
            self.left = 0.0
            with contextlib.suppress(sqlite3.Error):
                connection.execute("PRAGMA busy_timeout = 0")


def is_circumstance(error: sqlite3.Error) -> bool:
    """The medium, a limit or another process is at fault; the file itself may be good."""
    return _primary(error) in _CIRCUMSTANCES


@contextlib.contextmanager
def as_device_error(path: Path) -> Iterator[None]:
    """SQLite's errors and the system's become ours.

    Raises:
        DeviceError: `device.record-full`, `device.record`.
    """
    try:
        yield
    except sqlite3.Error as e:
        full = "full" in str(e)
        raise DeviceError(
            f"the record '{path}' cannot be used ({e})",
            code="record-full" if full else "record",
            hint="free some space on the data partition" if full else "see 'twinslot doctor'",
        ) from e
    except OSError as e:
        raise DeviceError(f"the record '{path}' cannot be used ({e.strerror})", code="record") from e


def _primary(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


@dataclass(slots=True)
class Opened:
    """An open database and how it came about."""

    path: Path
    connection: sqlite3.Connection
    fresh: bool = False
    set_aside: tuple[str, ...] = ()
    busy: BusyTimeout = field(default_factory=BusyTimeout)


# keeps: S15, S27
def open_for_writing(path: Path, *, on_trial: bool, busy: BusyTimeout) -> Opened:
    """Open, or set aside and create.

    Args:
        path: The database file.
        busy: How long a lock of another process is waited for.
        on_trial: A new file takes the oldest version, so that the old client can read it after a rollback (S15).

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    set_aside: tuple[str, ...] = ()
    _tighten(path)
    if path.exists():
        problem = _problem(path, busy)
        if problem is None:
            return Opened(path, _connect(path, busy), busy=busy)
        set_aside = (_set_aside(path, problem),)
        _restore_kept_copy(path)
        if path.exists() and _problem(path, busy) is None:
            return Opened(path, _connect(path, busy), set_aside=set_aside, busy=busy)
    path.touch(MODE)
    fresh = Opened(path, _connect(path, busy), fresh=True, set_aside=set_aside, busy=busy)
    try:
        _step_up(fresh.connection, schema.OLDEST if on_trial else schema.NEWEST)
        sync_directory(path.parent)
    except BaseException:
        fresh.connection.close()
        raise
    return fresh


def start_over(path: Path, *, on_trial: bool, busy: BusyTimeout) -> Opened:
    """What SQLite can open but we cannot read is set aside as damaged; a new database is begun.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    aside = _set_aside(path, "damaged")
    fresh = open_for_writing(path, on_trial=on_trial, busy=busy)
    fresh.set_aside = (aside, *fresh.set_aside)
    return fresh


def open_for_reading(path: Path) -> Opened:
    """Open for `status` and `history`, as root.

    Raises:
        DeviceError: There is none, or it cannot be read.
    """
    if not path.exists():
        raise DeviceError(f"there is no record at '{path}'", code="record-missing", hint="has the device booted once?")
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
    except sqlite3.Error as e:
        raise DeviceError(f"the record '{path}' cannot be opened ({e})", code="record") from e
    try:
        connection.execute("SELECT count(*) FROM transactions").fetchone()
    except sqlite3.Error as e:
        connection.close()
        raise DeviceError(f"the record '{path}' cannot be read ({e})", code="record") from e
    return Opened(path, connection)


# keeps: S15
def migrate(opened: Opened) -> bool:
    """Step the database up to this client's version; False when it is there already.

    A copy of the old one is kept as `NAME.vN` first, so that the old client finds what it can read.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    before = version(opened.connection)
    if before >= schema.NEWEST:
        return False
    kept = kept_copy(opened.path, before)
    _copy_durably(opened.path, kept)
    _step_up(opened.connection, schema.NEWEST)
    return True


def kept_copy(path: Path, of_version: int) -> Path:
    """Where the copy of an older version is kept."""
    return path.with_name(f"{path.name}.v{of_version}")


def version(connection: sqlite3.Connection) -> int:
    """The database's version; 0 for an empty file."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _tighten(path: Path) -> None:
    """Earlier clients let everybody read the database and what they set aside."""
    for file in path.parent.glob(f"{path.name}*"):
        with contextlib.suppress(OSError):  # a medium that takes no writes
            status = file.lstat()
            if stat.S_ISREG(status.st_mode) and status.st_mode & 0o077:
                file.chmod(MODE)


def _connect(path: Path, busy: BusyTimeout) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=busy.left, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = TRUNCATE")
        connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error as e:
        busy.heard(e, connection)
        connection.close()
        raise
    return connection


def _problem(path: Path, busy: BusyTimeout) -> str | None:
    """Why the file cannot be used: `damaged` or `newer`; None when it can."""
    connection = sqlite3.connect(path, timeout=busy.left, isolation_level=None)
    try:
        if version(connection) > schema.NEWEST:
            return f"newer-v{version(connection)}"
        healthy = connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok"
        return None if healthy and version(connection) >= schema.OLDEST else "damaged"
    except sqlite3.OperationalError as e:
        if is_circumstance(e):
            busy.heard(e, connection)
            raise
        return "damaged"
    except (sqlite3.DatabaseError, UnicodeDecodeError):  # the latter from SQLite's own words about a damaged page
        return "damaged"
    finally:
        connection.close()


def _set_aside(path: Path, problem: str) -> str:
    """Give what cannot be used another name, which it returns.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    number = 1
    while (aside := path.with_name(f"{path.name}.{problem}.{number}")).exists():
        number += 1
    path.rename(aside)
    journal = path.with_name(path.name + "-journal")
    if journal.exists():
        journal.rename(aside.with_name(aside.name + "-journal"))
    sync_directory(path.parent)
    return aside.name


def _restore_kept_copy(path: Path) -> None:
    """Start from the newest copy that this client can read, made before somebody migrated.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    for number in range(schema.NEWEST, schema.OLDEST - 1, -1):
        kept = kept_copy(path, number)
        if kept.exists():
            _copy_durably(kept, path)
            return


def _copy_durably(source: Path, destination: Path) -> None:
    """Copy whole, or not at all.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    import shutil  # three compressors with it, for a copy once in a while

    partial = destination.with_name(destination.name + ".partial")
    partial.touch(MODE)
    shutil.copyfile(source, partial)
    partial.chmod(MODE)
    sync_file(partial)
    partial.rename(destination)
    sync_directory(destination.parent)


def _step_up(connection: sqlite3.Connection, to: int) -> None:
    """Apply the missing steps in one transaction."""
    steps = "".join(schema.MIGRATIONS[version(connection) : to])
    connection.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version = {to}; COMMIT;")
