"""What each gate says, for every state of the open update and every wish."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from twinslot.core.lifecycle import State
from twinslot.core.model import SlotName
from twinslot.core.policy import Gate, Go, PolicyFacts, Refuse, Verdict, Wait, Wish, decide

FACTS = PolicyFacts(SlotName.A, on_trial=False, way_back=SlotName.B, under_way=State.IDLE, restarts=False)


def said(verdict: Verdict) -> str:
    """The verdict in a word, with its code."""
    return "go" if isinstance(verdict, Go) else f"{type(verdict).__name__.lower()} {verdict.why.code}"


@pytest.mark.verifies("S7")
@pytest.mark.parametrize("gate", [Gate.FETCH, Gate.WRITE])
def test_nothing_is_fetched_or_written_while_the_other_slot_is_the_way_back(gate: Gate) -> None:
    for state in State:
        assert said(decide(gate, Wish(), replace(FACTS, under_way=state))) == "go"
        verdict = decide(gate, Wish(), replace(FACTS, under_way=state, on_trial=True))
        assert isinstance(verdict, Refuse)
        assert verdict.why.message == "slot 'a' is on trial and slot 'b' is the way back"


def test_only_what_was_written_is_activated_and_it_waits_unless_that_is_asked_for() -> None:
    for state, activate in itertools.product(State, (True, False)):
        verdict = said(decide(Gate.ACTIVATE, Wish(activate=activate), replace(FACTS, under_way=state)))
        if state is State.WRITTEN:
            assert verdict == ("go" if activate else "wait not-activated")
        else:
            assert verdict == "refuse nothing-written", state


def test_the_other_slot_is_armed_again_only_when_no_update_is_under_way() -> None:
    for state in State:
        verdict = said(decide(Gate.ACTIVATE, Wish(revert=True), replace(FACTS, under_way=state)))
        assert verdict == ("go" if state is State.IDLE else "refuse busy"), state


@pytest.mark.parametrize("restarts", [True, False])
def test_the_caller_decides_on_the_restart_then_the_configuration_and_a_trial_that_is_left_restarts(
    restarts: bool,
) -> None:
    for state, wished in itertools.product(State, (True, False, None)):
        verdict = decide(Gate.RESTART, Wish(restart=wished), replace(FACTS, under_way=state, restarts=restarts))
        goes = (restarts or state is State.LEAVING) if wished is None else wished
        assert isinstance(verdict, Go if goes else Wait), (state, wished)


def test_every_gate_has_a_rule() -> None:
    assert all(decide(gate, Wish(), replace(FACTS, under_way=State.WRITTEN)) for gate in Gate)
