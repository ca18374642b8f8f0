"""`[watch]`: what the product says after a commit."""

from __future__ import annotations

import dataclasses
from typing import Final

from twinslot.config.fields import option
from twinslot.core.errors import DeviceError

DAY: Final = 86_400
FARTHEST: Final = 1e15  # beyond it a float has no tenths


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WatchProgramConfig:
    """A program that must end with status 0; with bounds, the last line that it prints is a number within them."""

    name: str = option("Unique name.")
    argv: tuple[str, ...] = option("Program and arguments; no shell.", low=1)
    low: float | None = option("Lowest value; absent: any.", default=None, low=-FARTHEST, high=FARTHEST)
    high: float | None = option("Highest value; absent: any.", default=None, low=-FARTHEST, high=FARTHEST)
    timeout: float = option("Of one run.", default=30.0, unit="seconds", low=0.1, high=600)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WatchConfig:
    """A release is watched after its commit: twinslot-watch.timer looks every minute."""

    time: float = option("For how long; 0: not at all.", default=0.0, unit="seconds", low=0, high=90 * DAY)
    failures: int = option("Looks in a row that must fail.", default=3, unit="looks", low=1, high=10_000)
    action: str = option(
        "What follows: an event, or also the other slot, tried as by an operator: not while the device is in use, not "
        "below the security epoch, and not of a release that was reached so.",
        default="tell",
        choices=("tell", "rollback"),
    )
    units: tuple[str, ...] = option("systemd units that must be active.", default=())
    program: tuple[WatchProgramConfig, ...] = option("Programs of the product.", default=())


def check_watch(watch: WatchConfig) -> None:
    """Bounds that no value is within would leave every release after its commit.

    Raises:
        DeviceError: `device.config-value`.
    """
    for each in watch.program:
        if each.low is not None and each.high is not None and each.low > each.high:
            expected, found = f"'low' of '{each.name}' not above its 'high', {each.high:g}", f"{each.low:g}"
            raise DeviceError("'watch.program.low' is wrong", code="config-value", expected=expected, found=found)
