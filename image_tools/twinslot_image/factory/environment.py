"""Both copies of the boot environment in a disk image or on a card, read and written raw.

For manufacture, and for tests of devices; a device that runs uses `fw_setenv`. Nothing here caches: each call reads.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from twinslot.bootloader.base import Place
from twinslot.bootloader.env_lines import read_default
from twinslot.bootloader.uboot.rawenv import RawCopy, current, decode, encode, parse_config
from twinslot.core.errors import DeviceError, LifecycleError
from twinslot_image.named_file import read_small

_FLAGS: Final = 256  # values of the flags byte, which wraps
_FIRST: Final = (1, 0)  # flags bytes of the two copies: the first is the newer one (U-Boot env/common.c)


def read_places(config: Path) -> tuple[Place, Place]:
    """Where the copies stand on the device.

    Raises:
        DeviceError: `device.env-config`: not two copies on one device.
    """
    places = parse_config(read_small(config).decode(errors="replace"), str(config))
    if len(places) != 2 or places[0].device != places[1].device:
        found = f"{len(places)} on '{', '.join(sorted({place.device for place in places}))}'"
        hint = "write copies on two devices with 'mkenvimage -r' and dd (docs/guide-release.md)"
        raise DeviceError(
            f"'{config}' cannot be written in one piece",
            code="env-config",
            expected="2 copies on one device",
            found=found,
            hint=hint,
        )
    return places[0], places[1]


def make_copies(
    places: tuple[Place, Place], variables: Mapping[str, str], defaults: Path | None
) -> tuple[bytes, bytes]:
    """The bytes of both copies: the board's own variables, and above them those of the boot contract.

    Raises:
        DeviceError: `device.env-full`: they do not fit.
    """
    board = read_default(defaults) if defaults else {}
    try:
        first, second = (
            encode({**board, **variables}, place.size, flags) for place, flags in zip(places, _FIRST, strict=True)
        )
    except LifecycleError as e:
        what = "the variables do not fit into a copy of the environment"
        raise DeviceError(what, code="env-full", expected=e.expected, found=e.found) from e
    return first, second


@contextmanager
def opened_disk(disk: Path, places: tuple[Place, Place]) -> Iterator[Callable[[Sequence[bytes]], None]]:
    """A disk image or device that holds both places, and the function that writes them; nothing else of it changes.

    A file that ends before them is made longer; one that was made here is removed when the block fails.

    Raises:
        DeviceError: `device.output`: no disk, or one that ends before the copies do.
        OSError: It is in use, or cannot be written.
    """
    fresh = not disk.exists()
    exclusive = os.O_EXCL if disk.is_block_device() else 0  # refused while it is mounted (open(2))
    descriptor = os.open(disk, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | exclusive, 0o666)
    try:
        _check_size(disk, descriptor, max(place.offset + place.size for place in places))

        def write(copies: Sequence[bytes]) -> None:
            for place, copy in zip(places, copies, strict=True):
                os.pwrite(descriptor, copy, place.offset)
            os.fsync(descriptor)

        yield write
    except BaseException:
        if fresh:
            disk.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def _check_size(disk: Path, descriptor: int, end: int) -> None:
    mode, size = os.fstat(descriptor).st_mode, os.lseek(descriptor, 0, os.SEEK_END)
    if not (stat.S_ISREG(mode) or (stat.S_ISBLK(mode) and size >= end)):
        what = f"'{disk}' cannot hold the environment"
        raise DeviceError(what, code="output", expected=f"a disk of {end} bytes or more", found=f"{size} bytes")


class RawEnvironment:
    """Both copies where they stand in one file or device.

    Args:
        path: Must be at least as long as both copies need.
        places: Where they stand; the device's own name in them is not used.
    """

    def __init__(self, path: Path, places: tuple[Place, Place]) -> None:
        self.path, self.places = path, places

    @property
    def size(self) -> int:
        """Bytes of one copy, header included."""
        return self.places[0].size

    def copies(self) -> tuple[RawCopy | None, RawCopy | None]:
        """Both copies as they stand now; None for one whose CRC is wrong."""
        with self.path.open("rb") as file:
            raw = []
            for place in self.places:
                file.seek(place.offset)
                raw.append(file.read(place.size))
        return decode(raw[0]), decode(raw[1])

    def variables(self) -> dict[str, str]:
        """What counts now; empty if both copies are lost."""
        copies = self.copies()
        first, second = (None if copy is None else copy.flags for copy in copies)
        index = current(first, second)
        copy = None if index is None else copies[index]
        return dict(copy.variables) if copy else {}

    def write_both(self, variables: Mapping[str, str], flags: int = 1) -> None:
        """Write the same content to both; the first has the newer flags, as after a decision that both copies have."""
        self.write_copy(0, encode(variables, self.size, flags % _FLAGS))
        self.write_copy(1, encode(variables, self.size, (flags - 1) % _FLAGS))

    def update_both(self, **changes: str) -> None:
        """Change variables in the content that counts and write both copies; an empty value removes one."""
        merged = self.variables() | changes
        self.write_both({name: value for name, value in merged.items() if value})

    def write_copy(self, index: int, raw: bytes) -> None:
        """Put raw bytes where a copy stands."""
        with self.path.open("r+b") as file:
            file.seek(self.places[index].offset)
            file.write(raw)

    def damage(self, index: int) -> None:
        """Make a copy's CRC wrong by flipping bits in its middle."""
        with self.path.open("r+b") as file:
            file.seek(self.places[index].offset + self.size // 2)
            byte = file.read(1)
            file.seek(-1, 1)
            file.write(bytes([byte[0] ^ 0xFF]))
