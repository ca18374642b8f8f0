"""Build results that are kept: one directory for each hash of the inputs."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from twinslot_lab import progress
from twinslot_lab.command import BUILD
from twinslot_lab.errors import BuildError, LabError

CACHE = BUILD / "cache"
_WEEK = 7 * 24 * 3600  # seconds
_FULL = 256 << 20  # bytes that are free: below that, what failed is told to have failed for want of them
_in_use: dict[Path, IO[str]] = {}  # the locks of what this process asked for, until it ends
atexit.register(lambda: [lock.close() for lock in _in_use.values()])


def fingerprint(*parts: object) -> str:
    """SHA-256, shortened to 16 hex digits, of anything that prints as JSON; paths stand for their contents.

    A directory counts with the relative name, mode, and bytes (or link target) of everything in it.
    """
    digest = hashlib.sha256()
    for part in parts:
        for line in _describe(part):
            digest.update(line.encode() + b"\n")
    return digest.hexdigest()[:16]


def _describe(part: object) -> Iterable[str]:
    if not isinstance(part, Path):
        yield json.dumps(part, sort_keys=True, default=str)
        return
    files = sorted(part.rglob("*")) if part.is_dir() else [part]
    for file in files:
        if "__pycache__" in file.parts:
            continue
        name = str(file.relative_to(part)) if part.is_dir() else part.name
        if file.is_symlink():
            yield f"{name} -> {file.readlink()}"
        elif file.is_file():
            yield f"{name} {file.stat().st_mode & 0o111:o} {hashlib.sha256(file.read_bytes()).hexdigest()}"


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Whoever else asks for the same lock, a file that is made if needed, waits until this one is done."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def cached(name: str, key: str, make: Callable[[Path], None], *, base: Path | None = None, keep: float = _WEEK) -> Path:
    """The directory `<name>-<key>` of the cache, made if it is not there; it stays while this process lives.

    `make` fills an empty directory, which takes its final name only when `make` is done: what has that name is whole.
    Two builders of the same wait for each other; what differs in its inputs is built side by side.

    Args:
        name: Of all versions.
        key: Of this version: the fingerprint of what it is made of.
        make: See above.
        base: Where the directory goes, if not into the lab's cache.
        keep: Versions of this name that no process uses, and none used for so many seconds, are removed: 0 for what
            takes gigabytes and has one good version at a time.
    """
    home = base or CACHE
    final = home / f"{name}-{key}"
    if final not in _in_use:
        _in_use[final] = _whole(final, make)
        os.utime(final)
        _remove_unused(name, home, keep)
    return final


def _whole(final: Path, make: Callable[[Path], None]) -> IO[str]:
    """Make the directory if it is not there; returns its lock, shared: whoever would remove it asks for it alone."""
    home, name = final.parent, final.name
    home.mkdir(parents=True, exist_ok=True)
    if final.exists():
        progress.passed()
    while True:
        lock = (home / f".{name}.lock").open("w")
        _share(lock, name)
        if final.exists():
            return lock
        with lock, progress.step(f"build {name.rpartition('-')[0]}"):
            fcntl.flock(lock, fcntl.LOCK_EX)  # let go and waited for: it may be made meanwhile
            if not final.exists():
                _make(final, home / f".{name}.new", make)


def _share(lock: IO[str], name: str) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        with progress.step(f"wait for another process that builds {name.rpartition('-')[0]}"):
            fcntl.flock(lock, fcntl.LOCK_SH)


def _make(final: Path, work: Path, make: Callable[[Path], None]) -> None:
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        make(work)
    except (OSError, LabError) as e:
        free = shutil.disk_usage(work).free
        if free >= _FULL:
            raise
        found = f"{free >> 20} MiB are free in '{work.parent}', and '{final.name}' needs more"
        raise BuildError(f"the disk is full: {found}", hint="make clean-cache, or a larger disk") from e
    work.rename(final)


def _remove_unused(name: str, home: Path, keep: float) -> None:
    """Remove the versions that nobody uses and used lately, and what a maker left that failed or was killed."""
    version = f"{name}-{'[0-9a-f]' * 16}"
    for other in home.glob(version):
        with contextlib.suppress(OSError), (home / f".{other.name}.lock").open("w") as lock:  # in use, or gone by now
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if time.time() - other.stat().st_mtime >= keep:
                shutil.rmtree(other)
    for left in home.glob(f".{version}.new"):
        with contextlib.suppress(OSError), left.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left)
