"""Making names and contents durable."""

from __future__ import annotations

import os
from pathlib import Path


def make_directory(path: Path, mode: int) -> None:
    """Make a directory and what is missing above it, with this mode whatever the umask; one that stands is left.

    Raises:
        OSError: It cannot be made.
    """
    if path.is_dir():
        return
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)


def sync_directory(directory: Path) -> None:
    """Make creations, renames and deletions in a directory survive a power cut (fsync(2), NOTES).

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Make a file's contents survive a power cut.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, data: bytes, mode: int) -> None:
    """Replace a file: the old one or the new one, whenever power goes (rename(2) after fsync(2)).

    Args:
        path: Of it.
        data: All of it.
        mode: Its permissions, whatever the umask.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    fresh = path.with_name(f"{path.name}~new")
    with fresh.open("wb") as file:
        file.write(data)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    fresh.rename(path)
    sync_directory(path.parent)


def write_output(path: Path, data: bytes, mode: int) -> None:
    """Write what a person has named: a file as `write_among_others` does; anything else is written to.

    A device, a pipe and a socket stay what they are, and so does a link: what it names is replaced.

    Args:
        path: Of it.
        data: All of it.
        mode: The permissions of a file, whatever the umask.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as there:
            there.write(data)
    else:
        write_among_others(path.resolve(), data, mode)


def write_among_others(path: Path, data: bytes, mode: int) -> None:
    """As `write_whole`, where others may write, such as on a stick: no link that stands there is followed.

    Of several at once one stands there, whole. A power cut may leave a temporary file.

    Args:
        path: Of it.
        data: All of it.
        mode: Its permissions, whatever the umask.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    fresh = path.with_name(f".twinslot-{os.urandom(8).hex()}")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        try:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
            fresh.rename(path)
        except BaseException:
            fresh.unlink()
            raise
    sync_directory(path.parent)
