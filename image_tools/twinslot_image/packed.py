"""The beginning of a packed file: kernel modules come packed by gzip, xz or zstd (modprobe(8), kmod)."""

from __future__ import annotations

import lzma
import zlib
from typing import BinaryIO, Final

import zstandard

HEAD: Final = 4096  # bytes; what says for which machine a file is stands in its first 64
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
