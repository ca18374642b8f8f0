"""`[policy]`: when an update may go on."""

# ruff: noqa: RUF009 - `option` makes dataclass fields, it does not make values
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final

from twinslot.config.fields import option

WEEK: Final = 604_800
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
class PolicyConfig:
    """When an update may go on; what has to wait goes on by itself (guide-policy.md)."""

    in_use: InUseConfig = option("Who is asked whether the device is in use.", factory=InUseConfig)
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
