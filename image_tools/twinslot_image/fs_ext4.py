"""Reads ext2, ext3 and ext4 (Linux, Documentation/filesystems/ext4/; fs/ext4/ext4.h). All numbers are little endian."""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from typing import Final

from twinslot_image.fs_tree import Extent, FileSystemImage, Node

MAGIC_AT: Final = 1024 + 0x38
MAGIC: Final = b"\x53\xef"
_SUPERBLOCK: Final = 1024
_CLEAN, _ERRORS = 1, 2  # s_state
_RECOVER, _META_BG, _64BIT, _ENCRYPT = 0x4, 0x10, 0x80, 0x10000  # s_feature_incompat
# filetype, extents, 64bit, MMP, flex_bg, ea_inode, csum_seed, large_dir, inline_data, casefold
_READ_HERE: Final = 0x2 | 0x40 | _64BIT | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000 | 0x20000
_FEATURES: Final = {0x1: "compression", 0x8: "journal_dev", _META_BG: "meta_bg", 0x1000: "dirdata", _ENCRYPT: "encrypt"}
_ROOT: Final = 2
_F_EXTENTS, _F_INLINE, _F_ENCRYPTED = 0x80000, 0x10000000, 0x800  # i_flags
_EXTENT_MAGIC, _DEPTH_MAX, _UNWRITTEN = 0xF30A, 5, 32768
_XATTR_MAGIC, _XATTR_SYSTEM = 0xEA020000, 7
_I_BLOCK, _I_BLOCK_SIZE = 0x28, 60
_WITHOUT_CONTENT = (stat.S_ISCHR, stat.S_ISBLK, stat.S_ISFIFO, stat.S_ISSOCK)


class Ext4:
    """One file system.

    Raises:
        ImageError: `image.rootfs-damaged`, `image.rootfs-feature`: what it has cannot be read whole.
    """

    root = _ROOT

    def __init__(self, image: FileSystemImage) -> None:
        self._image = image
        block = image.read(_SUPERBLOCK, 1024)
        self._tables: dict[int, int] = {}  # of inodes, by group; in bytes
        self._inodes = struct.unpack_from("<I", block)[0]
        free, _, log_size = struct.unpack_from("<III", block, 0x10)
        self._per_group: int = struct.unpack_from("<I", block, 0x28)[0]
        self._state = struct.unpack_from("<H", block, 0x3A)[0]
        revision = struct.unpack_from("<I", block, 0x4C)[0]
        self._inode_size: int = struct.unpack_from("<H", block, 0x58)[0] if revision else 128
        incompatible = struct.unpack_from("<I", block, 0x60)[0] if revision else 0
        self._check(incompatible, log_size)
        self._block = 1024 << log_size
        self._descriptor = struct.unpack_from("<H", block, 0xFE)[0] if incompatible & _64BIT else 32
        self._descriptors_at = (_SUPERBLOCK // self._block + 1) * self._block  # behind the superblock's block
        high = struct.unpack_from("<I", block, 0x150)[0] if incompatible & _64BIT else 0
        image.must_hold((struct.unpack_from("<I", block, 4)[0] | high << 32) * self._block)
        if not (self._per_group and self._descriptor >= 32 and 128 <= self._inode_size <= self._block):
            raise image.damaged("a superblock with impossible sizes")
        self.files = max(self._inodes - free, 1)

    def _check(self, incompatible: int, log_size: int) -> None:
        if log_size > 6:
            raise self._image.damaged(f"blocks of 2^{log_size + 10} bytes")
        if incompatible & _RECOVER:
            raise self._image.not_read("a journal that must be replayed", "unmount it, or run 'e2fsck -f' on it")
        if not self._state & _CLEAN or self._state & _ERRORS:
            raise self._image.damaged("a file system that was not unmounted, or has errors")
        if unknown := incompatible & ~_READ_HERE:
            names = [name for bit, name in _FEATURES.items() if unknown & bit] or [hex(unknown)]
            raise self._image.not_read(", ".join(names), "make it without, see mke2fs(8), option '-O'")

    def node(self, number: int) -> Node:
        """An inode by its number."""
        raw = self._raw(number)
        mode, size = struct.unpack_from("<H", raw)[0], struct.unpack_from("<I", raw, 4)[0]
        size |= struct.unpack_from("<I", raw, 0x6C)[0] << 32
        flags = struct.unpack_from("<I", raw, 0x20)[0]
        if not mode or not stat.S_IFMT(mode):
            raise self._image.damaged(f"a name without an inode: {number}")
        if flags & _F_ENCRYPTED:
            raise self._image.not_read("encrypted files", "leave the encryption to the partition")
        return Node(number, mode, size, self._spans(number, raw, mode, size, flags))

    def _raw(self, number: int) -> bytes:
        return self._image.read(self._inode_at(number), self._inode_size)

    def _inode_at(self, number: int) -> int:
        if not 1 <= number <= self._inodes:
            raise self._image.damaged(f"inode {number}", f"1 to {self._inodes}")
        group, index = divmod(number - 1, self._per_group)
        if group not in self._tables:
            descriptor = self._image.read(self._descriptors_at + group * self._descriptor, self._descriptor)
            high = struct.unpack_from("<I", descriptor, 0x28)[0] if self._descriptor >= 64 else 0
            self._tables[group] = (struct.unpack_from("<I", descriptor, 0x8)[0] | high << 32) * self._block
        return self._tables[group] + index * self._inode_size

    def _spans(self, number: int, raw: bytes, mode: int, size: int, flags: int) -> tuple[Extent, ...]:
        content = raw[_I_BLOCK : _I_BLOCK + _I_BLOCK_SIZE]
        if any(is_kind(mode) for is_kind in _WITHOUT_CONTENT):
            return ()
        if flags & _F_INLINE:
            return tuple(self._inline(number, raw, size))
        if flags & _F_EXTENTS:
            return tuple(self._extents(content))
        if stat.S_ISLNK(mode) and size < _I_BLOCK_SIZE:
            return (Extent(0, size, self._inode_at(number) + _I_BLOCK),)
        return tuple(self._mapped(content, size))

    def _extents(self, data: bytes, depth: int | None = None) -> Iterator[Extent]:
        magic, entries, _, here = struct.unpack_from("<HHHH", data)
        if magic != _EXTENT_MAGIC or here > _DEPTH_MAX or (depth is not None and here != depth):
            raise self._image.damaged("a damaged list of extents")
        if 12 + entries * 12 > len(data):
            raise self._image.damaged("a list of extents that is too long")
        for at in range(12, 12 + entries * 12, 12):
            if here:
                low, high = struct.unpack_from("<IH", data, at + 4)
                yield from self._extents(self._image.read((low | high << 32) * self._block, self._block), here - 1)
                continue
            first, length, high, low = struct.unpack_from("<IHHI", data, at)
            written = length <= _UNWRITTEN
            where = (low | high << 32) * self._block if written else None
            blocks = length if written else length - _UNWRITTEN
            yield Extent(first * self._block, blocks * self._block, where)

    def _mapped(self, data: bytes, size: int) -> Iterator[Extent]:
        """Block numbers, direct and up to three levels away (ext2, ext3)."""
        blocks, numbers = -(-size // self._block), struct.unpack("<15I", data)
        at, each = 0, self._block // 4
        for level in (0,) * 12 + (1, 2, 3):
            if at >= blocks:
                return
            yield from self._pointer(numbers[min(at, 11) + level], level, at, blocks)
            at += each**level

    def _pointer(self, number: int, level: int, at: int, blocks: int) -> Iterator[Extent]:
        if not number or at >= blocks:
            return  # a hole
        if not level:
            yield Extent(at * self._block, self._block, number * self._block)
            return
        each = self._block // 4
        for index, below in enumerate(struct.unpack(f"<{each}I", self._image.read(number * self._block, self._block))):
            yield from self._pointer(below, level - 1, at + index * each ** (level - 1), blocks)

    def _inline(self, number: int, raw: bytes, size: int) -> Iterator[Extent]:
        """In the inode: what `i_block` holds, then the value of the attribute system.data."""
        at = self._inode_at(number)
        yield Extent(0, min(size, _I_BLOCK_SIZE), at + _I_BLOCK)
        if size <= _I_BLOCK_SIZE:
            return
        start = 128 + struct.unpack_from("<H", raw, 0x80)[0]
        if start + 4 > len(raw) or struct.unpack_from("<I", raw, start)[0] != _XATTR_MAGIC:
            raise self._image.damaged("inline data without its attribute")
        entry = start + 4
        while entry + 16 <= len(raw) and raw[entry]:
            length, index, offset, _, value = struct.unpack_from("<BBHII", raw, entry)
            if index == _XATTR_SYSTEM and raw[entry + 16 : entry + 16 + length] == b"data":
                yield Extent(_I_BLOCK_SIZE, value, at + start + 4 + offset)
                return
            entry += (16 + length + 3) & ~3
        raise self._image.damaged("inline data without its attribute")

    def names(self, data: bytes) -> Iterator[tuple[bytes, int]]:
        """Names and inode numbers in a directory's content; the index for fast look-up is skipped as empty entries."""
        block = min(self._block, len(data))
        at = 4 if block < self._block else 0  # an inline directory begins with its parent's number
        while at + 8 <= len(data):
            number, length, name_length = struct.unpack_from("<IHB", data, at)
            length = 65536 if length in (0, 65535) else length  # of blocks of 64 KiB
            if length < 8 or name_length + 8 > length or at + length > len(data):
                raise self._image.damaged("a damaged directory")
            if number:
                yield data[at + 8 : at + 8 + name_length], number
            at += length
