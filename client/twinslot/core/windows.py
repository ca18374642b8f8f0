"""Windows: when a step of an update may be done, as a calendar event and how long it lasts. Pure.

A window that is open at a moment began at an event not longer ago than it lasts. How long is measured, not read from a
clock on the wall: eight hours are eight hours in the night in which clocks are changed, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Final

from twinslot.core.calendars import Calendar
from twinslot.core.errors import Refusal
from twinslot.core.policy import Obstacle, ObstacleKind

_JOINED: Final = 100  # windows that follow each other without a gap; more count as open for ever


@dataclass(frozen=True, slots=True)
class Window:
    """One window, again and again.

    Attributes:
        calendar: When it begins.
        lasts: How long it is open.
        zone: In which the calendar is meant.
    """

    calendar: Calendar
    lasts: timedelta
    zone: tzinfo

    def closes(self, now: datetime) -> datetime | None:
        """When it closes; None: it is not open."""
        began = self.calendar.last_until(now, now - self.lasts, self.zone)
        return began + self.lasts if began else None


@dataclass(frozen=True, slots=True)
class WindowState:
    """Of all windows for one step together, at one moment.

    Attributes:
        open: One of them is open, or there are none.
        until: When the last of those that follow each other closes; None: it is not open, or never closes.
        next: When the next one opens; None: it is open, or none ever opens again.
    """

    open: bool
    until: datetime | None = None
    next: datetime | None = None


def window_state(windows: Sequence[Window], now: datetime) -> WindowState:
    """Whether a step with these windows may be done now; without windows it may always."""
    if not windows:
        return WindowState(open=True)
    end = _closes(windows, now)
    if end is None:
        starts = [start for each in windows if (start := each.calendar.first_after(now, each.zone))]
        return WindowState(open=False, next=min(starts, default=None))
    for _ in range(_JOINED):
        later = _closes(windows, end)
        if later is None:
            return WindowState(open=True, until=end)
        end = later
    return WindowState(open=True)


def _closes(windows: Sequence[Window], now: datetime) -> datetime | None:
    return max((end for each in windows if (end := each.closes(now))), default=None)


def closed(step: str, state: WindowState, *, known: bool) -> Obstacle:
    """What stands against a step outside of its windows.

    Args:
        step: `fetch` or `restart`.
        state: Of its windows; not open.
        known: The clock is known; otherwise the configuration says that windows are closed.
    """
    done = "fetched" if step == "fetch" else "started"
    if not known:
        hint = "set the clock, or see 'policy.clock_unknown'"
        why = Refusal("clock-unknown", f"an update is {done} in windows, and the clock is not known", hint=hint)
        return Obstacle(ObstacleKind.WINDOW, why)
    opens = f"{state.next:%Y-%m-%dT%H:%M:%SZ}" if state.next else "never"
    why = Refusal("window-closed", f"no window is open in which an update is {done}", expected=f"the next one, {opens}")
    return Obstacle(ObstacleKind.WINDOW, why, state.next)
