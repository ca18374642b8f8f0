"""Where an output really goes: a file, or something that is written to and never replaced.

Links are followed, so the file that a link names is replaced and the link stays. A device, a pipe, a socket and a
descriptor of this process (`-`, `/dev/stdout`, `/dev/fd/3`) are streams.
"""

from __future__ import annotations

import os
import re
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

from twinslot.core.errors import DeviceError

STANDARD_OUTPUT: Final = "-"
_LINKS_MAX: Final = 40  # as many as the kernel follows (path_resolution(7))
_DESCRIPTORS: Final = re.compile(r"/proc/(\d+)/fd")
_STREAMS: Final = (stat.S_ISCHR, stat.S_ISBLK, stat.S_ISFIFO, stat.S_ISSOCK)


@dataclass(frozen=True, slots=True)
class OutputPlace:
    """What a name stands for.

    Attributes:
        given: The name as it was given, for messages.
        path: Where it leads, links followed.
        stream: It is written to and never replaced.
        descriptor: Of this process; a stream.
    """

    given: str
    path: Path
    stream: bool = False
    descriptor: int | None = None

    @property
    def on_standard_output(self) -> bool:
        """Whether what is written there comes out where messages for people would."""
        if self.descriptor is not None:
            return os.path.sameopenfile(self.descriptor, 1)
        return self.stream and _is_standard_output(self.path)


def names_directory(given: str) -> bool:
    """Whether a name can only be a directory's, or is one's."""
    return bool(given) and (given.rpartition("/")[2] in ("", ".", "..") or Path(given).is_dir())


def find_place(given: str) -> OutputPlace:
    """Follow a name to where it leads.

    Raises:
        DeviceError: `device.output`: a directory, a loop of links, or the way there is none.
    """
    if given == STANDARD_OUTPUT:
        return OutputPlace(given, Path("/dev/stdout"), stream=True, descriptor=1)
    if names_directory(given):
        raise cannot_write(given, "a directory", expected="the name of a file")
    path = Path(given)
    for _ in range(_LINKS_MAX):
        mode = _mode(path, given)
        if mode is None or not stat.S_ISLNK(mode):
            break
        if (match := _DESCRIPTORS.fullmatch(str(path.parent.resolve()))) and path.name.isdigit():
            own = int(path.name) if int(match[1]) == os.getpid() else None
            return OutputPlace(given, path, stream=True, descriptor=own)
        path = path.parent / path.readlink()
    else:
        raise cannot_write(given, "links that lead in a circle")
    if mode is not None and stat.S_ISDIR(mode):
        raise cannot_write(given, "a directory", expected="the name of a file")
    return OutputPlace(given, path, stream=mode is not None and any(is_kind(mode) for is_kind in _STREAMS))


def _mode(path: Path, given: str) -> int | None:
    """Of the name itself; None when there is nothing, but could be."""
    try:
        return path.lstat().st_mode
    except FileNotFoundError:
        if _DESCRIPTORS.fullmatch(str(path.parent.resolve())):
            raise cannot_write(given, "a descriptor that is not open") from None
        if not path.parent.is_dir():
            raise cannot_write(given, f"no directory '{path.parent}'") from None
        return None
    except NotADirectoryError:
        raise cannot_write(given, f"'{path.parent}', which is no directory") from None
    except OSError as e:
        raise cannot_write(given, e.strerror or e) from e


def cannot_write(given: str, found: object, *, expected: str | None = None) -> DeviceError:
    """The error for an output that cannot be had."""
    return DeviceError(f"cannot write to '{given}'", code="output", expected=expected, found=found)


@contextmanager
def open_stream(place: OutputPlace) -> Iterator[BinaryIO]:
    """Open a stream for writing. A block device must not be in use (O_EXCL; open(2))."""
    if place.descriptor is not None:
        if sys.stdout is None:  # whoever started this closed it, and its number may be another file's by now
            raise cannot_write(place.given, "a closed standard output")
        sys.stdout.flush()
        with os.fdopen(os.dup(place.descriptor), "wb") as file:
            yield file
        return
    mode = place.path.stat().st_mode
    if stat.S_ISSOCK(mode):
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(place.path))
            with peer.makefile("wb") as made:
                yield made
        return
    flags = os.O_WRONLY | os.O_NOCTTY | (os.O_EXCL if stat.S_ISBLK(mode) else 0)
    with os.fdopen(os.open(place.path, flags), "wb") as file:
        yield cast("BinaryIO", file)


def _is_standard_output(path: Path) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(1))
    except OSError:
        return False
