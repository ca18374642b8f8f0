"""Files whose errors say which file it was: the system tells that only of those it could not open."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def naming(given: str | Path) -> Iterator[None]:
    """An error that names no file is about this one."""
    try:
        yield
    except OSError as e:
        if e.filename is None:
            e.filename = str(given)
        raise


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
