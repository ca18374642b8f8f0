"""The pause after a failed poll."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from twinslot.core.backoff import FIRST, LONGEST, Moment, left_of, pause_after

NOW = Moment(clock=1_800_000_000.0, boot_id="one", uptime=1000.0)


@given(st.integers(1, 10_000), st.floats(0, 1e12), st.floats(0, 1))
def test_a_pause_grows_to_a_bound_and_is_never_shorter_than_the_server_asked(
    failures: int, wait: float, jitter: float
) -> None:
    seconds = pause_after(failures, wait, jitter, NOW).seconds
    assert FIRST / 2 <= seconds <= LONGEST * 1.25
    assert seconds >= min(wait, LONGEST)


def test_failures_in_a_row_double_it() -> None:
    assert [pause_after(n, 0, 1.0, NOW).seconds / FIRST for n in (1, 2, 3, 4)] == [1, 2, 4, 8]


def test_a_fleet_does_not_knock_in_step() -> None:
    found = {pause_after(1, 600, jitter / 100, NOW).seconds for jitter in range(101)}
    assert len(found) == 101


def test_in_the_same_boot_a_clock_that_is_set_does_not_count() -> None:
    pause = pause_after(1, 1000, 0, NOW)
    assert left_of(pause, Moment(0.0, "one", 1400.0)) == 600
    assert left_of(pause, Moment(2e9, "one", 2000.0)) == 0


def test_after_a_restart_the_clock_counts_unless_it_went_back() -> None:
    pause = pause_after(1, 1000, 0, NOW)
    assert left_of(pause, Moment(NOW.clock + 400, "two", 5.0)) == 600
    assert left_of(pause, Moment(0.0, "two", 5.0)) == 0


@given(st.floats(0, 4e9), st.floats(0, 1e8), st.sampled_from(["one", "two"]))
def test_never_longer_than_it_was_begun(clock: float, uptime: float, boot: str) -> None:
    pause = pause_after(3, 50_000, 0.5, NOW)
    assert 0 <= left_of(pause, Moment(clock, boot, max(uptime, 1000.0))) <= pause.seconds
