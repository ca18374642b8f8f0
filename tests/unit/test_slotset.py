"""Which slot is written and where "back" is, for two slots and for three."""

from __future__ import annotations

import pytest

from twinslot.core import boot_variables as bootenv
from twinslot.core.boot_variables import read_state
from twinslot.core.model import Floors, Release, SlotName, SlotState
from twinslot.core.slotset import SlotSet, slots_from

A, B = SlotName.A, SlotName.B
GOOD, BAD, TRIAL = SlotState.GOOD, SlotState.BAD, SlotState.TRIAL
THREE = ("a", "b", "c")


@pytest.mark.parametrize(("running", "other"), [(A, B), (B, A)])
@pytest.mark.parametrize("back", ["", "a", "b", "c", "a\nb"])
def test_of_two_slots_back_and_target_are_the_other_one_whatever_is_written(
    running: SlotName, other: SlotName, back: str
) -> None:
    assert slots_from(running).back(back) is other
    for state in SlotState:
        assert slots_from(running).target({running: GOOD, other: state}, back) is other


@pytest.mark.parametrize(
    ("running", "written", "back"),
    [("b", "c", "c"), ("b", "a", "a"), ("b", "", "a"), ("b", "b", "a"), ("a", "d", "b"), ("c", "b", "b")],
)
def test_of_three_slots_back_is_where_arming_wrote_it(running: str, written: str, back: str) -> None:
    assert SlotSet(THREE, running).back(written) == back


@pytest.mark.parametrize(
    ("states", "back", "target"),
    [
        ({"a": GOOD, "b": GOOD, "c": GOOD}, "a", "c"),
        ({"a": GOOD, "b": GOOD, "c": GOOD}, "c", "a"),
        ({"a": GOOD, "b": GOOD, "c": BAD}, "", "c"),
        ({"a": BAD, "b": GOOD, "c": BAD}, "", "a"),
        ({"a": BAD, "b": GOOD, "c": GOOD}, "a", "c"),  # the way back is the last to go, whatever is said of it
    ],
)
def test_of_three_slots_the_one_that_starts_nothing_is_written_and_the_way_back_last(
    states: dict[str, SlotState], back: str, target: str
) -> None:
    assert SlotSet(THREE, "b").target(states, back) == target


def test_arming_writes_where_back_is_and_giving_up_goes_there() -> None:
    state = read_state({"slot": "a", "slot_a": "good", "slot_b": "bad", "ts_generation": "3"})
    armed = bootenv.arm(state, B, "0" * 32, Release("2.0", 20), A)
    assert armed["ts_back"] == "a"
    after = read_state({"slot_a": "good", **armed})
    assert after.way_back(B) is A
    assert bootenv.give_up(after, B, "0" * 32, 20, "unhealthy")["slot"] == "a"


def test_an_environment_of_before_has_no_ts_back_and_goes_to_the_other_slot() -> None:
    state = read_state({"slot": "b", "slot_a": "good", "slot_b": "trial", "upgrade_available": "1"})
    assert state.back == ""
    assert state.way_back(B) is A
    assert bootenv.give_up(state, B, "0" * 32, 20, "operator")["slot"] == "a"


def test_a_commit_marks_each_other_slot_below_the_new_epoch_bad() -> None:
    state = read_state({"slot": "b", "slot_a": "good", "slot_b": "trial", "upgrade_available": "1"})
    floors = Floors(20, 5, 1)
    for epochs, said in (({A: 4}, "bad"), ({A: 5}, None), ({}, "bad")):
        assert bootenv.commit(state, B, "0" * 32, floors, epochs, 20).get("slot_a") == said


@pytest.mark.verifies("S7")
def test_a_slot_on_trial_that_the_loader_moved_back_from_is_still_no_place_to_keep() -> None:
    state = read_state({"slot": "a", "slot_a": "good", "slot_b": "trial", "upgrade_available": "1"})
    assert state.trial is None
    assert state.on_trial(B)
    assert not state.is_kept(B), "the way back must not be overwritten (S7)"
    assert state.is_kept(A)


def test_what_is_no_slot_means_the_first() -> None:
    assert [read_state({"slot": word}).slot for word in ("", "b", "c", "B", "a b")] == [A, B, A, A, A]
