"""What must be true of the device's power, network and room before a step of an update. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from twinslot.core.errors import Refusal
from twinslot.core.policy import Obstacle, ObstacleKind

MAINS = ("Mains", "USB", "Wireless")  # Documentation/ABI/testing/sysfs-class-power: types that bring power from outside


@dataclass(frozen=True, slots=True)
class Supply:
    """One supply of power.

    Attributes:
        name: Its name.
        type: `Mains`, `Battery` and others of the kernel's words.
        online: It brings power from outside; None: it does not say.
        capacity: Percent of a battery; None: it does not say.
    """

    name: str
    type: str
    online: bool | None = None
    capacity: int | None = None


# keeps: REQ-POL-03
def power(supplies: Sequence[Supply], *, mains: bool, battery: int) -> Obstacle | None:
    """What is wrong with the power; what is asked for and not told is wrong.

    Args:
        supplies: All of the device, but for batteries of what is connected to it.
        mains: Power from outside is needed.
        battery: Percent that each battery must have; 0: any.
    """
    if mains and not any(each.online for each in supplies if each.type in MAINS):
        return _condition("power", "the device has no power from outside", "connect it")
    batteries = [each for each in supplies if each.type == "Battery"]
    low = [each for each in batteries if each.capacity is None or each.capacity < battery]
    if battery and (low or not batteries):
        found = ", ".join(f"{each.name} {_percent(each.capacity)}" for each in low) or "no battery"
        return _condition("battery", "the battery is not full enough", "charge it", f"at least {battery} %", found)
    return None


def _percent(capacity: int | None) -> str:
    return "not known" if capacity is None else f"{capacity} %"


def room(free: int | None, needed: int) -> Obstacle | None:
    """What is wrong with the room on the data partition; None as `free`: it cannot be told."""
    if not needed or (free is not None and free >= needed):
        return None
    found = "not known" if free is None else str(free)
    return _condition("no-room", "the data partition is too full", "free some space", f"{needed} bytes", found)


def unproven(proven: datetime | None, now: datetime, within: float) -> Obstacle | None:
    """What is wrong with the way back.

    Args:
        proven: When it was last read whole; None: it is not proven.
        now: By the device's clock; a date in its future counts for nothing.
        within: Seconds; 0: it is not asked for.
    """
    if not within or (proven is not None and timedelta(0) <= now - proven <= timedelta(seconds=within)):
        return None
    found = f"{proven:%Y-%m-%dT%H:%M:%SZ}" if proven else "not proven"
    hint = "'twinslot scrub' reads it"
    expected = f"read within {within / 86_400:g} days"
    return _condition("fallback-unproven", "the other slot was not proven lately", hint, expected, found)


def is_metered(interfaces: Iterable[str], patterns: Sequence[str]) -> bool:
    """Whether bytes cost something: an interface that leads out has a name like one of these."""
    return any(fnmatchcase(name, pattern) for name in interfaces for pattern in patterns)


def metered(interfaces: Sequence[str]) -> Obstacle:
    """Bytes cost something, and it is worth to wait for another network."""
    hint = "connect another network, or bring the image as a file"
    return _condition("metered", "the network is metered", hint, found=", ".join(interfaces))


def _condition(code: str, message: str, hint: str, expected: str | None = None, found: str | None = None) -> Obstacle:
    return Obstacle(ObstacleKind.CONDITION, Refusal(code, message, expected, found, hint))
