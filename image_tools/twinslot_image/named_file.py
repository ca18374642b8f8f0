"""Files whose errors say which file it was: the system tells that only of those it could not open."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

SMALL_MAX: Final = 16 * 1024 * 1024  # bytes; keys, documents and descriptions are far below


@contextmanager
def naming(given: str | Path) -> Iterator[None]:
    """An error that names no file is about this one."""
    try:
        yield
    except OSError as e:
        if e.filename is None:
            e.filename = str(given)
        raise


def read_small(path: Path) -> bytes:
    """A key, a document or a description; a device that never ends is none.

    Raises:
        OSError: It cannot be read, or has more than `SMALL_MAX` bytes (EFBIG).
    """
    with naming(path), path.open("rb") as file:
        data = file.read(SMALL_MAX + 1)
    if len(data) > SMALL_MAX:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return data


class NamedFile(io.FileIO):
    """A file, unbuffered, under the name that the user knows it by.

    Args:
        descriptor: Of the open file; closed with this.
        given: The name.
        mode: `rb` or `wb`.
    """

    def __init__(self, descriptor: int, given: str | Path, mode: str) -> None:
        super().__init__(descriptor, mode)
        self._given = given

    def write(self, data: Any) -> int:
        """As `io.FileIO`."""
        with naming(self._given):
            return super().write(data)

    def readinto(self, buffer: Any) -> int:
        """As `io.FileIO`."""
        with naming(self._given):
            return super().readinto(buffer)
