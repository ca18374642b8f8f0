"""File system images of a tree in which nothing depends on when or where it was built."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from twinslot_image.factory.layout import fixed_id
from twinslot_lab.command import run

EPOCH: Final = 1_700_000_000  # seconds; any constant
_FREE: Final = re.compile(r"^  Free inodes: (.*)$", re.MULTILINE)
_COUNT: Final = re.compile(r"^Inode count:\s+(\d+)$", re.MULTILINE)


def ext4(tree: Path, out: Path, size_mib: int, block: int = 4096) -> None:
    """An ext4 image with Debian's default features but the journal, fixed ids and fixed times.

    mke2fs takes ctime and atime of each file from the host, and nobody can set a ctime: both are set in the image
    afterwards. mtime is the package's own.

    Args:
        tree: The root file system.
        out: Replaced if it exists.
        size_mib: Of the image, in MiB.
        block: Of the file system, in bytes.

    Raises:
        BuildError: It does not fit.
    """
    out.unlink(missing_ok=True)
    ids = f"hash_seed={fixed_id('bench hash')},lazy_itable_init=0,root_owner=0:0"
    words = [
        "-q",
        "-t",
        "ext4",
        "-b",
        str(block),
        "-O",
        "^has_journal",
        "-m",
        "0",
        "-U",
        fixed_id("bench fs"),
        "-E",
        ids,
    ]
    env = {"E2FSPROGS_FAKE_TIME": str(EPOCH)}
    run("mke2fs", *words, "-d", tree, out, f"{size_mib}M", env=env)
    script = "".join(f"sif <{n}> ctime @{EPOCH}\nsif <{n}> atime @{EPOCH}\n" for n in used_inodes(run("dumpe2fs", out)))
    run("debugfs", "-w", "-f", "-", out, stdin=script.encode(), env=env)


def used_inodes(dump: str) -> Iterator[int]:
    """The inodes in use, from what dumpe2fs(8) prints: the root, and from 11 on all that are not free."""
    free: set[int] = set()
    for line in _FREE.findall(dump):
        for part in filter(None, (word.strip() for word in line.split(","))):
            first, _, last = part.partition("-")
            free.update(range(int(first), int(last or first) + 1))
    match = _COUNT.search(dump)
    assert match is not None, "dumpe2fs says no inode count"
    yield 2
    yield from (number for number in range(11, int(match[1]) + 1) if number not in free)


def erofs(tree: Path, out: Path) -> None:
    """An uncompressed erofs image with fixed id and one time for all files."""
    out.unlink(missing_ok=True)
    run("mkfs.erofs", "--quiet", "-x-1", f"-T{EPOCH}", f"-U{fixed_id('bench fs')}", out, tree)


def bytes_in_use(image: Path) -> int:
    """Bytes of an ext4 image that its file system uses."""
    dump = run("dumpe2fs", "-h", image)
    count, free, size = (
        int(next(iter(re.findall(rf"^{name}:\s+(\d+)$", dump, re.MULTILINE))))
        for name in ("Block count", "Free blocks", "Block size")
    )
    return (count - free) * size


def allocated(path: Path) -> int:
    """Bytes that a sparse file has on disk."""
    return path.stat().st_blocks * 512
