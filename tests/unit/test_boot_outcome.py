"""What a start finds, for every kind of boot loader: facts in, one boot event and one reason out (S12, S13)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from twinslot.core import boot_variables as bootenv
from twinslot.core.boot_outcome import BootFacts, classify_boot, why_left
from twinslot.core.boot_variables import BootState, read_state
from twinslot.core.lifecycle import Event, State, step
from twinslot.core.model import UBOOT, LoaderTraits, Reason, Release, SlotName, SlotState

A, B = SlotName.A, SlotName.B
NOW, BEFORE = "1" * 32, "0" * 32  # boot ids
ID = "ab" * 16
OLD = {"slot": "a", "slot_a": "good", "slot_b": "bad", "upgrade_available": "0", "ts_generation": "3"}
PREPARED = OLD | {"ts_txn": ID}
ARMED = PREPARED | bootenv.arm(read_state(PREPARED), B, ID, Release("2.0", 20), A)
MOVED_BACK = ARMED | {"slot": "a"}  # by the boot loader, that changes nothing else
LEFT = ARMED | {"slot": "a", "slot_b": "bad", "bootcount": "1"}
TOLD = LEFT | {"ts_failed": "20", "ts_reason": "bootlimit"}
COMMITTED = ARMED | bootenv.commit(read_state(ARMED), B, ID, read_state(ARMED).floors, {A: 0}, 20)
GIVEN_UP = ARMED | bootenv.give_up(read_state(ARMED), B, ID, 20, Reason.UNHEALTHY)
ENVIRONMENTS = {
    "old": OLD,
    "prepared": PREPARED,
    "armed": ARMED,
    "moved-back": MOVED_BACK,
    "left": LEFT,
    "told": TOLD,
    "committed": COMMITTED,
    "given-up": GIVEN_UP,
}
YES_NO = (True, False)
TRAITS = [LoaderTraits(*said, 2) for said in itertools.product(YES_NO, YES_NO, YES_NO)]

OLD_RUNS = {  # whatever the boot loader can do
    "old": Event.BOOTED_OLD,
    "prepared": Event.BOOTED_OLD,
    "told": Event.ROLLED_BACK,
    "given-up": Event.ROLLED_BACK,
}
NEW_RUNS = {
    "prepared": Event.BOOTED_NEW,  # never armed; the slot is bad, but it is the chosen one that is good
    "armed": Event.BOOTED_NEW,
    "moved-back": Event.BOOTED_NEW,
    "left": Event.GIVEN_UP,
    "told": Event.GIVEN_UP,
    "committed": Event.BOOTED_COMMITTED,
    "given-up": Event.GIVEN_UP,
}


def facts(name: str, running: SlotName) -> BootFacts:
    return BootFacts(running, NOW, read_state(ENVIRONMENTS[name]))


def cases() -> Iterator[tuple[LoaderTraits, str, str]]:
    return itertools.product(TRAITS, ENVIRONMENTS, (NOW, BEFORE, ""))


def expected_in_the_old_slot(traits: LoaderTraits, name: str, armed_in: str) -> Event:
    if name in OLD_RUNS:
        return OLD_RUNS[name]
    if name == "armed":  # a reset since, and the variables are as they were: over, unless this loader would say so
        return Event.STILL_ARMED if traits.hands_over or armed_in == NOW else Event.ROLLED_BACK
    if name in ("moved-back", "left"):  # the arming write stands, another slot is chosen, and no reason is given
        return Event.BOOTED_OLD if traits.tells_reason else Event.ROLLED_BACK
    assert name == "committed"
    return Event.BOOTED_OLD


def test_the_old_slot_runs_for_every_loader_every_environment_and_every_boot_of_arming() -> None:
    for traits, name, armed_in in cases():
        found = classify_boot(facts(name, A), B, ID, traits, armed_in)
        assert found is expected_in_the_old_slot(traits, name, armed_in), (traits, name, armed_in)


def test_without_a_record_it_is_found_from_the_environment_alone() -> None:
    for traits, name in itertools.product(TRAITS, ENVIRONMENTS):
        found = classify_boot(facts(name, A), None, "", traits, "")
        assert found is expected_in_the_old_slot(traits, name, ""), (traits, name)


def test_the_new_slot_runs_and_what_that_means_depends_on_no_loader() -> None:
    for traits, name, armed_in in cases():
        if name in NEW_RUNS:
            want = Event.GIVEN_UP if name == "prepared" else NEW_RUNS[name]
            assert classify_boot(facts(name, B), B, ID, traits, armed_in) is want, (traits, name)


def test_a_trial_is_known_without_a_record_also_where_the_loader_has_moved_back() -> None:
    for traits, name in itertools.product(TRAITS, ("armed", "moved-back")):
        assert classify_boot(facts(name, B), None, "", traits, "") is Event.BOOTED_NEW


def test_with_u_boot_nothing_of_this_changes_anything() -> None:
    for name, armed_in in itertools.product(ENVIRONMENTS, (NOW, BEFORE, "")):
        with_traits = classify_boot(facts(name, A), B, ID, UBOOT, armed_in)
        assert with_traits is classify_boot(facts(name, A), B, ID)


def test_a_lost_environment_is_none_of_the_loader_s_traits() -> None:
    for traits, running in itertools.product(TRAITS, SlotName):
        lost = BootFacts(running, NOW, None)
        assert classify_boot(lost, B, ID, traits) is (Event.BOOTED_NEW if running is B else Event.BOOTED_OLD)


@pytest.mark.verifies("S13")
def test_no_loader_leaves_an_armed_update_waiting_for_ever_or_forgotten() -> None:
    """Whatever a loader does to a trial that failed, the next start of the client closes it as rolled back."""
    for traits in TRAITS:
        name = "armed" if not traits.hands_over else "told" if traits.tells_reason else "left"
        event = classify_boot(facts(name, A), B, ID, traits, BEFORE)
        assert event is Event.ROLLED_BACK, traits
        assert step(State.ARMED, event)[0] is State.IDLE


def told(state: BootState, traits: LoaderTraits, boots: int = 0, stored: str = "") -> dict[str, str]:
    """The variables that the start which found a rollback writes."""
    return bootenv.stop_counting(state, A, ID, why_left(state, traits, stored, boots))


@pytest.mark.parametrize("name", ["armed", "moved-back", "left"])
def test_an_untold_rollback_is_written_with_slot_release_and_reason_in_one_write(name: str) -> None:
    one_shot = LoaderTraits(counts=False, hands_over=False, tells_reason=False)
    variables = ENVIRONMENTS[name] | told(read_state(ENVIRONMENTS[name]), one_shot)
    after = read_state(variables)
    assert (after.slot, after.states[A], after.states[B]) == (A, SlotState.GOOD, SlotState.BAD)
    assert (after.failed_sequence, after.reason, after.counting) == (20, Reason.NOT_BOOTED, False)
    again = classify_boot(BootFacts(A, NOW, after), B, ID, one_shot, BEFORE)
    assert again is Event.ROLLED_BACK, "a cut before the record closes it finds the same"


def test_what_was_told_stays_as_it_is() -> None:
    changes = told(read_state(TOLD), UBOOT)
    assert "ts_reason" not in changes
    assert "ts_failed" not in changes
    assert "slot_b" not in changes


ONE_TRY = LoaderTraits(counts=False, hands_over=False, tells_reason=False)
WORDLESS = LoaderTraits(tells_reason=False)


@pytest.mark.parametrize(
    ("name", "traits", "stored", "boots", "reason"),
    [
        ("armed", ONE_TRY, "", 0, Reason.NOT_BOOTED),
        ("armed", ONE_TRY, "", 1, Reason.RESETS),  # it came up, and was reset before it could commit
        ("armed", ONE_TRY, "unhealthy", 1, Reason.UNHEALTHY),  # the write that leaves it did not land
        ("left", WORDLESS, "", 2, Reason.NOT_BOOTED),
        ("left", WORDLESS, "", 3, Reason.RESETS),
        ("told", UBOOT, "", 2, Reason.BOOTLIMIT),
        ("told", UBOOT, "", 3, Reason.RESETS),
        ("given-up", ONE_TRY, "", 1, Reason.UNHEALTHY),
        ("prepared", UBOOT, "", 0, Reason.ENVIRONMENT),
        ("prepared", ONE_TRY, "", 0, Reason.ENVIRONMENT),
        ("left", UBOOT, "", 0, Reason.ENVIRONMENT),  # with U-Boot no start leaves that
    ],
)
def test_the_reason_is_what_was_said_else_what_must_have_been(
    name: str, traits: LoaderTraits, stored: str, boots: int, reason: Reason
) -> None:
    assert why_left(read_state(ENVIRONMENTS[name]), traits, stored, boots) == reason
