"""What a device does about a recall, by its own policy."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinslot.core.recall import Action, Holding, OnRecall, Recall, answer_to, recall_of

RUNNING = Recall("2026.10", 10, "alarm too quiet", successor=11)


def answer(policy: str, **holding: Any) -> tuple[str, str]:
    found = answer_to(OnRecall(policy), Holding(**{"running": RUNNING} | holding))
    return found.action, found.why_not


@pytest.mark.verifies("REQ-REP-02")
def test_a_recall_alone_changes_nothing() -> None:
    assert answer("tell", back_is_good=True, offered=11, on_trial=True) == ("nothing", "")


@pytest.mark.verifies("REQ-REP-02")
def test_a_device_goes_back_only_to_a_release_that_is_sound() -> None:
    assert answer("back", back_is_good=True) == ("back", "")
    assert answer("back")[1] == "the other slot holds no committed release"
    assert answer("back", back_is_good=True, back_recalled=True)[1] == "the release in the other slot is recalled, too"
    assert "rolled back here" in answer("back", back_is_good=True, back_failed=True)[1]
    assert answer("back", back_is_good=True, idle=False)[1] == "another update is under way"


@pytest.mark.verifies("REQ-REP-02")
def test_a_device_takes_the_successor_once_it_is_offered_and_its_turn_has_come() -> None:
    assert answer("successor", offered=11) == ("install", "")
    assert answer("successor", offered=12) == ("install", "")
    assert answer("successor", offered=10)[1] == "the successor is not offered to this device"
    assert answer("successor", offered=11, offer_waits="its turn comes")[1] == "its turn comes"
    unnamed = Recall("2026.10", 10, "alarm too quiet")
    assert answer("successor", running=unnamed, offered=11)[1] == "the recall names no successor"


@pytest.mark.verifies("REQ-REP-02")
@pytest.mark.parametrize("policy", ["tell", "back", "successor"])
def test_what_waits_and_must_not_be_taken_any_more_is_dropped_whatever_the_policy(policy: str) -> None:
    assert answer(policy, running=None, waits_recalled=True, idle=False) == ("cancel", "")
    assert answer(policy, running=None, waits_halted=True, idle=False) == ("cancel", "")


@pytest.mark.verifies("REQ-REP-02")
@pytest.mark.parametrize("policy", ["back", "successor"])
def test_what_is_on_trial_is_left_and_what_waits_is_dropped(policy: str) -> None:
    assert answer(policy, on_trial=True, idle=False) == ("back", "")
    assert answer(policy, running=None, waits_recalled=True, idle=False) == ("cancel", "")
    assert answer(policy, running=None, back_recalled=True) == ("nothing", "")


flags = {each.name: st.booleans() for each in fields(Holding) if each.type == "bool"}


@given(st.sampled_from(list(OnRecall)), st.fixed_dictionaries(flags), st.integers(0, 20))
def test_no_device_ever_goes_back_to_what_is_recalled_or_has_failed(
    policy: OnRecall, holding: dict[str, bool], offered: int
) -> None:
    found = answer_to(policy, Holding(running=RUNNING, offered=offered, **holding))  # type: ignore[arg-type]
    if found.action is Action.BACK and not holding["on_trial"]:
        assert holding["back_is_good"]
        assert not holding["back_recalled"]
        assert not holding["back_failed"]
    if found.action is Action.INSTALL:
        assert offered >= 11


def test_a_recall_without_a_digest_means_every_image_of_the_sequence() -> None:
    exact = Recall("r", 10, "why", manifest="a" * 64)
    assert recall_of((RUNNING,), 10, "b" * 64) is RUNNING
    assert recall_of((exact,), 10, "b" * 64) is None
    assert recall_of((exact,), 10) is exact, "the digest of what runs is not known, so the sequence decides"
    assert recall_of((RUNNING,), 11) is None
