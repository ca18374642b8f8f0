"""Waves: which devices take a release when, decided by each device alone from a signed list. Pure.

A device has a place in each release, drawn from its id and the release, so that another order comes each time and no
device is always first. Waves follow each other over the places; inside a wave devices start one after the other, so
that the peak of the bandwidth is the maker's choice.

A device may be pinned by its own configuration: `canary` begins with the first wave, `last` ends the last one, and
another ring begins with the wave that names it, at the place that it has anyway.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Final

PLACES: Final = 1 << 32  # places in a release; a share is exact to one in four thousand millions
WHOLE: Final = 1_000_000  # shares are told in millionths of the fleet
CANARY, LAST = "canary", "last"  # rings that no wave has to name


@dataclass(frozen=True, slots=True)
class Wave:
    """One wave.

    Attributes:
        share: Millionths of the fleet; 0: only the rings that it names.
        start: When its first device may start.
        spread: Seconds from the first device's start to the last one's.
        end: When its devices must have told of their success: silence counts as failure from then on; None: never.
        roles: Roles that must have approved it.
        networks: Classes of networks over which its devices may take the release; empty: any.
        rings: Devices that are pinned to it.
    """

    share: int
    start: datetime
    spread: int = 0
    end: datetime | None = None
    roles: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    rings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Turn:
    """A device's turn in a release.

    Attributes:
        wave: The one in which it takes the release.
        number: Of the wave, from 1.
        reach: Millionths of the fleet that have the release at the end of the wave: what must have been approved.
        start: When the device may start.
    """

    wave: Wave
    number: int
    reach: int
    start: datetime


# keeps: REQ-REP-06
def wave_time(reference: datetime, published: datetime | None) -> datetime:
    """What time it is for a wave, and for nothing else: a device without a clock learns it from the repository.

    Later than the maker's own clock it never is, unless the device's is; so a turn comes late rather than early.

    Args:
        reference: By the device's notion of time (S16).
        published: When the last trusted timestamp was signed, by the maker's clock; None: it does not say so.
    """
    return max(reference, published) if published else reference


def place_of(device_id: str, release: str) -> int:
    """The device's place in this release, from 0 to before `PLACES`; the same on each call, evenly spread over devices.

    Args:
        device_id: Of this device, in the form that it always has.
        release: SHA-256 of the manifest, so that another image of one name gives another order.
    """
    data = f"{len(device_id)}:{device_id}:{release}".encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.sha256(data).digest()[:4], "big")


def turn_of(waves: Sequence[Wave], place: int, ring: str = "") -> Turn | None:
    """The turn of the device at this place and in this ring; None: no wave has reached it.

    Without waves there is nothing to wait for: who asks does so before.
    """
    ends = tuple(max(1, end) for end in accumulate(wave.share for wave in waves))  # 0 would need no approval
    for number, wave in enumerate(waves, 1):
        if ring and ring in wave.rings:
            return _turn(wave, number, ends[number - 1], place, PLACES)
    if ring == CANARY and waves:
        return Turn(waves[0], 1, ends[0], waves[0].start)
    place = PLACES - 1 if ring == LAST else place
    for number, (wave, low, high) in enumerate(bounds(waves), 1):
        if low <= place < high:
            return _turn(wave, number, ends[number - 1], place - low, high - low)
    return None


def _turn(wave: Wave, number: int, reach: int, at: int, places: int) -> Turn:
    return Turn(wave, number, reach, wave.start + timedelta(seconds=wave.spread * at // places))


def bounds(waves: Sequence[Wave]) -> Iterator[tuple[Wave, int, int]]:
    """Each wave with its first place and the one behind its last; all shares together leave no gap and no overlap."""
    total = low = 0
    for wave in waves:
        total += wave.share
        high = min(total, WHOLE) * PLACES // WHOLE
        yield wave, low, high
        low = high
