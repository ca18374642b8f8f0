"""The boot environment as it stands on a card or in a file: two raw copies (docs/boot-contract.md, section 1).

For tests and for the factory; the running device uses `fw_setenv`. Nothing here caches: each call reads the file.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_HEAD = struct.Struct("<IB")  # CRC-32 little endian, flags: U-Boot include/env_internal.h, struct environment_s
_SERIALS = 256  # the flags byte wraps


@dataclass(frozen=True, slots=True)
class Place:
    """Where the copies stand: byte offsets and the size of each in bytes, header included."""

    offsets: tuple[int, int]
    size: int


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy. `good` is about its CRC; without it the variables are empty."""

    good: bool
    flags: int
    variables: Mapping[str, str]


def pack(variables: Mapping[str, str], flags: int, size: int) -> bytes:
    """One copy of `size` bytes.

    Raises:
        ValueError: The variables do not fit, or a name or value cannot be stored.
    """
    for name, value in variables.items():
        if not name or "=" in name or "\0" in name + value:
            raise ValueError(f"variable '{name}' cannot be stored")
    data = b"".join(f"{name}={value}".encode() + b"\0" for name, value in sorted(variables.items())) + b"\0"
    room = size - _HEAD.size
    if len(data) > room:
        raise ValueError(f"the environment needs {len(data)} bytes, room is {room}")
    data = data.ljust(room, b"\xff")
    return _HEAD.pack(zlib.crc32(data), flags % _SERIALS) + data


def unpack(raw: bytes) -> Copy:
    """Read one copy; anything that is not one comes back as not good."""
    if len(raw) < _HEAD.size:
        return Copy(False, 0, {})
    crc, flags = _HEAD.unpack_from(raw)
    data = raw[_HEAD.size :]
    if zlib.crc32(data) != crc:
        return Copy(False, flags, {})
    text = data.split(b"\0\0", 1)[0].decode("utf-8", errors="replace")
    pairs = (entry.partition("=")[::2] for entry in text.split("\0") if "=" in entry)
    return Copy(True, flags, dict(pairs))


def newer(one: Copy, two: Copy) -> int:
    """Index of the copy that counts, -1 if none (U-Boot env/common.c, env_check_redund)."""
    if not (one.good and two.good):
        return 0 if one.good else 1 if two.good else -1
    if {one.flags, two.flags} == {0, _SERIALS - 1}:
        return 0 if one.flags == 0 else 1
    return 1 if two.flags > one.flags else 0


class EnvCard:
    """The environment on one card image.

    Args:
        path: The image file; must be at least as long as both copies need.
        place: Where the copies stand.
    """

    def __init__(self, path: Path, place: Place) -> None:
        self.path = path
        self.place = place

    def copies(self) -> tuple[Copy, Copy]:
        """Both copies as they stand now."""
        with self.path.open("rb") as card:
            raw = []
            for offset in self.place.offsets:
                card.seek(offset)
                raw.append(card.read(self.place.size))
        return unpack(raw[0]), unpack(raw[1])

    def variables(self) -> dict[str, str]:
        """What counts now; empty if both copies are lost."""
        copies = self.copies()
        index = newer(*copies)
        return dict(copies[index].variables) if index >= 0 else {}

    def write_both(self, variables: Mapping[str, str], flags: int = 1) -> None:
        """Write the same content to both; the first has the newer flags, as after a settled decision."""
        self.write_copy(0, pack(variables, flags, self.place.size))
        self.write_copy(1, pack(variables, flags - 1, self.place.size))

    def update_both(self, **changes: str) -> None:
        """Change variables in the content that counts and settle both copies; an empty value removes one."""
        merged = self.variables() | changes
        self.write_both({name: value for name, value in merged.items() if value})

    def write_copy(self, index: int, raw: bytes) -> None:
        """Put raw bytes where a copy stands."""
        with self.path.open("r+b") as card:
            card.seek(self.place.offsets[index])
            card.write(raw)

    def damage(self, index: int) -> None:
        """Make a copy's CRC wrong by flipping bits in its middle."""
        with self.path.open("r+b") as card:
            card.seek(self.place.offsets[index] + self.place.size // 2)
            byte = card.read(1)
            card.seek(-1, 1)
            card.write(bytes([byte[0] ^ 0xFF]))
