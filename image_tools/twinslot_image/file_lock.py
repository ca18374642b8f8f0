"""One writer at a time for a file that is replaced by rename."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from twinslot_image.output_place import OutputPlace, cannot_write
from twinslot_image.stop import undisturbed


@contextmanager
def locked(path: Path) -> Iterator[BinaryIO]:
    """The file, open for reading and locked (flock(2)); waits while another process has it.

    Whoever waited gets the file that bears the name then, since the other one may have replaced it.

    Raises:
        FileNotFoundError: There is none.
    """
    while True:
        with _open(path) as file:
            _lock(file, path)
            if _still_there(path, file):
                yield file
                return


def _open(path: Path) -> BinaryIO:
    """For writing where that is allowed, since NFS locks nothing else (flock(2))."""
    try:
        return path.open("r+b")
    except PermissionError:
        return path.open("rb")


def _lock(file: BinaryIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.stderr.write(f"waiting for another process that writes {str(path)!a}\n")
        sys.stderr.flush()
        fcntl.flock(file, fcntl.LOCK_EX)


def _still_there(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def put_in_place(made: Path, place: OutputPlace, *, fresh: bool) -> None:
    """Give a finished file its name, durably. Never torn apart by a signal.

    Args:
        made: In the same directory.
        place: Its name.
        fresh: No file of that name may be there.

    Raises:
        FileExistsError: One has appeared.
        DeviceError: `device.output`: the system refuses, of a mount point for example.
    """
    with undisturbed():
        try:
            if fresh:
                _put_fresh(made, place.path)
            else:
                made.replace(place.path)
        except FileExistsError:
            raise
        except OSError as e:
            raise cannot_write(place.given, e.strerror or e) from e
        _sync_directory(place.path.parent)


def _put_fresh(made: Path, path: Path) -> None:
    try:
        os.link(made, path)  # unlike a rename it does not replace
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        made.replace(path)
    else:
        made.unlink()


def _sync_directory(path: Path) -> None:
    with suppress(OSError):  # one that may be written and not read, or a file system that cannot
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
