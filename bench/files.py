"""Patches of each changed file, by tools that know no images: `python -m bench.files OLD.img NEW.img [--patch FILE]`.

Each tool makes a patch of every regular file that has another content on the other side, at the same path. The sum of
these is told beside a patch of ours for the whole image. Theirs are told which file is which, say nothing of new files
or of where files lie, and hold no digests of ours; those are told apart. Figures are sizes: exact on any machine.
"""

from __future__ import annotations

import argparse
import io
import json
import stat
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Final

from twinslot.core.bounds import DIGEST_SIZE
from twinslot_image.fs_tree import FileSystemImage
from twinslot_image.patch_inspect import read_patch_head
from twinslot_image.rootfs import open_tree

FILE_MAX: Final = 64 * 1024 * 1024  # bytes; bsdiff takes seventeen times as much memory
MakePatch = Callable[[bytes, bytes], bytes]


def bsdiff(old: bytes, new: bytes) -> bytes:
    """By bsdiff4: the format of 2003, packed with bzip2."""
    return bytes(import_module("bsdiff4").diff(old, new))


def hdiff(old: bytes, new: bytes) -> bytes:
    """By HDiffPatch, packed with LZMA2."""
    module = import_module("hdiffpatch")
    return bytes(module.diff(old, new, module.COMPRESSION_LZMA2))


def sequential(old: bytes, new: bytes) -> bytes:
    """By detools, packed with LZMA."""
    out = io.BytesIO()
    import_module("detools").create_patch(io.BytesIO(old), io.BytesIO(new), out)
    return out.getvalue()


RIVALS: Final[dict[str, MakePatch]] = {"bsdiff4": bsdiff, "hdiffpatch": hdiff, "detools": sequential}


@dataclass(frozen=True)
class RivalSum:
    """One tool: its release, how many files it made patches of (0: the image as one), and the bytes of these."""

    name: str
    version: str
    files: int
    size: int

    def line(self, pair: str, updates: str) -> str:
        """A row of the table of `bench.formats`."""
        parts = f"{self.files:,} files" if self.files else "the image"
        return f"| {pair} | {updates} | {self.name} {self.version} | {parts} | {self.size:,} |\n"


def read_files(path: Path) -> dict[bytes, bytes]:
    """The regular files of a file system by their paths; those above `FILE_MAX` are left out."""
    with path.open("rb") as file:
        tree = open_tree(FileSystemImage(file, str(path)))
        return {
            found.path: tree.open(found.node).read()
            for found in tree.walk()
            if stat.S_ISREG(found.node.mode) and found.node.size <= FILE_MAX
        }


def compare(
    old: Mapping[bytes, bytes], new: Mapping[bytes, bytes], rivals: Mapping[str, MakePatch] = RIVALS
) -> Iterator[RivalSum]:
    """A row for each tool."""
    changed = [(old[path], content) for path, content in sorted(new.items()) if old.get(path, content) != content]
    for name, make in rivals.items():
        yield RivalSum(name, version(name), len(changed), sum(len(make(*pair)) for pair in changed))


def main(argv: Sequence[str] | None = None) -> int:
    """Print one line of JSON for each tool."""
    parser = argparse.ArgumentParser(prog="python -m bench.files", description=main.__doc__)
    parser.add_argument("old", type=Path, metavar="OLD.img", help="a file system")
    parser.add_argument("new", type=Path, metavar="NEW.img", help="another one")
    parser.add_argument("--patch", type=Path, metavar="FILE", help="a patch of ours from the one to the other")
    arguments = parser.parse_args(argv)
    for row in compare(read_files(arguments.old), read_files(arguments.new)):
        print(json.dumps(asdict(row)), flush=True)
    if arguments.patch:
        with arguments.patch.open("rb") as file:
            head = read_patch_head(file)
        digests = DIGEST_SIZE * sum(len(part.changed) for part in head.payloads)
        print(json.dumps({"name": "twinslot", "size": head.total - digests, "digests": digests}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
