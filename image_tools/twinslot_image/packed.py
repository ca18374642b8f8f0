"""Files packed by gzip, xz or zstd: the beginning of a kernel module (modprobe(8), kmod), or a whole archive."""

from __future__ import annotations

import gzip
import lzma
import zlib
from typing import BinaryIO, Final, cast

import zstandard

HEAD: Final = 4096  # bytes; what says for which machine a file is stands in its first 64
WHOLE_MAX: Final = 64 * 1024 * 1024 * 1024  # bytes; a small packed file may hold far more
_FEED: Final = 64 * 1024  # packed bytes that surely give so many
_MEMORY: Final = 256 * 1024 * 1024  # bytes; xz -9 needs 65 MiB
_GZIP, _XZ, _ZSTD = b"\x1f\x8b", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"
_GZIP_WINDOW: Final = 31  # zlib.h: the largest window, with gzip's header


def is_packed(head: bytes) -> bool:
    """Whether a file is packed, by its first bytes."""
    return head.startswith((_GZIP, _XZ, _ZSTD))


def unpack_head(file: BinaryIO) -> bytes:
    """The first `HEAD` bytes of what is in a packed file, or fewer if there are no more.

    Raises:
        ValueError: Damaged.
    """
    file.seek(0)
    data = file.read(_FEED)
    try:
        if data.startswith(_GZIP):
            return zlib.decompressobj(_GZIP_WINDOW).decompress(data, HEAD)
        if data.startswith(_XZ):
            return lzma.LZMADecompressor(lzma.FORMAT_XZ, _MEMORY).decompress(data, HEAD)
        return zstandard.ZstdDecompressor().decompressobj(write_size=HEAD).decompress(data)[:HEAD]
    except (zlib.error, lzma.LZMAError, zstandard.ZstdError, EOFError) as e:
        raise ValueError("damaged, or packed in another way") from e


def unpack(file: BinaryIO, sink: BinaryIO, most: int = WHOLE_MAX) -> None:
    """A whole packed file.

    Args:
        file: Seekable.
        sink: Gets what is in it.
        most: Bytes of that.

    Raises:
        ValueError: Damaged, cut short, or larger.
    """
    file.seek(0)
    head = file.read(8)
    file.seek(0)
    done = 0
    try:
        with _reader(file, head) as plain:
            for block in iter(lambda: plain.read(_FEED), b""):
                done += len(block)
                if done > most:
                    raise ValueError(f"more than {most} bytes")
                sink.write(block)
    except (zlib.error, lzma.LZMAError, zstandard.ZstdError, EOFError, gzip.BadGzipFile) as e:
        raise ValueError("damaged, or packed in another way") from e


def _reader(file: BinaryIO, head: bytes) -> BinaryIO:
    if head.startswith(_GZIP):
        return cast(BinaryIO, gzip.GzipFile(fileobj=file))
    if head.startswith(_XZ):
        return cast(BinaryIO, lzma.LZMAFile(file))
    return cast(BinaryIO, zstandard.ZstdDecompressor().stream_reader(file, closefd=False))
