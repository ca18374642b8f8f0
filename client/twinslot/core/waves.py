"""Waves: which devices take a release when, decided by each device alone from a signed list. Pure.

A device has a place in each release, drawn from its id and the release, so that another order comes each time and no
device is always first. Waves follow each other over the places; inside a wave devices start one after the other, so
that the peak of the bandwidth is the maker's choice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

PLACES: Final = 1 << 32  # places in a release; a share is exact to one in four thousand millions
WHOLE: Final = 1_000_000  # shares are told in millionths of the fleet


@dataclass(frozen=True, slots=True)
class Wave:
    """One wave.

    Attributes:
        share: Millionths of the fleet.
        start: When its first device may start.
        spread: Seconds from the first device's start to the last one's.
    """

    share: int
    start: datetime
    spread: int = 0


def place_of(device_id: str, release: str) -> int:
    """The device's place in this release, from 0 to before `PLACES`; the same on each call, evenly spread over devices.

    Args:
        device_id: Of this device, in the form that it always has.
        release: SHA-256 of the manifest, so that another image of one name gives another order.
    """
    data = f"{len(device_id)}:{device_id}:{release}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.sha256(data).digest()[:4], "big")


def start_of(waves: Sequence[Wave], place: int) -> datetime | None:
    """When the device at this place may start; None: no wave has reached it.

    Without waves there is nothing to wait for: who asks does so before.
    """
    for wave, low, high in bounds(waves):
        if low <= place < high:
            return wave.start + timedelta(seconds=wave.spread * (place - low) // (high - low))
    return None


def bounds(waves: Sequence[Wave]) -> Iterator[tuple[Wave, int, int]]:
    """Each wave with its first place and the one behind its last; all shares together leave no gap and no overlap."""
    total = low = 0
    for wave in waves:
        total += wave.share
        high = min(total, WHOLE) * PLACES // WHOLE
        yield wave, low, high
        low = high
