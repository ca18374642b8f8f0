"""What memory the making of a patch takes between large images: `python -m bench.making [--mib MIB]... [KIND]...`.

Pairs that ask for most of it, by kind:

- `programs`: no page is as it was, and all of it is code of arm64, in programs of 16 MiB each;
- `moved`: noise that moved by 1,000 bytes, so that no page is where it was;
- `mixed`: noise, half of which moved by 1,000 bytes, the other half is nowhere in the base;
- `unknown`: noise of which the base has nothing, for which no patch is made.

One line of a table for each: seconds of processor time and of `twinslot-image patch` as a whole, the peak of the
private memory of all its processes together, bytes of the patch. Needs no root and no network, and four times the size
on the disk. The content comes from constants, so that the bytes are the same on any machine.
"""

from __future__ import annotations

import argparse
import struct
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from bench.formats import build_image
from bench.measure import run_measured
from bench.pairs import HOME
from bench.peers.base import UnableError
from twinslot_lab.progress import say

SIZES: Final = (512,)  # MiB
GROUP_SIZE: Final = 65_536
MOVED: Final = 1000  # bytes
BLOCK: Final = 16 << 20  # bytes that are made at once: a program, or noise
_STATUS: Final = {"unknown": 4}  # the tool's own for "refused"; 0 for all others
_HEAD: Final = "| kind | MiB | CPU, s | wall, s | memory, MiB | bytes |\n|---|---:|---:|---:|---:|---:|\n"
_TEXT: Final = 0x1000  # where the code of a program begins
_EVERY: Final = 768  # instructions of which one more stands there in the new program
_CALL: Final = 0x94000000  # BL
_MOVE: Final = 0xAA0003E0  # MOV between registers
_IDLE: Final = 0xD503201F  # NOP


def program(number: int, *, new: bool) -> bytes:
    """An ELF file of `BLOCK` bytes: a third of the code are calls. In the new one all of it has moved a little."""
    source = np.random.default_rng(number)
    count = (BLOCK - _TEXT - 4096) // 4 * _EVERY // (_EVERY + 1)
    noise = source.integers(0, 1 << 32, count, np.uint32, endpoint=False)
    targets = source.integers(0, count, count)
    at = np.arange(count)
    if new:
        at, targets = at + at // _EVERY, targets + targets // _EVERY
    calls = (_CALL | targets - at & 0x3FFFFFF).astype(np.uint32)
    words = np.full(at[-1] + 1, _IDLE, "<u4")
    words[at] = np.where(noise % 3 == 0, calls, _MOVE | noise & 0x1F001F)
    return _elf(words.tobytes())


def _elf(code: bytes) -> bytes:
    """System V ABI, chapter 4: a shared object of 64 bits for AArch64 (183) with one section, which may be run."""
    sections = _TEXT + len(code)
    head = b"\x7fELF\2\1\1".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", 3, 183, 1, 0, 0, sections, 0, 64, 56, 0, 64, 2, 0)
    table = bytes(64) + struct.pack("<IIQQQQIIQQ", 0, 1, 6, _TEXT, _TEXT, len(code), 0, 0, 8, 0)
    return (head.ljust(_TEXT, b"\0") + code + table).ljust(BLOCK, b"\0")


def noise(seed: int) -> bytes:
    """`BLOCK` bytes that cannot be packed."""
    return np.random.default_rng(seed).bytes(BLOCK)


def blocks(kind: str, count: int, *, new: bool) -> Iterator[bytes]:
    """The content of one side."""
    if new and kind in ("moved", "mixed"):
        yield bytes(MOVED)
    for number in range(count):
        if kind == "programs":
            yield program(number, new=new)
        else:
            fresh = new and (kind == "unknown" or (kind == "mixed" and number % 2 == 1))
            yield noise(1_000_000 + number if fresh else number)


def measure(kind: str, mib: int, folder: Path) -> str:
    """A row of the table.

    Raises:
        UnableError: The tool failed, with its last words.
    """
    for side in ("old", "new"):
        with (folder / side).open("wb") as file:
            file.writelines(blocks(kind, mib * (1 << 20) // BLOCK, new=side == "new"))
    image, patch = build_image(folder / "new", GROUP_SIZE, folder), folder / "patch"
    (folder / "new").unlink()
    words = [sys.executable, "-m", "twinslot_image", "patch", folder / "old", image, "-o", patch, "--force"]
    sample = run_measured([str(word) for word in words], folder / "log")
    if sample.status != _STATUS.get(kind, 0):
        raise UnableError(sample.said.strip()[-600:])
    size = f"{patch.stat().st_size:,}" if sample.status == 0 else "none"
    peak = sample.memory.peak / (1 << 20)
    return f"| {kind} | {mib} | {sample.cpu:.0f} | {sample.wall:.0f} | {peak:.0f} | {size} |\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, row by row."""
    kinds = ("programs", "moved", "mixed", "unknown")
    parser = argparse.ArgumentParser(
        prog="python -m bench.making", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="*", choices=[*kinds, []], metavar="KIND", help="default: all four")
    parser.add_argument("--mib", type=int, action="append", help=f"of an image, a multiple of 16; default: {SIZES[0]}")
    arguments = parser.parse_args(argv)
    if any(mib <= 0 or mib * (1 << 20) % BLOCK for mib in arguments.mib or ()):
        parser.error(f"argument --mib: expected a multiple of 16, found {arguments.mib}")
    HOME.mkdir(parents=True, exist_ok=True)
    sys.stdout.write(_HEAD)
    for mib in arguments.mib or SIZES:
        for kind in arguments.kinds or kinds:
            say(f"a patch of kind {kind}, {mib} MiB")
            with tempfile.TemporaryDirectory(dir=HOME, prefix="making-") as folder:
                sys.stdout.write(measure(kind, mib, Path(folder)))
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
