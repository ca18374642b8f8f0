"""Windows of `[policy]`, from their tables: calendars parsed, zones looked up. Imported where there are any."""

from __future__ import annotations

import zoneinfo
from collections.abc import Sequence
from datetime import UTC, timedelta, tzinfo
from pathlib import Path
from typing import Final

from twinslot.config.policy import WindowConfig
from twinslot.core.calendars import parse_calendar
from twinslot.core.errors import DeviceError
from twinslot.core.windows import Window

_LOCALTIME: Final = Path("/etc/localtime")  # localtime(5)


def windows_of(tables: Sequence[WindowConfig], key: str) -> tuple[Window, ...]:
    """The windows.

    Args:
        tables: As configured.
        key: Where they stand, for messages.

    Raises:
        DeviceError: `device.config-value`: a calendar or a zone is wrong.
    """
    return tuple(_window(table, key) for table in tables)


def _window(table: WindowConfig, key: str) -> Window:
    try:
        calendar = parse_calendar(table.calendar)
    except ValueError as e:
        what = f"'policy.{key}.calendar' is no calendar event"
        raise DeviceError(what, code="config-value", expected=str(e), found=table.calendar) from e
    if calendar.zone and table.timezone:
        what = f"a zone stands in 'policy.{key}.timezone' and at the end of 'calendar'"
        raise DeviceError(what, code="config-value", expected="one of them", found=table.calendar)
    return Window(calendar, timedelta(seconds=table.duration), _zone(table.timezone or calendar.zone, key))


def _zone(name: str, key: str) -> tzinfo:
    if not name:
        return _local_zone()
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as e:
        what, hint = f"'policy.{key}' names no time zone", "is it written as by tzselect(8), is 'tzdata' installed?"
        raise DeviceError(what, code="config-value", expected="such as Europe/Berlin", found=name, hint=hint) from e


def _local_zone() -> tzinfo:
    """As localtime(5) has it; where that file is missing, it is UTC."""
    try:
        with _LOCALTIME.open("rb") as file:
            return zoneinfo.ZoneInfo.from_file(file)
    except (OSError, ValueError):
        return UTC
