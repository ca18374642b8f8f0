"""The redundant environment on a card, written from U-Boot's description only (env/common.c, include/env_internal.h).

Independent of the client's codec on purpose: the two are compared in the tests.
"""

from __future__ import annotations

import struct
import zlib

from simulation.disk import SimulatedCard

SIZE = 0x1000  # bytes of one copy; small, so that simulated writes stay quick
PLACES = (0x2000, 0x4000)  # bytes from the start of the card


def pack(variables: dict[str, str], flags: int) -> bytes:
    """One copy: CRC-32 over the data, flags, data."""
    text = b"".join(f"{name}={value}".encode() + b"\0" for name, value in sorted(variables.items()) if value)
    data = (text + b"\0").ljust(SIZE - 5, b"\0")
    assert len(data) == SIZE - 5
    return struct.pack("<IB", zlib.crc32(data), flags) + data


def unpack(raw: bytes) -> tuple[int, dict[str, str]] | None:
    """Flags and variables; None when the CRC is wrong."""
    crc, flags = struct.unpack_from("<IB", raw)
    if zlib.crc32(raw[5:SIZE]) != crc:
        return None
    lines = raw[5:].split(b"\0\0")[0].split(b"\0")
    return flags, dict(line.decode().split("=", 1) for line in lines if b"=" in line)


def copies(card: SimulatedCard) -> list[tuple[int, dict[str, str]] | None]:
    """Both copies."""
    return [unpack(card.read(place, SIZE)) for place in PLACES]


def current(card: SimulatedCard) -> int | None:
    """Which copy counts: 0, 1, or None when both are lost."""
    first, second = copies(card)
    if first is None or second is None:
        return 0 if first is not None else (1 if second is not None else None)
    if first[0] == 255 and second[0] == 0:
        return 1
    if first[0] == 0 and second[0] == 255:
        return 0
    return 1 if second[0] > first[0] else 0


def store(card: SimulatedCard, variables: dict[str, str], name: str) -> None:
    """Replace the older copy, as U-Boot and fw_setenv do."""
    now = current(card)
    where = 0 if now is None else 1 - now
    flags = 1
    if now is not None:
        copy = copies(card)[now]
        assert copy is not None
        flags = (copy[0] + 1) % 256
    card.write(PLACES[where], pack(variables, flags), name)
