"""How large patches of each format are: `python -m bench.formats [--architecture ARCH]... [--group-size BYTES]...`.

The pairs are those of `python -m bench.pairs`; all three architectures and groups of 64 and of 256 KiB unless told
otherwise. One line of a table for each patch: bytes of the whole file with its digests, and how many times those of
format 1 these are. A patch is in the oldest format that can say what it holds, so `is` may be less than `may be`. Sizes
are exact on any machine. A pair that cannot be made is told in one sentence; the others are measured all the same.

With `--rivals` a second table has what others take: xdelta3 for the whole image, the tools of `python -m bench.files`
for each file that changed. `--report FILE` keeps all of it as JSON, with the packages that changed and their digests.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from bench.files import RivalSum, compare, read_files
from bench.packages import ARCHITECTURES, UPDATE, UPDATES
from bench.pairs import HOME, Pair, make_pairs
from bench.peers.base import UnableError, debian_version, prepare
from bench.peers.xdelta import encoder
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
_RIVALS_HEAD: Final = "\n| pair | updates | patches by | of | bytes |\n|---|---|---|---:|---:|\n"
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


def rivals(pair: Pair, folder: Path) -> Iterator[RivalSum]:
    """What others take: xdelta3 for the whole image as one file, and each tool of `bench.files` file by file.

    Raises:
        UnableError: xdelta3 is missing or failed.
    """
    out = folder / "whole.vcdiff"
    prepare(*encoder(pair.old, pair.new, out))
    yield RivalSum("xdelta3", debian_version("xdelta3").removeprefix("xdelta3 "), 0, out.stat().st_size)
    yield from compare(read_files(pair.old), read_files(pair.new))


def packages_changed(facts: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Of each package that differs, its version and its SHA-256 on both sides; null on a side that does not have it."""
    sides = {side: {package["name"]: package for package in found} for side, found in facts["packages"].items()}
    return {
        name: {
            side: {key: found[name][key] for key in ("version", "sha256")} if name in found else None
            for side, found in sides.items()
        }
        for name in facts["changed"]
    }


def _list_of(packages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many there are, and the SHA-256 of their names, versions and digests, a line for each: a whole side."""
    text = "".join(f"{package['name']} {package['version']} {package['sha256']}\n" for package in packages)
    return {"count": len(packages), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, row by row, and that of the rivals; 1 if a pair is missing."""
    arguments = _parser().parse_args(argv)
    sys.stdout.write(_HEAD)
    told: list[dict[str, Any]] = []
    for architecture, updates in itertools.product(
        arguments.architecture or ARCHITECTURES, arguments.updates or (UPDATE,)
    ):
        try:
            pair = make_pairs(quick=arguments.quick, architecture=architecture, updates=updates)["security"]
            told.append(_tell(pair, architecture, updates, arguments))
        except (BuildError, UnableError) as e:
            sys.stderr.write(f"bench.formats: {architecture}: {e}\n")
            told.append({})
    if arguments.rivals:
        sys.stdout.write(_RIVALS_HEAD)
        for one in filter(None, told):
            rows = (RivalSum(**row).line(one["pair"], one["updates"]) for row in one["rivals"])
            sys.stdout.write("".join(rows))
    if arguments.report:
        arguments.report.write_text(json.dumps([one for one in told if one], indent=1) + "\n")
    return int(not all(told))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.formats", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    more = "may be given again (default: all)"
    parser.add_argument("--architecture", action="append", choices=ARCHITECTURES, help=more)
    parser.add_argument("--group-size", type=int, action="append", choices=GROUP_SIZES, help=more)
    parser.add_argument("--format", type=int, action="append", choices=FORMATS, dest="formats", help=more)
    again = f"as for bench.pairs; may be given again (default: {UPDATE})"
    parser.add_argument("--updates", action="append", choices=UPDATES, help=again)
    parser.add_argument("--rivals", action="store_true", help="measure other tools' patches, too")
    parser.add_argument("--report", type=Path, metavar="FILE", help="keep all of it as JSON")
    parser.add_argument("--quick", action="store_true", help="a smaller set of packages")
    return parser


def _tell(pair: Pair, name: str, updates: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Print the rows of one pair; all that is known of it, for the report."""
    rows: list[FormatSize] = []
    with tempfile.TemporaryDirectory(dir=HOME, prefix="formats-") as place:
        folder = Path(place)
        sizes, formats = arguments.group_size or GROUP_SIZES, tuple(sorted(arguments.formats or FORMATS))
        for size in sizes:
            for row in measure(pair, size, folder, name=name, updates=updates, formats=formats):
                say(f"{name}: groups of {row.group_size // 1024} KiB, format {row.newest}")
                sys.stdout.write(row.line())
                sys.stdout.flush()
                rows.append(row)
        others = [asdict(row) for row in rivals(pair, folder)] if arguments.rivals else []
    return {
        "pair": name,
        "updates": updates,
        "packages": {side: _list_of(found) for side, found in pair.facts["packages"].items()},
        "changed": packages_changed(pair.facts),
        "formats": [asdict(row) for row in rows],
        "rivals": others,
    }


if __name__ == "__main__":
    sys.exit(main())
