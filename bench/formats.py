"""How large patches of each format are: `python -m bench.formats [--architecture ARCH]... [--group-size BYTES]...`.

The pairs are those of `python -m bench.pairs`; all three architectures and groups of 64 and of 256 KiB unless told
otherwise. One line of a table for each patch: bytes of the whole file with its digests, and how many times those of
format 1 these are. A patch is in the oldest format that can say what it holds, so `is` may be less than `may be`. Sizes
are exact on any machine. A pair that cannot be made is told in one sentence; the others are measured all the same.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.packages import ARCHITECTURES, UPDATES
from bench.pairs import HOME, Pair, make_pairs
from bench.peers.base import UnableError, prepare
from twinslot.core.bounds import DIGEST_SIZE
from twinslot.image.wire_patch import PIECE_COLUMNS
from twinslot_lab.errors import BuildError
from twinslot_lab.progress import say

GROUP_SIZES: Final = (65_536, 262_144)  # bytes
FORMATS: Final = tuple(sorted(PIECE_COLUMNS))
_HEAD: Final = (
    "| pair | updates | groups, KiB | may be | is | bytes | of them digests | x format 1 |\n"
    "|---|---|---:|---:|---:|---:|---:|---:|\n"
)
_TOOL: Final = (sys.executable, "-m", "twinslot_image")
_IMAGE: Final = """
product = "Bench"
release = "new"
sequence = 2
compatible = ["bench"]
trust = "keys"
group_size = {group_size}
[payloads.rootfs]
file = "{image}"
check = "none"
"""


@dataclass(frozen=True, slots=True)
class FormatSize:
    """One patch.

    Attributes:
        pair: Architecture of the pair.
        updates: What its newer image has, one of `UPDATES`.
        group_size: Bytes.
        newest: The format that it may be of.
        version: The format that it is of.
        size: Bytes of the file.
        digests: Bytes of it that are digests of groups.
        ratio: `size` over that of the same patch in format 1.
    """

    pair: str
    updates: str
    group_size: int
    newest: int
    version: int
    size: int
    digests: int
    ratio: float

    def line(self) -> str:
        """A row of the table."""
        return (
            f"| {self.pair} | {self.updates} | {self.group_size // 1024} | {self.newest} | {self.version} "
            f"| {self.size:,} | {self.digests:,} | {self.ratio:.3f} |\n"
        )


def measure(
    pair: Pair, group_size: int, folder: Path, *, name: str, updates: str, formats: Sequence[int] = FORMATS
) -> Iterator[FormatSize]:
    """Make the pair's patch in each format, the oldest first.

    Args:
        pair: The two images.
        group_size: Of the new one's payload, in bytes.
        folder: For the image and the patches.
        name: For the rows.
        updates: For the rows.
        formats: Which; ratios are to the first.

    Raises:
        UnableError: The tool failed, with its last words.
    """
    image = build_image(pair.new, group_size, folder)
    first = 0
    for newest in formats:
        out = folder / f"{newest}.twinpatch"
        words = ("patch", pair.old, image, "-o", out, "--force", "--format", str(newest), "--json")
        told = json.loads(prepare(*_TOOL, *words))["patch"]
        size, digests = out.stat().st_size, DIGEST_SIZE * sum(int(part["changed"]) for part in told["payloads"])
        first = first or size
        yield FormatSize(name, updates, group_size, newest, int(told["format"]), size, digests, size / first)


def build_image(content: Path, group_size: int, folder: Path) -> Path:
    """An image with one payload, in a folder that has or gets keys of its own.

    Raises:
        UnableError: The tool failed, with its last words.
    """
    if not (folder / "keys").exists():
        prepare(*_TOOL, "keys", "init", folder / "keys", "--roles", "engineering,clinical")
    description, image = folder / "new.toml", folder / "new.twin"
    description.write_text(_IMAGE.format(image=content.resolve(), group_size=group_size))
    prepare(*_TOOL, "build", description, "-o", image, "--force")
    return image


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, row by row; 1 if a pair is missing."""
    parser = argparse.ArgumentParser(prog="python -m bench.formats", description=__doc__)
    more = "may be given again (default: all)"
    parser.add_argument("--architecture", action="append", choices=ARCHITECTURES, help=more)
    parser.add_argument("--group-size", type=int, action="append", choices=GROUP_SIZES, help=more)
    parser.add_argument("--format", type=int, action="append", choices=FORMATS, dest="formats", help=more)
    parser.add_argument("--updates", choices=UPDATES, default=UPDATES[0], help="as for bench.pairs")
    parser.add_argument("--quick", action="store_true", help="a smaller set of packages")
    arguments = parser.parse_args(argv)
    sys.stdout.write(_HEAD)
    failed = False
    for architecture in arguments.architecture or ARCHITECTURES:
        try:
            pair = make_pairs(quick=arguments.quick, architecture=architecture, updates=arguments.updates)["security"]
            _tell(pair, architecture, arguments)
        except (BuildError, UnableError) as e:
            sys.stderr.write(f"bench.formats: {architecture}: {e}\n")
            failed = True
    return int(failed)


def _tell(pair: Pair, name: str, arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(dir=HOME, prefix="formats-") as folder:
        sizes, formats = arguments.group_size or GROUP_SIZES, tuple(sorted(arguments.formats or FORMATS))
        rows = (
            measure(pair, size, Path(folder), name=name, updates=arguments.updates, formats=formats) for size in sizes
        )
        for row in itertools.chain.from_iterable(rows):
            say(f"{name}: groups of {row.group_size // 1024} KiB, format {row.newest}")
            sys.stdout.write(row.line())
            sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
