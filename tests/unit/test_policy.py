"""What each gate says, for every state of the open update and every wish."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from twinslot.core.errors import Refusal
from twinslot.core.lifecycle import State
from twinslot.core.model import SlotName
from twinslot.core.policy import Gate, Go, Obstacle, ObstacleKind, PolicyFacts, Refuse, Verdict, Wait, Wish, decide

FACTS = PolicyFacts(SlotName.A, on_trial=False, way_back=SlotName.B, under_way=State.IDLE, restarts=False)


def said(verdict: Verdict) -> str:
    """The verdict in a word, with its code."""
    if isinstance(verdict, Go):
        return "go"
    reasons = verdict.why if isinstance(verdict, Wait) else (verdict.why,)
    return f"{type(verdict).__name__.lower()} {', '.join(reason.code for reason in reasons)}"


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


LATER = datetime(2026, 12, 1, tzinfo=UTC)
OBSTACLES = tuple(Obstacle(kind, Refusal(kind, f"by {kind}"), LATER) for kind in ObstacleKind)


@pytest.mark.verifies("S20")
def test_an_update_waits_for_all_that_stands_against_it_and_says_each() -> None:
    facts = replace(FACTS, under_way=State.WRITTEN, obstacles=OBSTACLES)
    verdict = decide(Gate.ACTIVATE, Wish(), facts)
    assert said(verdict) == "wait in-use, condition, window, consent"
    assert isinstance(verdict, Wait)
    assert (verdict.until, verdict.passes) == (LATER, True)
    armed = replace(facts, under_way=State.ARMED)
    assert said(decide(Gate.RESTART, Wish(restart=True), armed)) == said(verdict)
    for gate in (Gate.FETCH, Gate.WRITE):
        assert said(decide(gate, Wish(), replace(facts, under_way=State.IDLE))) == said(verdict)


def test_when_one_obstacle_does_not_say_how_long_it_stays_it_is_not_known_when_the_update_goes_on() -> None:
    one, *others = OBSTACLES
    facts = replace(FACTS, under_way=State.WRITTEN, obstacles=(replace(one, until=None), *others))
    verdict = decide(Gate.ACTIVATE, Wish(), facts)
    assert isinstance(verdict, Wait)
    assert verdict.until is None


@pytest.mark.verifies("S20")
def test_a_request_to_go_back_heeds_what_is_true_of_the_device_and_no_arrangement_for_updates() -> None:
    facts = replace(FACTS, obstacles=OBSTACLES)
    assert said(decide(Gate.ACTIVATE, Wish(revert=True), facts)) == "wait in-use, condition"
    assert said(decide(Gate.ACTIVATE, Wish(revert=True), replace(facts, obstacles=OBSTACLES[2:]))) == "go"


@pytest.mark.verifies("S20")
def test_the_nets_of_a_trial_restart_whoever_uses_the_device() -> None:
    facts = replace(FACTS, under_way=State.LEAVING, obstacles=OBSTACLES)
    assert said(decide(Gate.RESTART, Wish(), facts)) == "go"


def test_what_is_refused_is_refused_whatever_else_stands_against_it() -> None:
    facts = replace(FACTS, on_trial=True, obstacles=OBSTACLES)
    assert said(decide(Gate.WRITE, Wish(), facts)) == "refuse on-trial"
