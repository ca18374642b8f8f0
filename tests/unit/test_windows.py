"""Windows: when they are open, until when, and when the next one opens."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.updater import NOWHERE
from twinslot.config.policy import InUseConfig, PolicyConfig, WindowConfig
from twinslot.core.calendars import parse_calendar
from twinslot.core.policy import Gate, Question, Wish
from twinslot.core.windows import Window, WindowState, window_state
from twinslot.policy.local import LocalPolicy

BERLIN = ZoneInfo("Europe/Berlin")


def window(text: str, hours: float) -> Window:
    return Window(parse_calendar(text), timedelta(hours=hours), BERLIN)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_without_windows_it_may_be_done_at_any_time() -> None:
    assert window_state((), at("2026-05-05T12:00")) == WindowState(open=True)


@pytest.mark.verifies("REQ-POL-01")
def test_a_window_over_midnight_is_open_on_the_morning_after() -> None:
    night = (window("Fri 22:00", 8),)  # Friday 20:00 to Saturday 04:00 in UTC
    assert window_state(night, at("2026-05-08T19:59:59")) == WindowState(open=False, next=at("2026-05-08T20:00"))
    for moment in ("2026-05-08T20:00", "2026-05-09T03:59:59"):
        assert window_state(night, at(moment)) == WindowState(open=True, until=at("2026-05-09T04:00"))
    assert window_state(night, at("2026-05-09T04:00")) == WindowState(open=False, next=at("2026-05-15T20:00"))


def test_windows_that_follow_each_other_are_one_and_those_that_never_end_have_no_end() -> None:
    two = (window("22:00", 2), window("00:00", 3))
    assert window_state(two, at("2026-05-08T21:00")).until == at("2026-05-09T01:00")
    assert window_state((window("*:00", 1),), at("2026-05-08T21:00")) == WindowState(open=True)


def test_a_window_that_never_comes_again_says_so() -> None:
    assert window_state((window("2020-01-01 00:00", 2),), at("2026-05-08T21:00")) == WindowState(open=False)


@pytest.mark.verifies("REQ-POL-01")
def test_in_the_night_with_two_half_past_two_the_window_opens_at_the_first_and_lasts_as_long_as_ever() -> None:
    half_past_two = (window("02:30", 2),)
    assert not window_state(half_past_two, at("2026-10-25T00:29")).open
    for minutes in (0, 59, 60, 119):
        state = window_state(half_past_two, at("2026-10-25T00:30") + timedelta(minutes=minutes))
        assert state == WindowState(open=True, until=at("2026-10-25T02:30"))
    assert not window_state(half_past_two, at("2026-10-25T02:30")).open


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(("22:00", "Mon..Fri 01:15", "*-*-1..7 02:30", "*:0/20", "Sun *-*~1 23:00", "*:*")),
            st.integers(1, 7 * 24 * 60),
        ),
        min_size=1,
        max_size=3,
    ),
    st.integers(0, 366 * 86_400),
)
def test_what_is_said_of_the_next_change_is_so(given_windows: list[tuple[str, int]], seconds: int) -> None:
    windows = [window(text, minutes / 60) for text, minutes in given_windows]
    now = at("2026-01-01T00:00") + timedelta(seconds=seconds)
    state = window_state(windows, now)
    second = timedelta(seconds=1)
    if state.open and state.until:
        assert state.until > now
        assert window_state(windows, state.until - second).open
        assert not window_state(windows, state.until).open
    elif not state.open:
        assert state.next
        assert state.next > now
        assert window_state(windows, state.next).open
        assert not window_state(windows, state.next - second).open


@pytest.mark.verifies("REQ-POL-01")
@pytest.mark.parametrize("step", ["fetch", "restart"])
def test_a_clock_that_is_not_known_leaves_windows_on_the_configured_side(tmp_path: Path, step: str) -> None:
    def told(unknown: str, now: datetime, calendar: str) -> list[str]:
        one = (WindowConfig(calendar=calendar, duration=3600.0, timezone="UTC"),)
        policy = PolicyConfig(clock_unknown=unknown, in_use=InUseConfig(directories=(), logind=False))
        fetch, restart = (one, ()) if step == "fetch" else ((), one)
        policy = dataclasses.replace(policy, fetch_window=fetch, restart_window=restart)
        here = LocalPolicy(dataclasses.replace(NOWHERE, policy=policy), lambda: now, root=tmp_path)
        gate = Gate.FETCH if step == "fetch" else Gate.ACTIVATE
        question = Question(gate, Wish(remote=True), verified="2026-01-01T00:00:00+00:00")
        return [each.why.code for each in here.obstacles(question)]

    for unknown in ("closed", "open"):
        assert told(unknown, at("2026-05-05T12:30"), "12:00") == []
        assert told(unknown, at("2026-05-05T12:30"), "13:00") == ["window-closed"]
    for calendar in ("12:00", "13:00"):
        assert told("closed", at("1970-05-05T12:30"), calendar) == ["clock-unknown"], "before what was verified"
        assert told("open", at("1970-05-05T12:30"), calendar) == []
