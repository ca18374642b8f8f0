"""What making a patch costs where little changed: `python -m bench.changed`.

A small pair of file systems of 64 MiB, as ext4 and as erofs: two programs are new, and one of them grew, so that all
that lies behind it has moved. mke2fs(8) gives a file system of that size blocks of 1 KiB, so what moved did so by less
than a page. One line of a table for each: seconds of processor time and of `twinslot-image patch` as a whole, the peak
of its private memory, and the bytes of the patch. Needs no root and no network; the content comes from a constant, so
that the bytes are the same on any machine.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
from pathlib import Path
from typing import Final

from bench.filesystem import EPOCH, erofs, ext4
from bench.formats import build_image
from bench.measure import run_measured
from bench.pairs import HOME
from bench.peers.base import UnableError
from twinslot_lab.progress import say

SIZE_MIB: Final = 64
BLOCK: Final = 1024  # bytes; what mke2fs(8) takes for a file system of that size (mke2fs.conf(5), "small")
GROUP_SIZE: Final = 65_536
FILES: Final = 140
_LARGEST: Final = 600_000  # bytes of a file; the smallest has a sixth, and all of them some 48 MiB
_CHANGED: Final = {20: 5000, 75: 0}  # number of a file, and by how many bytes it grew
EDIT: Final = 20_000  # bytes in its middle that are new
_HEAD: Final = "| file system | CPU, s | wall, s | memory, MiB | bytes |\n|---|---:|---:|---:|---:|\n"


def make_tree(folder: Path, *, new: bool) -> None:
    """The files of one side."""
    source = random.Random(1)
    (folder / "usr").mkdir(parents=True)
    for number in range(FILES):
        content = source.randbytes(source.randrange(_LARGEST // 6, _LARGEST))
        if new and number in _CHANGED:
            half, edit = len(content) // 2, random.Random(number).randbytes(EDIT + _CHANGED[number])
            content = content[: half - EDIT // 2] + edit + content[half + EDIT // 2 :]
        path = folder / f"usr/program-{number:03}"
        path.write_bytes(content)
        os.utime(path, (EPOCH, EPOCH))
    for path in (folder / "usr", folder):
        os.utime(path, (EPOCH, EPOCH))


def measure(kind: str, folder: Path) -> str:
    """A row of the table: the patch between both sides, in file systems of one kind.

    Raises:
        UnableError: The tool failed, with its last words.
    """
    for side in ("old", "new"):
        tree, out = folder / side, folder / f"{side}.{kind}"
        if not tree.exists():
            make_tree(tree, new=side == "new")
        if kind == "ext4":
            ext4(tree, out, SIZE_MIB, BLOCK)
        else:
            erofs(tree, out)
    image, patch = build_image(folder / f"new.{kind}", GROUP_SIZE, folder), folder / f"{kind}.twinpatch"
    words = [sys.executable, "-m", "twinslot_image", "patch", folder / f"old.{kind}", image, "-o", patch]
    sample = run_measured([str(word) for word in words], folder / "log")
    if sample.status != 0:
        raise UnableError(sample.said.strip()[-600:])
    memory = sample.memory.peak / (1 << 20)
    return f"| {kind} | {sample.cpu:.1f} | {sample.wall:.1f} | {memory:.0f} | {patch.stat().st_size:,} |\n"


def main() -> int:
    """Print the table, row by row."""
    HOME.mkdir(parents=True, exist_ok=True)
    sys.stdout.write(_HEAD)
    with tempfile.TemporaryDirectory(dir=HOME, prefix="changed-") as folder:
        for kind in ("ext4", "erofs"):
            say(f"a patch between file systems of kind {kind}")
            sys.stdout.write(measure(kind, Path(folder)))
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
