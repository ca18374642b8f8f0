"""Calendar events in the syntax of systemd.time(7): "Mon..Fri *-*-1..7 22:00 Europe/Berlin". Pure.

Of that syntax, whole seconds, and no "@seconds". A zone may stand at the end; it is looked up by whoever has the zones.
As systemd has it, a time that a change of clocks skips does not happen on that day, and one that comes twice counts the
first time.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final

FIRST_YEAR, LAST_YEAR = 1970, 2199  # systemd.time(7), and the bounds of its parser
LONGEST: Final = 200  # characters of a text; systemd's longest useful ones have about sixty
FARTHEST_FROM_END: Final = 28  # every month has so many days
_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_SHORT: Final = {
    "minutely": "*-*-* *:*:00",
    "hourly": "*-*-* *:00:00",
    "daily": "*-*-* 00:00:00",
    "monthly": "*-*-01 00:00:00",
    "weekly": "Mon *-*-* 00:00:00",
    "yearly": "*-01-01 00:00:00",
    "annually": "*-01-01 00:00:00",
    "quarterly": "*-01,04,07,10-01 00:00:00",
    "semiannually": "*-01,07-01 00:00:00",
}
_SPAN: Final = re.compile(r"(\d{1,4})(?:\.\.(\d{1,4}))?(?:/(\d{1,4}))?", re.ASCII)
_WEEKDAYS: Final = re.compile(r"[A-Za-z]+(?:(?:\.\.|-)[A-Za-z]+)?(?:,[A-Za-z]+(?:(?:\.\.|-)[A-Za-z]+)?)*,?", re.ASCII)
_ZONE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Days:
    """Days of a month as they are written: numbers from its beginning, or from its end."""

    spans: tuple[tuple[int, int | None, int | None], ...]
    from_end: bool

    def within(self, year: int, month: int) -> list[int]:
        last = calendar.monthrange(year, month)[1]
        found: set[int] = set()
        for start, stop, repeat in self.spans:
            low, high = start, stop
            if self.from_end:
                low, high = last + 1 - start, None
                if stop is not None:
                    reached = start + (stop - start) // (repeat or 1) * (repeat or 1)
                    low, high = last + 1 - reached, low
            found.update(_numbers(low, high, repeat, last))
        return sorted(day for day in found if 1 <= day <= last)


@dataclass(frozen=True, slots=True)
class Calendar:
    """When something happens, again and again.

    Attributes:
        text: As it was written.
        zone: Name of the time zone that stands in the text; empty: none does.
    """

    text: str
    zone: str
    _weekdays: frozenset[int]
    _years: frozenset[int]
    _months: frozenset[int]
    _days: _Days
    _hours: tuple[int, ...]
    _minutes: tuple[int, ...]
    _seconds: tuple[int, ...]

    def first_after(self, moment: datetime, zone: tzinfo) -> datetime | None:
        """The first event after a moment, in UTC; None: there is none until the year 2199.

        Args:
            moment: With an offset.
            zone: In which the text is meant.
        """
        local = moment.astimezone(zone).replace(tzinfo=None, fold=0)
        for day in self._dates_from(local.date()):
            earliest = local.time() if day == local.date() else None
            for at in self._times_after(earliest):
                found = _instant(datetime.combine(day, at), zone)
                if found is not None and found > moment:
                    return found
        return None

    def last_until(self, moment: datetime, since: datetime, zone: tzinfo) -> datetime | None:
        """The last event at or before a moment and after `since`, in UTC; None: there is none.

        Args:
            moment: With an offset.
            since: With an offset; what is looked at grows with the days between both.
            zone: In which the text is meant.
        """
        here = moment.astimezone(zone)
        offsets = [here.replace(fold=fold).utcoffset() or timedelta() for fold in (0, 1)]
        gone_back = abs(offsets[0] - offsets[1])
        local = here.replace(tzinfo=None, fold=0) + gone_back  # of a time that comes twice, the first one counts
        first = (since.astimezone(zone) - timedelta(days=1)).date()
        for day in self._dates_until(local.date(), first):
            latest = local.time() if day == local.date() else time.max
            for at in self._times_until(latest):
                found = _instant(datetime.combine(day, at), zone)
                if found is not None and found <= moment:
                    return found if found > since else None
        return None

    def _dates_from(self, first: date) -> Iterator[date]:
        for year in range(first.year, LAST_YEAR + 1):
            if year not in self._years:
                continue
            for month in sorted(self._months):
                if (year, month) >= (first.year, first.month):
                    days = (date(year, month, day) for day in self._days.within(year, month))
                    yield from (day for day in days if day >= first and day.weekday() in self._weekdays)

    def _dates_until(self, last: date, first: date) -> Iterator[date]:
        for back in range((last - first).days + 1):
            day = last - timedelta(days=back)
            fits = day.year in self._years and day.month in self._months and day.weekday() in self._weekdays
            if fits and day.day in self._days.within(day.year, day.month):
                yield day

    def _times_after(self, after: time | None) -> Iterator[time]:
        """Times of a day, ascending, from the second after the one that is given."""
        floor = (after.hour, after.minute, after.second) if after else (-1, -1, -1)
        for hour in (each for each in self._hours if each >= floor[0]):
            for minute in (each for each in self._minutes if (hour, each) >= floor[:2]):
                yield from (time(hour, minute, each) for each in self._seconds if (hour, minute, each) > floor)

    def _times_until(self, until: time) -> Iterator[time]:
        """Times of a day, descending, from the one that is given."""
        top = (until.hour, until.minute, until.second)
        for hour in (each for each in reversed(self._hours) if each <= top[0]):
            for minute in (each for each in reversed(self._minutes) if (hour, each) <= top[:2]):
                for second in (each for each in reversed(self._seconds) if (hour, minute, each) <= top):
                    yield time(hour, minute, second)


def parse_calendar(text: str) -> Calendar:
    """Read a calendar event.

    Raises:
        ValueError: With a clause that says what is wrong with it.
    """
    if len(text) > LONGEST:
        raise ValueError(f"at most {LONGEST} characters are expected")
    words = text.split(" ")
    zone = words.pop() if len(words) > 1 and _is_zone(words[-1]) else ""
    zone = "UTC" if zone.lower() == "utc" else zone
    given = _SHORT[words[0].lower()].split(" ") if len(words) == 1 and words[0].lower() in _SHORT else words
    weekdays, on, at = _sorted_out(given)
    years, months, days = _date(on)
    hours, minutes, seconds = _clock(at)
    return Calendar(text, zone, weekdays, years, months, days, hours, minutes, seconds)


def _is_zone(word: str) -> bool:
    return bool(_ZONE.fullmatch(word)) and not _is_weekdays(word)


def _is_weekdays(word: str) -> bool:
    if not _WEEKDAYS.fullmatch(word):
        return False
    return all(_day(each) is not None for each in re.split(r",|\.\.|-", word.rstrip(",")))


def _sorted_out(words: list[str]) -> tuple[frozenset[int], str, str]:
    """Weekdays, date and time of day, each as by default where it is left out."""
    left = list(words)
    weekdays = frozenset(range(7))
    if left and _is_weekdays(left[0]):
        weekdays = _weekdays(left.pop(0))
    on = left.pop(0) if left and ":" not in left[0] else ""
    at = left.pop(0) if left else ""
    if left or "" in words:
        raise ValueError(
            "weekdays, a date and a time of day are expected, one space between, such as 'Sat *-*-* 22:00'"
        )
    return weekdays, on or "*-*-*", at or "00:00:00"


def _weekdays(word: str) -> frozenset[int]:
    found: set[int] = set()
    for part in word.rstrip(",").split(","):
        first, *more = (_day(each) for each in re.split(r"\.\.|-", part))
        last = more[0] if more else first
        assert first is not None
        assert last is not None
        if last < first:
            raise ValueError(f"the weekdays '{part}' go backwards; weeks begin on Monday")
        found.update(range(first, last + 1))
    return frozenset(found)


def _day(word: str) -> int | None:
    lower = word.lower()
    return next((number for number, name in enumerate(_DAYS) if lower in (name, name[:3])), None)


def _date(word: str) -> tuple[frozenset[int], frozenset[int], _Days]:
    head, from_end, tail = word.partition("~")
    parts = [*head.split("-"), tail] if from_end else head.split("-")
    if len(parts) not in (2, 3):
        raise ValueError(f"a date such as '*-*-01' or '12-24' is expected, found '{word}'")
    year, month, day = ["*", *parts] if len(parts) == 2 else parts
    years = frozenset(_values(_years(year), FIRST_YEAR, LAST_YEAR))
    months = frozenset(_values(month, 1, 12))
    highest = FARTHEST_FROM_END if from_end else 31
    spans = ((1, None, 1),) if day == "*" else tuple(_spans(day, 1, highest, down=bool(from_end)))
    return years, months, _Days(spans, bool(from_end) and day != "*")


def _years(chain: str) -> str:
    """Years with two digits are those from 1970 to 2069."""

    def whole(number: re.Match[str]) -> str:
        year = int(number[0])
        return str(year + (2000 if year < 70 else 1900 if year < 100 else 0))

    return re.sub(r"(?<![\d/])\d+", whole, chain, flags=re.ASCII)


def _clock(word: str) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    parts = word.split(":")
    if len(parts) not in (2, 3):
        raise ValueError(f"a time of day such as '22:00' is expected, found '{word}'")
    hour, minute, second = [*parts, "00"] if len(parts) == 2 else parts
    return tuple(_values(hour, 0, 23)), tuple(_values(minute, 0, 59)), tuple(_values(second, 0, 59))


def _values(chain: str, low: int, high: int) -> list[int]:
    if chain == "*":
        return list(range(low, high + 1))
    found: set[int] = set()
    for start, stop, repeat in _spans(chain, low, high):
        found.update(_numbers(start, stop, repeat, high))
    return sorted(found)


def _spans(chain: str, low: int, high: int, *, down: bool = False) -> Iterator[tuple[int, int | None, int | None]]:
    """Parts of a list: `5`, `5..7`, `5/2`, `5..9/2`; `down`: steps lead to lower numbers, as before a month's end."""
    for part in chain.split(","):
        match = _SPAN.fullmatch(part)
        if match is None:
            raise ValueError(f"a number, a range such as '1..5' or a step such as '0/2' is expected, found '{part}'")
        start, stop, repeat = (None if each is None else int(each) for each in match.groups())
        assert start is not None
        if repeat and stop is not None and stop > start:
            stop -= (stop - start) % repeat  # the last one that steps reach is what has to be in bounds, as in systemd
        within = low <= start <= high and (stop is None or start <= stop <= high)
        second = start + (repeat or 0) * (-1 if down else 1)
        steps = repeat is None or (repeat > 0 and (stop is not None or low <= second <= high))
        if not within or not steps:
            raise ValueError(f"numbers from {low} to {high} are expected, found '{part}'")
        yield start, stop, repeat


def _numbers(start: int, stop: int | None, repeat: int | None, high: int) -> range:
    if stop is None:
        return range(start, high + 1, repeat) if repeat else range(start, start + 1)
    return range(start, stop + 1, repeat or 1)


def _instant(local: datetime, zone: tzinfo) -> datetime | None:
    """When the clocks of the zone show this the first time, in UTC; None: they skip it."""
    found = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    return found if found.astimezone(zone).replace(tzinfo=None, fold=0) == local else None
