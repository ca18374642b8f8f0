"""Files that appear whole or not at all, and temporary ones that never stay.

A file keeps the mode of what it replaces; a new one gets what the umask leaves. It is flushed to the medium before the
rename, so a power cut leaves the old file or the new one. Hard links to the old file keep the old content.
"""

from __future__ import annotations

import io
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final, cast

from twinslot_image.file_lock import locked, put_in_place
from twinslot_image.named_file import NamedFile, naming
from twinslot_image.output_place import OutputPlace, cannot_write, find_place
from twinslot_image.stop import LEFTOVERS, undisturbed

MODE_PUBLIC: Final = 0o666  # less the umask
MODE_SECRET: Final = 0o600
TEMPORARY: Final = ".twinslot-"  # how the names of temporary files begin


@contextmanager
def replacing(path: Path, mode: int = MODE_PUBLIC) -> Iterator[BinaryIO]:
    """A file that takes its place when the block ends well; `MODE_SECRET` for what only its owner may read."""
    place = _regular(path)
    with beside(place, mode if mode == MODE_SECRET else None) as (sink, made):
        yield sink
        sync(sink)
        put_in_place(made, place, fresh=False)


def write_whole(path: Path, data: bytes, mode: int = MODE_PUBLIC) -> None:
    """Write a small file, whole or not at all."""
    with replacing(path, mode) as sink:
        sink.write(data)


@contextmanager
def rewriting(path: Path) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """A file to read, and the one that takes its place when the block ends well; no other writer comes between."""
    place = _regular(path)
    with locked(place.path) as source, beside(place) as (sink, made):
        yield source, sink
        sync(sink)
        put_in_place(made, place, fresh=False)


def _regular(path: Path) -> OutputPlace:
    place = find_place(os.fspath(path))
    if place.stream:
        raise cannot_write(place.given, "no regular file", expected="a regular file, which can be replaced")
    if place.path.exists() and not os.access(place.path, os.W_OK):
        raise cannot_write(place.given, "a file without write permission")
    return place


@contextmanager
def workspace(folder: Path) -> Iterator[Path]:
    """A directory for temporary files, removed however the block ends."""
    made = _temporary(folder / "any")
    try:
        try:
            made.mkdir(0o700)
        except OSError as e:
            raise cannot_write(str(folder), e.strerror or e) from e
        with naming(folder):
            yield made
    finally:
        with undisturbed():
            shutil.rmtree(made, ignore_errors=True)
            LEFTOVERS.discard(made)


@contextmanager
def spool(folder: Path) -> Iterator[BinaryIO]:
    """A temporary file that never has a name (open(2), O_TMPFILE)."""
    try:
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed below
    except OSError as e:
        raise cannot_write(str(folder), e.strerror or e) from e
    with naming(folder), file:
        yield cast("BinaryIO", file)


@contextmanager
def beside(place: OutputPlace, mode: int | None = None) -> Iterator[tuple[BinaryIO, Path]]:
    """A new file in the same directory, and its name; whatever of it is left at the end is removed.

    Args:
        place: Of the file that it may replace.
        mode: None: that of the file that it may replace, or what the umask leaves.
    """
    made = _temporary(place.path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        try:
            descriptor = os.open(made, flags, mode or MODE_PUBLIC)
        except OSError as e:
            raise cannot_write(place.given, e.strerror or e) from e
        with NamedFile(descriptor, place.given, "wb") as raw:
            _keep(raw, place.path, mode)
            yield cast("BinaryIO", io.BufferedWriter(raw)), made
    finally:
        with undisturbed():
            made.unlink(missing_ok=True)
            LEFTOVERS.discard(made)


def sync(file: BinaryIO) -> None:
    """Everything written is on the medium."""
    file.flush()
    os.fsync(file.fileno())


def _temporary(path: Path) -> Path:
    """A new name beside another; whatever bears it when the program ends is removed."""
    made = path.with_name(f"{TEMPORARY}{secrets.token_hex(8)}")
    LEFTOVERS.add(made)
    return made


def _keep(file: io.FileIO, path: Path, mode: int | None) -> None:
    """Mode and, where this process may, owner of the file that is replaced."""
    try:
        old = path.stat()
    except FileNotFoundError:
        return
    with suppress(OSError):
        os.fchown(file.fileno(), old.st_uid, old.st_gid)
    os.fchmod(file.fileno(), mode or stat.S_IMODE(old.st_mode) & 0o777)
