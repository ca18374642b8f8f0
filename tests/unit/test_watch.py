"""For how long a release is watched, what counts as a failed signal, and when something follows."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinslot.config.watch import WatchConfig, WatchProgramConfig
from twinslot.core.backoff import Moment
from twinslot.core.watch import WatchSetting, WatchState, WatchStep, is_over, looked
from twinslot.health.value import ValueCheck
from twinslot.policy.watch import LocalWatch

SETTING = WatchSetting(time=3600, failures=3, leaves=True)


def at(seconds: float) -> Moment:
    return Moment(seconds, "1", seconds)


@pytest.mark.verifies("REQ-POL-04")
def test_only_looks_that_fail_in_a_row_lead_to_something() -> None:
    state, steps = WatchState(), []
    for number, failed in enumerate((True, True, False, True, True, True, True)):
        state, step = looked(state, "a", at(60 * number), SETTING, failed=failed)
        steps.append(step)
    assert steps == [WatchStep.NOTHING] * 5 + [WatchStep.LEAVE] * 2
    state, step = looked(state, "b", at(500), SETTING, failed=True)
    assert (step, state.failures, state.told) == (WatchStep.NOTHING, 1, False)


@pytest.mark.verifies("REQ-POL-04")
def test_what_is_only_told_is_told_once() -> None:
    state, steps = WatchState(), []
    telling = WatchSetting(time=3600, failures=1, leaves=False)
    for number, failed in enumerate((True, True, False, True)):
        state, step = looked(state, "a", at(number), telling, failed=failed)
        steps.append(step)
    assert steps == [WatchStep.TELL, WatchStep.NOTHING, WatchStep.NOTHING, WatchStep.NOTHING]


@given(st.lists(st.tuples(st.floats(0, 10_000), st.booleans(), st.floats(-1e6, 1e6)), max_size=30))
def test_a_watch_ends_after_its_time_whatever_the_clock_says(steps: list[tuple[float, bool, float]]) -> None:
    state, uptime, clock, boot, on = WatchState("a"), 0.0, 1e9, 1, 0.0
    state, _ = looked(state, "a", Moment(clock, "1", uptime), SETTING, failed=False)
    for passed, restart, jump in steps:
        if restart:
            boot, uptime, clock = boot + 1, 0.0, clock + jump
        else:
            uptime, clock, on = uptime + passed, clock + passed, on + passed
        state, _ = looked(state, "a", Moment(clock, str(boot), uptime), SETTING, failed=False)
    if on >= SETTING.time + 1:
        assert is_over(state, "a", SETTING)
    assert not is_over(state, "b", SETTING)
    assert is_over(state, "b", WatchSetting(0, 3, leaves=True))


@pytest.mark.parametrize(
    ("text", "low", "high", "passed", "detail"),
    [
        ("echo 3.5", 1.0, 4.0, True, "3.5"),
        ("echo 3.5", None, 3.0, False, "3.5, expected at most 3"),
        ("echo 3.5", 4.0, 5.0, False, "3.5, expected at least 4 and at most 5"),
        ("echo nan", 0.0, None, False, "nan, expected at least 0"),
        ("echo inf", 0.0, None, False, "inf, expected at least 0"),
        ("echo well", 0.0, None, False, "no number: well"),
        ("true", None, 1.0, False, "no number: "),
        ("echo 3; exit 1", 0.0, 5.0, False, "3 (exit status 1)"),
        ("echo well", None, None, True, "well"),
        ("exit 1", None, None, False, "exit status 1"),
    ],
)
def test_a_value_that_a_program_prints_is_held_to_its_bounds(
    text: str, low: float | None, high: float | None, passed: bool, detail: str
) -> None:
    found = ValueCheck("value", ("/bin/sh", "-c", text), low, high).probe(60)
    assert (found.passed, found.detail) == (passed, detail)


def test_a_release_is_watched_for_its_time_on_a_device_that_learns_it_after_a_restart() -> None:
    first, _ = looked(WatchState(), "t", Moment(0.0, "1", 100.0), SETTING, failed=False)
    second, _ = looked(first, "t", Moment(1.8e9, "2", 60.0), SETTING, failed=False)
    assert not is_over(second, "t", SETTING)


def test_what_was_seen_is_kept_and_a_damaged_file_begins_anew(tmp_path: Path) -> None:
    program = WatchProgramConfig(name="drain", argv=("/bin/false",))
    config = WatchConfig(time=3600, failures=2, action="rollback", program=(program, program))
    here = LocalWatch(config, tmp_path, lambda: at(100), tmp_path / "mark")
    assert [(each.name, each.passed) for each in here.signals()] == [("drain", False), ("drain (2)", False)]
    assert here.judge("a", failed=True) == (WatchStep.NOTHING, True)
    assert here.judge("a", failed=True) == (WatchStep.LEAVE, True)
    assert here.judge("a", failed=True) == (WatchStep.LEAVE, False)
    (tmp_path / "watch.json").write_text("[" * 100_000)
    assert here.judge("a", failed=True) == (WatchStep.NOTHING, True)
    here.mark(on=True)
    assert (tmp_path / "mark").exists()
    here.mark(on=False)
    assert not (tmp_path / "mark").exists()
