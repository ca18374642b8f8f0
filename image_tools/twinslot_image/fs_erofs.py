"""Reads uncompressed erofs (Linux, fs/erofs/erofs_fs.h). All numbers are little endian."""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from typing import Final

from twinslot.core.errors import Refusal, RefusedError
from twinslot_image.fs_tree import Extent, FileSystemImage, Node

MAGIC_AT: Final = 1024
MAGIC: Final = b"\xe2\xe1\xf5\xe0"
_SUPERBLOCK: Final = 1024
_CHUNKED, _PREFIXES = 0x4, 0x40  # feature_incompat
_COMPRESSED_FEATURES: Final = 0x1 | 0x2 | 0x10 | 0x20  # 0padding, compr_cfgs, ztailpacking, fragments and dedupe
_PLAIN, _FULL, _INLINE, _COMPACT, _CHUNKS = range(5)  # i_format, data layout
_INDEXES: Final = 0x20  # chunk format: each entry with a device
_HOLE: Final = 0xFFFFFFFF
_DIRENT: Final = struct.Struct("<QHBx")
_WITHOUT_CONTENT = (stat.S_ISCHR, stat.S_ISBLK, stat.S_ISFIFO, stat.S_ISSOCK)


class Erofs:
    """One file system.

    Raises:
        ImageError: `image.rootfs-damaged`, `image.rootfs-feature`: what it has cannot be read whole.
        RefusedError: `refused.rootfs-compressed`.
    """

    def __init__(self, image: FileSystemImage) -> None:
        self._image = image
        block = image.read(_SUPERBLOCK, 128)
        bits, self.root = block[12], struct.unpack_from("<H", block, 14)[0]
        self.files = max(struct.unpack_from("<Q", block, 16)[0], 1)
        meta, incompatible = struct.unpack_from("<I", block, 40)[0], struct.unpack_from("<I", block, 80)[0]
        directory_bits = block[90]
        if not 9 <= bits <= 16 or directory_bits:
            raise image.damaged("a superblock with impossible sizes")
        if unknown := incompatible & ~(_COMPRESSED_FEATURES | _CHUNKED | _PREFIXES):
            raise image.not_read(f"features {unknown:#x}", "make it with mkfs.erofs(1) and without options")
        self._block, self._meta = 1 << bits, meta << bits
        image.must_hold(struct.unpack_from("<I", block, 36)[0] << bits)

    def node(self, number: int) -> Node:
        """An inode by its number: its place in units of 32 bytes."""
        at = self._meta + number * 32
        format_, attributes, mode = struct.unpack("<HHH", self._image.read(at, 6))
        extended, layout = format_ & 1, format_ >> 1 & 7
        raw = self._image.read(at, 64 if extended else 32)
        size = struct.unpack_from("<Q" if extended else "<I", raw, 8)[0]
        where = struct.unpack_from("<I", raw, 16)[0]
        if not stat.S_IFMT(mode) or layout > _CHUNKS:
            raise self._image.damaged(f"a damaged inode: {number}")
        end = at + len(raw) + (12 + 4 * (attributes - 1) if attributes else 0)
        if any(is_kind(mode) for is_kind in _WITHOUT_CONTENT):
            return Node(number, mode, 0, ())
        return Node(number, mode, size, tuple(self._spans(layout, size, where, end)))

    def _spans(self, layout: int, size: int, where: int, end: int) -> Iterator[Extent]:
        if layout in (_FULL, _COMPACT):
            raise RefusedError(compressed(self._image.name))
        if layout == _CHUNKS:
            yield from self._chunks(size, where, end)
            return
        blocks = -(-size // self._block) - (layout == _INLINE)
        plain = min(size, max(blocks, 0) * self._block)
        if plain:
            yield Extent(0, plain, where * self._block)
        if plain < size:
            yield Extent(plain, size - plain, end)

    def _chunks(self, size: int, format_: int, end: int) -> Iterator[Extent]:
        chunk, entry = self._block << (format_ & 0x1F), 8 if format_ & _INDEXES else 4
        start, count = -(-end // entry) * entry, -(-size // chunk)
        table = self._image.read(start, count * entry)
        for index in range(count):
            device, block = struct.unpack_from("<2xHI", table, index * 8) if entry == 8 else (0, 0)
            block = block if entry == 8 else struct.unpack_from("<I", table, index * 4)[0]
            if device:
                raise self._image.not_read("content on another device", "make it without '--blobdev'")
            length = min(chunk, size - index * chunk)
            yield Extent(index * chunk, length, None if block == _HOLE else block * self._block)

    def names(self, data: bytes) -> Iterator[tuple[bytes, int]]:
        """Names and inode numbers in a directory's content: in each block entries first, then their names."""
        for start in range(0, len(data), self._block):
            block = data[start : start + self._block]
            if len(block) < _DIRENT.size:
                raise self._image.damaged("a damaged directory")
            first = _DIRENT.unpack_from(block)[1]
            if first % _DIRENT.size or not _DIRENT.size <= first <= len(block):
                raise self._image.damaged("a damaged directory")
            entries = [_DIRENT.unpack_from(block, at)[:2] for at in range(0, first, _DIRENT.size)]
            ends = [offset for _, offset in entries[1:]] + [len(block)]
            for (number, offset), end in zip(entries, ends, strict=True):
                if not offset <= end <= len(block):
                    raise self._image.damaged("a damaged directory")
                yield block[offset:end].rstrip(b"\0"), number


def compressed(name: str) -> Refusal:
    """Why a compressed file system does not go into a slot (docs/decisions/0007)."""
    what = f"the erofs in '{name}' is compressed"
    hint = "make it with mkfs.erofs(1) without '-z': the image compresses each group, and patches need plain content"
    return Refusal("rootfs-compressed", what, "erofs without compression", "compressed files", hint)
