"""One raw copy of the U-Boot environment, and the file that says where the copies stand. Pure: bytes and text only.

Layout (docs/boot-contract.md section 1; U-Boot include/env_internal.h, `env_t`): CRC-32 little endian, a flags byte if
the environment is redundant, then `name=value` NUL ... NUL, padded to the size of the copy. The CRC covers all that
follows the header.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from twinslot.bootloader.base import Place
from twinslot.core.errors import DeviceError, LifecycleError

CRC_SIZE: Final = 4  # bytes; uint32_t crc
HEADER_SIZE: Final = CRC_SIZE + 1  # bytes; crc and unsigned char flags (U-Boot ENV_HEADER_SIZE)
SIZE_LIMIT: Final = 1 << 20  # bytes of one copy; boards use 8 to 256 KiB
SIZE_GRAIN: Final = 512  # bytes; every CONFIG_ENV_SIZE is a multiple of it

# libubootenv keeps each variable's attributes under this name and writes them in its own order: not a variable of ours.
ATTRIBUTES: Final = ".flags"


@dataclass(frozen=True, slots=True)
class RawCopy:
    """A copy whose CRC is good: its serial byte (None when not redundant) and its variables."""

    flags: int | None
    variables: Mapping[str, str]


def decode(raw: bytes, *, redundant: bool = True) -> RawCopy | None:
    """Read one copy; None when its CRC is wrong.

    An empty entry ends the list, entries without '=' count for nothing, and of two with one name the later counts: as
    in U-Boot (himport_r in lib/hashtable.c) and libubootenv. Backslashes, which U-Boot writes before some characters,
    are left as they stand, as libubootenv does; no value of the boot contract has one.
    """
    header = HEADER_SIZE if redundant else CRC_SIZE
    if len(raw) <= header or zlib.crc32(raw[header:]) != _stored_crc(raw):
        return None
    variables = {}
    for entry in raw[header:].split(b"\0"):
        if not entry:
            break
        name, separator, value = entry.decode("utf-8", "surrogateescape").partition("=")
        if separator and name and name != ATTRIBUTES:
            variables[name] = value
    return RawCopy(raw[CRC_SIZE] if redundant else None, variables)


def encode(variables: Mapping[str, str], size: int, flags: int | None) -> bytes:
    """Build one copy of `size` bytes; `flags` is None when not redundant.

    Raises:
        LifecycleError: A name or value that cannot stand there, or too many of them.
    """
    entries = []
    for name, value in sorted(variables.items()):
        if not name or "=" in name or "\0" in name + value or name == ATTRIBUTES:
            raise LifecycleError("this cannot stand in a boot environment", code="env-value", found=f"{name}={value}")
        entries.append(f"{name}={value}".encode("utf-8", "surrogateescape") + b"\0")
    header = CRC_SIZE if flags is None else HEADER_SIZE
    # An empty environment ends with two NUL, so that no reader takes the padding for an entry.
    data = (b"".join(entries) or b"\0") + b"\0"
    if len(data) > size - header:
        raise LifecycleError(
            "the boot environment does not fit", code="env-full", expected=f"at most {size - header}", found=len(data)
        )
    data = data.ljust(size - header, b"\0")
    return struct.pack("<I", zlib.crc32(data)) + (b"" if flags is None else bytes([flags])) + data


# keeps: S4
def current(first: int | None, second: int | None) -> int | None:
    """Which copy counts, from the flags bytes of those with a good CRC: 0, 1, or None when none does.

    U-Boot env/common.c, `env_check_redund`, in its order: 255 is older than 0 and nothing else wraps; with equal flags
    the first counts.
    """
    if first is None or second is None:
        return 0 if first is not None else 1 if second is not None else None
    if (first, second) == (255, 0):
        return 1
    if (first, second) == (0, 255):
        return 0
    return 1 if second > first else 0


def fitting_size(raw: bytes) -> tuple[int, bool] | None:
    """At which size the CRC at the start of `raw` fits: bytes, and whether there is a flags byte.

    For the hint when U-Boot and fw_env.config disagree. One pass: the running CRC is compared at every grain.
    """
    stored = _stored_crc(raw) if len(raw) >= SIZE_GRAIN else None
    for header in (HEADER_SIZE, CRC_SIZE):
        crc, at = 0, header
        for size in range(SIZE_GRAIN, len(raw) + 1, SIZE_GRAIN):
            crc, at = zlib.crc32(raw[at:size], crc), size
            if crc == stored:
                return size, header == HEADER_SIZE
    return None


# What libubootenv's sscanf(3) takes for a line, `"%ms %lli %zx"` in src/uboot_env.c: the offset in C's bases, the size
# in base 16 with or without 0x, and whatever follows. A line that does not begin so is passed over.
_LINE: Final = re.compile(
    r"\s*(\S+)\s+((?>[+-]?(?:0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)))\s*([+-]?(?:0[xX](?=[0-9a-fA-F]))?[0-9a-fA-F]+)"
)


def parse_config(text: str, path: str = "fw_env.config") -> tuple[Place, ...]:
    """Read the classic fw_env.config, as libubootenv does: `device offset size ...`, the first two such lines.

    Offsets are numbers as in C, sizes are hexadecimal with or without `0x`. A line that begins with `#` and one that is
    not of this form count for nothing. Refused, though the tool takes them: negative offsets, which it counts from the
    end, relative paths, sizes that no board has, and copies that overlap.

    Raises:
        DeviceError: `device.env-config`: no line of this form, or numbers that cannot be right.
    """
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if not line.startswith("#")]
    found = [(number, match) for number, line in lines if (match := _LINE.match(line))][:2]
    if not found:
        other = next((line.strip() for _, line in lines if line.strip()), "no such line")
        raise _config_error(path, "one or two lines of device, offset, size", other)
    places = tuple(_place(match, f"{path}, line {number}") for number, match in found)
    for first, second in pairwise(places):
        if first.size != second.size:
            raise _config_error(path, "copies of one size", f"{first.size:#x} and {second.size:#x}")
        if first.device == second.device and abs(first.offset - second.offset) < first.size:
            found_text = f"{first.offset:#x} and {second.offset:#x}, of size {first.size:#x}"
            raise _config_error(path, "copies that do not overlap", found_text)
    return places


def _place(match: re.Match[str], where: str) -> Place:
    device, offset, size = match[1], _c_number(match[2]), int(match[3], 16)
    if not device.startswith("/"):
        raise _config_error(where, "an absolute path", device)
    if not 0 <= offset < 1 << 63:
        raise _config_error(where, "an offset such as 0x80000, not negative", match[2])
    if not HEADER_SIZE < size <= SIZE_LIMIT:
        raise _config_error(where, f"a hexadecimal size of {HEADER_SIZE + 1:#x} to {SIZE_LIMIT:#x} bytes", match[3])
    return Place(device, offset, size)


def _c_number(word: str) -> int:
    """A whole number in C's bases (strtoll(3), base 0)."""
    digits = word.lstrip("+-")
    base = 16 if digits[:2] in ("0x", "0X") else 8 if digits.startswith("0") else 10
    return int(word, base)


def _config_error(where: str, expected: str, found: str) -> DeviceError:
    hint = "sizes are hexadecimal, with or without 0x; the form in YAML is not read"
    what = f"{where} does not describe an environment"
    return DeviceError(what, code="env-config", expected=expected, found=found, hint=hint)


def _stored_crc(raw: bytes) -> int:
    return int.from_bytes(raw[:CRC_SIZE], "little")
