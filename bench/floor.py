"""The floor: what no client can do without. Decodes, hashes, writes and flushes an image, and nothing else.

`python -m bench.floor SOURCE DEVICE`. Python, with the codec and the hash that Twinslot uses (zstandard, and SHA-256
of OpenSSL). The source is a bare sequence of groups (`python -m bench.floor --make IMAGE SOURCE`): 4 bytes of length,
a zstd frame of 64 KiB. One thread reads and decodes, another writes, as much at once as two cores allow. Its digest is
the last 32 bytes of the source. No signature, no journal, no check before the write, no reading back.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import queue
import struct
import sys
import threading
import urllib.request
from pathlib import Path
from typing import IO, Final

import zstandard

GROUP: Final = 1 << 16
LEVEL: Final = 9  # of zstd, for every peer that lets us choose
_LENGTH: Final = struct.Struct("<I")
_QUEUE: Final = 16  # groups between the threads


def make(image: Path, out: Path) -> None:
    """Encode an image."""
    compressor, digest = zstandard.ZstdCompressor(level=LEVEL), hashlib.sha256()
    with image.open("rb") as source, out.open("wb") as target:
        while group := source.read(GROUP):
            digest.update(group)
            frame = compressor.compress(group)
            target.write(_LENGTH.pack(len(frame)) + frame)
        target.write(_LENGTH.pack(0) + digest.digest())


def install(source: IO[bytes], fd: int) -> None:
    """Decode, hash and write.

    Raises:
        SystemExit: The digest is another one.
    """
    groups: queue.Queue[bytes | None] = queue.Queue(_QUEUE)

    def write() -> None:
        at = 0
        while (group := groups.get()) is not None:
            at += os.pwrite(fd, group, at)
        os.fsync(fd)

    writer = threading.Thread(target=write)
    writer.start()
    decompressor, digest = zstandard.ZstdDecompressor(), hashlib.sha256()
    while length := _LENGTH.unpack(source.read(_LENGTH.size))[0]:
        group = decompressor.decompress(source.read(length))
        digest.update(group)
        groups.put(group)
    groups.put(None)
    writer.join()
    if digest.digest() != source.read(32):
        raise SystemExit("floor: another digest")


def main(argv: list[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m bench.floor")
    parser.add_argument("source")
    parser.add_argument("target", type=Path)
    parser.add_argument("--make", action="store_true", help="encode the image SOURCE to TARGET instead")
    arguments = parser.parse_args(argv)
    if arguments.make:
        make(Path(arguments.source), arguments.target)
        return 0
    url = arguments.source.startswith("http://")
    with urllib.request.urlopen(arguments.source) if url else open(arguments.source, "rb") as source:
        fd = os.open(arguments.target, os.O_WRONLY)
        install(source, fd)
        os.close(fd)
    return 0


if __name__ == "__main__":
    sys.exit(main())
