"""What a file is, by its first bytes: said when an image was expected and something else was given."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Final

from twinslot.core.errors import DeviceError, ImageError
from twinslot.image.sealed_file import SEALED_MAGIC
from twinslot.image.wire import MAGIC
from twinslot.image.wire_blocks import BLOCKS_MAGIC
from twinslot.image.wire_patch import PATCH_MAGIC
from twinslot_image.compose import Front, read_front

_LOOK: Final = 2048  # bytes; both superblocks stand in the second KiB
_BESIDE: Final = (PATCH_MAGIC, BLOCKS_MAGIC, SEALED_MAGIC)
_SHOWN: Final = 4  # bytes of what is not known
# Offset, bytes, and what they are; from Linux (ext4.h, erofs_fs.h, squashfs_fs.h), RFC 1952 and RFC 8878.
_KINDS: Final = (
    (0, PATCH_MAGIC, "a patch"),
    (0, BLOCKS_MAGIC, "a block list"),
    (0, SEALED_MAGIC, "a patch or block list of an encrypted image"),
    (1024 + 0x38, b"\x53\xef", "an ext4 file system"),
    (1024, b"\xe2\xe1\xf5\xe0", "an erofs file system"),
    (0, b"hsqs", "a squashfs file system"),
    (0, b"-----BEGIN", "a key or certificate"),
    (0, b"SQLite format 3\0", "a database"),
    (0, b"\x1f\x8b", "a gzip file"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd file"),
    (0, b"\x7fELF", "a program"),
    (0, b"{", "a JSON document"),
)


def read_image_front(path: Path) -> Front:
    """Header, trust section and manifest of an image file.

    Raises:
        ImageError: `image.header`: it is no image, with what it is; or the front is damaged.
    """
    require_image(path)
    with path.open("rb") as file:
        return read_front(file)


def require_image(path: Path) -> None:
    """Refuse a file that is no image; a pipe or device is not looked into, since that would take from it.

    Raises:
        ImageError: `image.header`.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        return
    with path.open("rb") as file:
        head = file.read(_LOOK)
    if not head.startswith(MAGIC):
        raise ImageError(f"'{path}' is no .twin image ({_description(head)})", code="header")


def require_base(path: Path) -> None:
    """Refuse what is made beside an image, where an image or the content of a partition is meant.

    Raises:
        ImageError: `image.header`.
    """
    with path.open("rb") as file:
        head = file.read(_LOOK)
    if head.startswith(_BESIDE):
        raise ImageError(
            f"'{path}' is neither an image nor what a partition holds ({_description(head)})", code="header"
        )


def require_lasting(path: Path) -> None:
    """Refuse what gives its bytes only once, where they are needed more than once.

    Raises:
        DeviceError: `device.file`: a pipe, a socket or a character device.
    """
    mode = path.stat().st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode):
        what, found = f"'{path}' cannot be read more than once", "a pipe or a device"
        raise DeviceError(what, code="file", expected="a file or a block device", found=found)


def _description(head: bytes) -> str:
    if not head:
        return "it is empty"
    for at, magic, what in _KINDS:
        if head[at : at + len(magic)] == magic:
            return f"it is {what}"
    return f"it begins with {head[:_SHOWN].hex(' ')}"
