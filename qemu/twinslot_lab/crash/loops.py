"""The served drives as block devices of this machine: a FUSE export of each, and loop devices on it. Needs root.

A loop device hands each write and each flush of the kernel on to its file, here to the server; so what the log has is
what the kernel's block layer sent, as it is of a board.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from twinslot_lab.command import run
from twinslot_lab.deadline import Deadline
from twinslot_lab.errors import LabError

_START: Final = 20  # seconds for the exports to come up
_FREE: Final = 180  # seconds for another process to let go of a mount
IN_USE: Final = b" is in use."  # what e2fsck says of a device that is mounted somewhere (e2fsprogs, e2fsck/unix.c)


@contextmanager
def exported(folder: Path, drives: Mapping[str, str]) -> Iterator[dict[str, Path]]:
    """Files that are the drives, by name, while the context lasts.

    Args:
        folder: Takes the files, and what the storage daemon says.
        drives: As `log.served` gives them.

    Raises:
        LabError: The daemon is missing, or cannot export.
    """
    files, argv = {name: folder / f"{name}.export" for name in drives}, ["qemu-storage-daemon"]
    for name, file in files.items():
        file.touch()
        argv += ["--blockdev", f"node-name={name},{_node(drives[name])}"]
        argv += ["--export", f"type=fuse,id={name},node-name={name},mountpoint={file},writable=on"]
    with (folder / "storage.log").open("wb") as said:
        try:
            daemon = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        except OSError as e:
            raise LabError(
                "qemu-storage-daemon cannot be started", hint="apt install the list in qemu/apt-packages.txt"
            ) from e
    try:
        _wait_for(files.values(), daemon, folder / "storage.log")
        yield files
    finally:
        daemon.terminate()
        daemon.wait(_START)


@contextmanager
def loop(file: Path, start: int = 0, size: int = 0) -> Iterator[Path]:
    """A loop device on a part of a file.

    Args:
        file: What it stands on.
        start: First byte.
        size: Bytes; 0: to the end.
    """
    argv = ["losetup", "--find", "--show", "--offset", str(start), *(("--sizelimit", str(size)) if size else ())]
    device = Path(run(*argv, file).strip())
    try:
        yield device
    finally:
        run("losetup", "--detach", device)


def _checked(device: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["e2fsck", "-p", str(device)], stdin=subprocess.DEVNULL, capture_output=True, check=False)


@contextmanager
def mounted(device: Path, place: Path) -> Iterator[Path]:
    """A file system, checked as a board checks it (mount.board-data), and mounted.

    A mount name space that another process made meanwhile has a copy of an earlier mount: its end is waited for, since
    until then the file system is neither whole on the device nor at rest.
    """
    free = Deadline(_FREE, f"'{device}' is in use no more")
    while IN_USE in (done := _checked(device)).stdout and not free.passed:
        time.sleep(0.1)
    if done.returncode > 1:
        raise LabError(f"e2fsck does not repair '{device}': {done.stdout.decode(errors='replace')[-500:]}")
    place.mkdir(exist_ok=True)
    run("mount", device, place)
    try:
        yield place
    finally:
        run("umount", place)


def _node(options: str) -> str:
    """What the daemon calls the drive that QEMU is given as `file=nbd+unix:///NAME?socket=PATH`.

    Its cache hands each flush on.
    """
    name, _, path = options.partition("nbd+unix:///")[2].partition("?socket=")
    server = f"driver=nbd,server.type=unix,server.path={path},export={name}"
    return f"{server},discard=unmap,cache.direct=off,cache.no-flush=off"


def _wait_for(files: Iterable[Path], daemon: subprocess.Popen[bytes], said: Path) -> None:
    """Until each file has the size of its drive."""
    until = time.monotonic() + _START
    while not all(file.stat().st_size for file in files):
        if daemon.poll() is not None or time.monotonic() > until:
            words = said.read_text(errors="replace")[-500:]
            raise LabError(f"the drives cannot be exported: {words}", hint="it takes root and /dev/fuse")
        time.sleep(0.02)
