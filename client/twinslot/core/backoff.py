"""When a server is asked again after it could not be: a doubling, jittered pause that outlives restarts. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from twinslot.core.stored import Kept

FIRST: Final = (
    300.0  # seconds after the first failure; the timer comes rarer, so this is for servers asked by hand, too
)
LONGEST: Final = 86_400.0  # seconds; a server that asks for more is asked once a day


@dataclass(frozen=True, slots=True)
class Pause(Kept):
    """A pause that was begun.

    Attributes:
        seconds: How long.
        clock: Seconds since 1970 when it began, by the device's clock.
        boot_id: Of the boot in which it began.
        uptime: Seconds of that boot when it began.
    """

    seconds: float = 0.0
    clock: float = 0.0
    boot_id: str = ""
    uptime: float = 0.0


@dataclass(frozen=True, slots=True)
class Moment:
    """Now, in three ways; see `Pause`. A clock of 0 is one that is not known to be right."""

    clock: float
    boot_id: str
    uptime: float


def pause_after(failures: int, wait: float, jitter: float, now: Moment) -> Pause:
    """The pause before the next try.

    Args:
        failures: In a row, this one counted.
        wait: Seconds that the server asked for; 0: it did not.
        jitter: From 0 to 1, drawn; so that a fleet does not knock in step.
        now: When it begins.
    """
    longest = min(LONGEST, FIRST * 2.0 ** min(max(failures - 1, 0), 30))
    asked = min(LONGEST, wait)
    seconds = max(longest * (0.5 + jitter / 2), asked * (1 + jitter / 4))
    return Pause(seconds, now.clock, now.boot_id, now.uptime)


def elapsed(clock: float, boot_id: str, uptime: float, now: Moment) -> float:
    """Seconds that are known to have passed since a moment that was kept; 0 when none was (its boot is empty).

    In the same boot by the uptime, which nobody sets; from another one by the clock, as far as it went forward. Where
    the clock was not known then (0), its being right now says nothing of the time between.
    """
    if boot_id == now.boot_id:
        return max(0.0, now.uptime - uptime)
    return max(0.0, now.clock - clock) if boot_id and clock > 0 else 0.0


def left_of(pause: Pause, now: Moment) -> float:
    """Seconds that are left of it.

    In the same boot the uptime counts, which nobody sets. In another one the clock counts; where that has gone back, or
    stands before the pause began, a restart is all that is known to have passed, and nothing is left.
    """
    if now.boot_id == pause.boot_id:
        return max(0.0, pause.seconds - (now.uptime - pause.uptime))
    passed = now.clock - pause.clock
    return max(0.0, pause.seconds - passed) if passed >= 0 else 0.0
