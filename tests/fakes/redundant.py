"""Redundant environments, written a second time from U-Boot's description and on purpose not from the client's codec.

Used by the fake tools, and by tests that want a second opinion.
"""

from __future__ import annotations

import binascii
from pathlib import Path

Copy = tuple[int, dict[str, str]]


def places(config: Path) -> list[tuple[str, int, int]]:
    lines = [line.split("#")[0].split() for line in config.read_text().splitlines()]
    return [(words[0], int(words[1], 16), int(words[2], 16)) for words in lines if words]


def load(config: Path) -> list[Copy | None]:
    copies: list[Copy | None] = []
    for device, offset, size in places(config):
        with open(device, "rb") as stream:
            stream.seek(offset)
            raw = stream.read(size)
        good = binascii.crc32(raw[5:]) == int.from_bytes(raw[:4], "little")
        copies.append((raw[4], _variables(raw[5:])) if good else None)
    return copies


def _variables(data: bytes) -> dict[str, str]:
    found = {}
    while data and data[0]:
        end = data.index(0)
        name, _, value = data[:end].decode(errors="surrogateescape").partition("=")
        found[name] = value
        data = data[end + 1 :]
    return found


def which(copies: list[Copy | None]) -> int | None:
    """The copy that U-Boot takes."""
    first, second = copies
    if first is None and second is None:
        return None
    if first is None or second is None:
        return 1 if first is None else 0
    if {first[0], second[0]} == {0, 255}:  # wrapped: 0 is the newer one
        return 0 if first[0] == 0 else 1
    return 1 if second[0] > first[0] else 0


def pack(variables: dict[str, str], flags: int, size: int) -> bytes:
    data = b"".join(f"{k}={v}\0".encode(errors="surrogateescape") for k, v in sorted(variables.items()))
    data += bytes(size - 5 - len(data))
    return binascii.crc32(data).to_bytes(4, "little") + bytes([flags]) + data


def save(config: Path, index: int, raw: bytes) -> None:
    device, offset, _ = places(config)[index]
    with open(device, "r+b") as stream:
        stream.seek(offset)
        stream.write(raw)
