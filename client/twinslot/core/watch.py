"""For how long a committed release is watched, and when its signals lead to something. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from twinslot.core.backoff import Moment, elapsed
from twinslot.core.stored import Kept


class WatchStep(enum.StrEnum):
    """What follows from a look."""

    NOTHING = "nothing"
    TELL = "tell"  # the signals failed often enough: it is told, once
    LEAVE = "leave"  # and the other slot is tried


@dataclass(frozen=True, slots=True)
class WatchSetting:
    """As configured.

    Attributes:
        time: Seconds after the commit.
        failures: Looks in a row that must fail.
        leaves: The release is left then.
    """

    time: float
    failures: int
    leaves: bool


@dataclass(frozen=True, slots=True)
class WatchState(Kept):
    """What was seen so far.

    Attributes:
        transaction: The update whose release is watched.
        counted: Seconds that it was watched.
        clock: Seconds since 1970 at the last look, by the device's clock.
        boot_id: Of the boot in which that was; empty: there was none.
        uptime: Seconds of that boot.
        failures: Looks that failed in a row.
        told: It was told that they did.
    """

    transaction: str = ""
    counted: float = 0.0
    clock: float = 0.0
    boot_id: str = ""
    uptime: float = 0.0
    failures: int = 0
    told: bool = False


def looked(
    state: WatchState, transaction: str, now: Moment, setting: WatchSetting, *, failed: bool
) -> tuple[WatchState, WatchStep]:
    """After one look at the signals.

    Args:
        state: Before it; of another update: nothing was seen yet.
        transaction: Whose release is watched.
        now: When it was.
        setting: As configured.
        failed: One of the signals did.
    """
    before = state if state.transaction == transaction else WatchState(transaction)
    passed = elapsed(before.clock, before.boot_id, before.uptime, now)
    failures = before.failures + 1 if failed else 0
    after = replace(
        before,
        counted=before.counted + passed,
        clock=now.clock,
        boot_id=now.boot_id,
        uptime=now.uptime,
        failures=failures,
        told=before.told or failures >= setting.failures,
    )
    if failures < setting.failures:
        return after, WatchStep.NOTHING
    if setting.leaves:
        return after, WatchStep.LEAVE
    return after, WatchStep.NOTHING if before.told else WatchStep.TELL


def is_over(state: WatchState, transaction: str, setting: WatchSetting) -> bool:
    """The release was watched for as long as is configured."""
    return not setting.time or (state.transaction == transaction and state.counted >= setting.time)
