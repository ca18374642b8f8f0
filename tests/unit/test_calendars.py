"""Calendar events: what systemd takes and when it says that they come is what we take and say."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from twinslot.core.calendars import LONGEST, parse_calendar

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 5, 5, 12, tzinfo=UTC)

GOOD = """
daily|weekly|monthly|yearly|annually|quarterly|semiannually|minutely|hourly|Hourly|hourly UTC|daily Europe/Berlin
Mon..Fri|Mon,Wed..Fri *-*-1..7 18:00|*-*~3|*-2~1..3|*-*-31|*:0/5|08:05:40|5/3:10|*-*-* *:*:*|Sat,Thu,Mon..Wed,Sat..Sun
Wed..Wed,Wed *-1|Wed, 17:48|Wed..Sat,Tue 12-10-15 1:2:3|*-*-7 0:0:0|10-15|monday *-12-* 17:00|mon-fri|10:00 utc
Mon,Fri *-*-3,1,2 *:30:45|12,14,13,12:20,10,30|12..14:10,20,30|03-05 08:05:40|2003-03-05|05:40 UTC|Mon 10:00 GMT
*-*~1..5|*-*~1..5/2|*-*~5..7/9|*-*~2..9/4|*-*~3/2|Mon UTC|*-*~20/9
*-02~05/2|1..5-*-*|26-1-1|69-1-1|70-1-1|0-1-1|*-*~28|1..3/5:00|*-1/11-1|*~3|02~3|02-*|*-02~*
2026/1-*-*|*-*-1/30|010:000|Mon,Tue,|Monday..Friday|0..23/4,1:00|*:0..10/3|10:0,5/10,7..9|*-*~07/1|10:00 Etc/GMT+5
Mon..Wed,Sat *-3..9/2-1..20/3 1/3:0/7:1..30/9 Asia/Tokyo|Fri *-02-29|*-02-29 23:59:59 America/St_Johns
"""
BAD = """
|*|Mon *|Fri..Mon|Sun..Mon 1:00|25:00|24:00|10:60|10:00:60|*-*-32|*-*~29|*-0-1|*-1-0|00:00/90|*:*/0|*:*/5|*/2:00|Mon/2
2300-01-01|2200-1-1|1969-1-1|100-1-1|2:3..1|0/24:00|23/1:00|*-12/1-1|*-1/12-1|*-*-1/31|2026/500-1-1|UTC|Europe/Berlin
10|Mon 10|Mon,,Tue|,Mon|Mon..|..Mon|Mon..Tue..Wed|Mon Tue|Mond|Tues|10:00  UTC| 10:00|10:00 |10:00 Mon
T12:00|2026-01-01T12:00|0..5..6:00|1 :00|+1:00|10:00 2026-05-06|1-2-3-4|10:00:00:00|*-*-5~2|*-*~3/3|*-*~7..5|Mon\t10:00
"""
GOOD_ONES = [text for text in GOOD.replace("\n", "|").split("|") if text]
BAD_ONES = BAD.strip("\n").replace("\n", "|").split("|")


def systemd(text: str, now: datetime = NOW) -> str:
    """The next time by systemd-analyze(1): `error`, `never` or an ISO 8601 time."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    argv = ["systemd-analyze", "calendar", f"--base-time={now:%Y-%m-%d %H:%M:%S} UTC", "--", text]
    said = subprocess.run(
        argv, capture_output=True, text=True, env={"TZ": "UTC", "PATH": "/usr/bin:/bin", "LC_ALL": "C"}
    )
    if said.returncode:
        return "error"
    line = next(line for line in said.stdout.splitlines() if "Next elapse" in line).partition(": ")[2]
    return "never" if line == "never" else "T".join(line.split()[1:3])


def ours(text: str, now: datetime = NOW) -> str:
    """The same by us."""
    try:
        found = parse_calendar(text)
    except ValueError:
        return "error"
    moment = found.first_after(now, ZoneInfo(found.zone or "UTC"))
    return f"{moment:%Y-%m-%dT%H:%M:%S}" if moment else "never"


@pytest.mark.verifies("REQ-POL-01")
@pytest.mark.parametrize("text", GOOD_ONES)
def test_what_systemd_takes_comes_when_systemd_says(text: str) -> None:
    assert ours(text) != "error"
    assert ours(text) == systemd(text)


@pytest.mark.verifies("REQ-POL-01")
@pytest.mark.parametrize("text", BAD_ONES)
def test_what_systemd_refuses_is_refused_with_a_reason(text: str) -> None:
    assert systemd(text) == "error" or text == "10:00 "  # of a space at the end versions differ
    with pytest.raises(ValueError, match=r"\w+"):
        parse_calendar(text)


def chains(low: int, high: int, parts: int = 3) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda ends: f"{min(ends)}..{max(ends)}")
    step = st.tuples(number, st.integers(1, 9)).map(lambda pair: f"{pair[0]}/{pair[1]}")
    part = st.one_of(number.map(str), span, step, st.tuples(span, st.integers(1, 9)).map(lambda p: f"{p[0]}/{p[1]}"))
    return st.one_of(st.just("*"), st.lists(part, min_size=1, max_size=parts).map(",".join))


DAYS = ("Mon", "tue", "Wednesday", "Thu", "Fri..Sun", "Mon-Wed,Sat", "Sun,")
# Of a list of days from a month's end systemd lowers the bound by three with each part, so that it refuses good ones.
DATES = st.builds(
    lambda year, month, day: f"{year}-{month}{day}",
    st.one_of(st.just("*"), chains(2026, 2032)),
    chains(1, 12),
    st.one_of(chains(1, 31).map(lambda day: f"-{day}"), chains(1, 31, 1).map(lambda day: f"~{day}")),
)
TIMES = st.builds(lambda h, m, s: f"{h}:{m}{s}", chains(0, 23), chains(0, 59), st.sampled_from(("", ":00", ":7/11")))
TEXTS = st.builds(
    lambda *parts: " ".join(part for part in parts if part),
    st.one_of(st.just(""), st.sampled_from(DAYS)),
    st.one_of(st.just(""), DATES),
    TIMES,
    st.sampled_from(("", "UTC", "Asia/Kolkata")),
)


@pytest.mark.verifies("REQ-POL-01")
@settings(max_examples=60, deadline=None)
@given(TEXTS, st.integers(0, 3 * 366 * 86_400))
@example("*-*~1..29/3 *:*", 0)
@example("*-1..13/5-1 *:*", 0)
@example("*-1..13/4-1 *:*", 0)
def test_whatever_is_written_we_say_what_systemd_says(text: str, seconds: int) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    assert ours(text, now) == systemd(text, now)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=30), st.text(alphabet="0123456789*-~:,./ MonUTC", max_size=LONGEST + 5)))
def test_any_text_is_an_event_or_a_clause(text: str) -> None:
    try:
        found = parse_calendar(text)
    except ValueError:
        return
    found.first_after(NOW, UTC)
    found.last_until(NOW, NOW - timedelta(days=7), UTC)


@settings(max_examples=200, deadline=None)
@given(TEXTS, st.integers(0, 3 * 366 * 86_400))
def test_the_last_event_is_the_one_after_which_no_other_comes_before_now(text: str, seconds: int) -> None:
    try:
        found = parse_calendar(text)
    except ValueError:
        return
    now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    since = now - timedelta(days=7)
    last, following = found.last_until(now, since, BERLIN), found.first_after(since, BERLIN)
    if last is None:
        assert following is None or following > now
        return
    assert since < last <= now
    after = found.first_after(last, BERLIN)
    assert after is None or after > now


@pytest.mark.parametrize("text", ["*-*-* 02:30 Europe/Berlin", "*-*-* 02:00/15 Europe/Berlin"])
@pytest.mark.parametrize("day", ["2026-03-28T12:00", "2026-10-24T12:00"])
def test_in_the_night_in_which_clocks_are_changed_it_is_as_systemd_has_it(text: str, day: str) -> None:
    now = datetime.fromisoformat(f"{day}+00:00")
    assert ours(text, now) == systemd(text, now)


def test_of_two_half_past_two_the_first_counts_and_of_none_there_is_none() -> None:
    event = parse_calendar("02:30")
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # 02:30 in summer; an hour later it is 02:30 in winter
    second = first + timedelta(hours=1)
    for moment in (first, first + timedelta(minutes=45), second, second + timedelta(minutes=15)):
        assert event.last_until(moment, moment - timedelta(days=1), BERLIN) == first
        assert event.first_after(moment, BERLIN) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)
    spring = datetime(2026, 3, 29, 4, tzinfo=UTC)
    assert event.last_until(spring, spring - timedelta(hours=24), BERLIN) is None
