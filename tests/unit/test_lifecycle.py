"""The table of an update's life: complete, and safe to read from any state."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from twinslot.core.errors import LifecycleError
from twinslot.core.lifecycle import BOOT_EVENTS, CLOSING, TABLE, Effect, Event, State, step


@pytest.mark.verifies("S3")
@pytest.mark.parametrize("state", State)
def test_power_may_return_in_any_state(state: State) -> None:
    assert TABLE[state].keys() >= BOOT_EVENTS


def test_an_event_that_cannot_happen_is_named_and_changes_nothing() -> None:
    with pytest.raises(LifecycleError, match="event 'healthy' cannot happen in state 'writing'"):
        step(State.WRITING, Event.HEALTHY)


@pytest.mark.parametrize("state", [state for state in State if state is not State.IDLE])
def test_a_transaction_that_comes_to_rest_is_closed_and_the_closing_stands_last(state: State) -> None:
    for event, (after, effects) in TABLE[state].items():
        closing = [effect for effect in effects if effect in CLOSING]
        assert len(closing) == (after is State.IDLE), (state, event)
        assert closing == [] or effects[-1] in CLOSING


@pytest.mark.verifies("S10")
def test_only_a_trial_that_was_found_well_is_committed() -> None:
    commits = [(s, e) for s, row in TABLE.items() for e, (_, effects) in row.items() if Effect.COMMIT in effects]
    assert commits == [(State.TRIAL, Event.HEALTHY)]


@pytest.mark.verifies("S3")
def test_only_a_target_that_was_read_back_is_armed() -> None:
    arms = {(s, e) for s, row in TABLE.items() for e, (_, effects) in row.items() if Effect.ARM in effects}
    assert arms == {(State.WRITTEN, Event.ACTIVATE), (State.CHECKING, Event.VERIFIED)}


@pytest.mark.verifies("S7")
def test_nothing_is_written_while_a_system_is_on_trial() -> None:
    for state in (State.ARMED, State.TRIAL, State.COMMITTING, State.LEAVING):
        for _, effects in TABLE[state].values():
            assert not {Effect.PREPARE, Effect.WRITE} & set(effects)


@pytest.mark.parametrize("state", [State.TRIAL, State.COMMITTING, State.LEAVING])
def test_every_way_out_of_a_trial_that_is_no_commit_is_told(state: State) -> None:
    for event, (after, effects) in TABLE[state].items():
        if after is State.IDLE and event not in (Event.COMMITTED, Event.BOOTED_COMMITTED):
            assert Effect.CLOSE_ROLLED_BACK in effects, event


def test_the_page_is_printed_from_the_table() -> None:
    docs = Path(__file__).parents[2] / "docs"
    printed = runpy.run_path(str(docs / "make_lifecycle.py"))["page"]()
    assert (docs / "lifecycle.md").read_text() == printed, "run 'make docs'"
