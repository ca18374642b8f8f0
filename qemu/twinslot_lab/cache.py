"""Build results that are kept: one directory for each hash of the inputs."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from twinslot_lab.command import BUILD, step

CACHE = BUILD / "cache"
_STALE = 6 * 3600  # seconds


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


def cached(name: str, key: str, make: Callable[[Path], None], *, base: Path | None = None) -> Path:
    """The directory `<name>-<key>` of the cache, made if it is not there.

    `make` fills an empty directory, which takes its final name only when `make` is done: what has that name is whole.
    Two builders of the same wait for each other; what differs in its inputs is built side by side.
    """
    home = base or CACHE
    final = home / f"{name}-{key}"
    with alone(home / f".{name}-{key}.lock"):
        if not final.exists():
            work = home / f".{name}-{key}.new"
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            with step(f"build {name}"):
                make(work)
            work.rename(final)
    return final


def keep_used(name: str, used: Path) -> None:
    """Note that a directory of the cache is in use, and remove its older versions that nobody used for hours.

    For what takes much room and is made again in minutes. Whoever works with a version says so more often than that.
    What a maker left that failed or was killed goes, too.
    """
    os.utime(used)
    version = f"{name}-{'[0-9a-f]' * 16}"
    for other in (*used.parent.glob(version), *used.parent.glob(f".{version}.new")):
        with contextlib.suppress(FileNotFoundError):  # somebody else was faster
            if time.time() - other.stat().st_mtime > _STALE:
                shutil.rmtree(other)
