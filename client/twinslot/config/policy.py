"""`[policy]`: when an update may go on."""

# ruff: noqa: RUF009 - `option` makes dataclass fields, it does not make values
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final

from twinslot.config.fields import option

DAY: Final = 86_400
WEEK: Final = 7 * DAY
READY_DIRECTORIES: Final = (Path("/etc/twinslot/ready.d"), Path("/usr/lib/twinslot/ready.d"))  # need not exist


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class WindowConfig:
    """A time in which the step may be done; several add up. Without any, it may be done at any time."""

    calendar: str = option('When it begins, as systemd.time(7) has calendar events: "Mon..Fri *-*-* 22:00".')
    duration: float = option("How long it is open.", unit="seconds", low=60, high=WEEK)
    timezone: str = option(
        'In which zone the calendar is meant, such as "Europe/Berlin"; empty: the one that stands at its end, or else '
        "that of /etc/localtime.",
        default="",
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class InUseConfig:
    """Who is asked whether the device is in use, beside files in /run/twinslot/inhibit.d and callers of `Inhibit`."""

    directories: tuple[Path, ...] = option(
        "Every executable in these is asked before arming and before a restart: any exit status but 0, and no end in "
        "time, mean in use. Names hide each other as those of health checks do.",
        default=READY_DIRECTORIES,
    )
    timeout: float = option("Of one program.", default=10.0, unit="seconds", low=0.1, high=600)
    logind: bool = option("Heed who blocks a shutdown by systemd-inhibit(1) or logind.", default=True)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ConsentConfig:
    """Whether people have to agree before an update is armed, and for how long they may put it off."""

    mode: str = option(
        "Whose word an update waits for: nobody's; it is told and goes on after a time unless somebody holds it; "
        "somebody has to approve it.",
        default="none",
        choices=("none", "notify", "required"),
    )
    notice: float = option(
        'With "notify": how long people may put it off before it goes on.',
        default=3600.0,
        unit="seconds",
        low=0,
        high=30 * DAY,
    )
    limit: float = option(
        "Updates wait for people at most so long, all of them together since one was committed.",
        default=14.0 * DAY,
        unit="seconds",
        low=0,
        high=366 * DAY,
    )
    limit_security: float = option(
        "The same where the release is a security update.", default=3.0 * DAY, unit="seconds", low=0, high=366 * DAY
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PowerConfig:
    """What power a device must have before an update is written, armed and started."""

    mains: bool = option("Power from outside.", default=False)
    battery: int = option("Each battery at least so full; 0: any.", default=0, unit="percent", low=0, high=100)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """Networks on which bytes cost something."""

    metered: tuple[str, ...] = option(
        'Names of the interfaces that lead to them, with * and ?, such as "wwan*". Metered is what the default route '
        "leads to.",
        default=(),
    )
    on_metered: str = option(
        "What becomes of an update from a server there: it is fetched, it waits for another network, or it is fetched "
        "within `budget`.",
        default="fetch",
        choices=("fetch", "wait", "budget"),
    )
    budget: int = option(
        'With "budget": what one update may fetch there; 0: no bound.', default=0, unit="bytes", low=0, high=1 << 44
    )


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PolicyConfig:
    """When an update may go on; what has to wait goes on by itself (guide-policy.md)."""

    in_use: InUseConfig = option("Who is asked whether the device is in use.", factory=InUseConfig)
    consent: ConsentConfig = option("Whether people have to agree.", factory=ConsentConfig)
    power: PowerConfig = option("What power is needed.", factory=PowerConfig)
    network: NetworkConfig = option("Networks on which bytes cost something.", factory=NetworkConfig)
    free_space: int = option(
        "Room that the data partition must have before an update is fetched and written; 0: any.",
        default=0,
        unit="bytes",
        low=0,
        high=1 << 44,
    )
    fallback_proven: float = option(
        "An update is begun only while the other slot was read whole not longer ago than so long, so that what it "
        "replaces was a way back to the end; 0: whenever.",
        default=0.0,
        unit="seconds",
        low=0,
        high=366 * DAY,
    )
    clock: str = option(
        "When windows may go by the clock: once it is not before what is known to have passed, or once a server has "
        "set it since the start, too.",
        default="dated",
        choices=("dated", "synchronized"),
    )
    clock_unknown: str = option(
        "What windows are while the clock is not known.", default="closed", choices=("closed", "open")
    )
    fetch_window: tuple[WindowConfig, ...] = option("When an image may be fetched over a network.", default=())
    restart_window: tuple[WindowConfig, ...] = option(
        "When an update may be armed, and the device restarted into it.", default=()
    )


def check_policy(policy: PolicyConfig) -> None:
    """What no single key can say.

    Raises:
        DeviceError: `device.config-value`.
    """
    if policy.fetch_window or policy.restart_window:
        from twinslot.config.windows import windows_of

        windows_of(policy.fetch_window, "fetch_window")
        windows_of(policy.restart_window, "restart_window")
