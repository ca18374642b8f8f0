"""One word for each end: no state and no kind of error is left out, and only a commit is a success (S10)."""

from __future__ import annotations

import pytest

from twinslot.core.errors import (
    CancelledError,
    DeviceError,
    ImageError,
    LifecycleError,
    Refusal,
    RefusedError,
    TransportError,
    TwinslotError,
)
from twinslot.core.lifecycle import State
from twinslot.core.model import Release, SlotName
from twinslot.core.outcome import ENDED, OPEN, UNSUCCESSFUL, JobOutcome, outcome_of, outcome_of_error
from twinslot.core.transaction import Outcome, Transaction


def test_every_state_and_every_outcome_has_its_word() -> None:
    assert set(OPEN) == set(State)
    assert set(ENDED) == set(Outcome)
    assert set(OPEN.values()) | set(ENDED.values()) | UNSUCCESSFUL == set(JobOutcome)


@pytest.mark.verifies("S10")
@pytest.mark.parametrize("state", State)
def test_no_open_update_counts_as_a_success(state: State) -> None:
    transaction = Transaction("a" * 32, state, SlotName.B, Release("2.0", 20))
    assert outcome_of(transaction) is not JobOutcome.COMMITTED


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (RefusedError(Refusal("busy", "a job is running")), "refused"),
        (CancelledError("stopped"), "cancelled"),
        (ImageError("bad"), "failed"),
        (TransportError("gone"), "failed"),
        (DeviceError("broken"), "failed"),
        (LifecycleError("ours"), "failed"),
    ],
)
def test_every_kind_of_error_has_its_word(error: TwinslotError, word: str) -> None:
    assert outcome_of_error(error) == word


def test_without_a_transaction_there_was_nothing_to_do() -> None:
    assert outcome_of(None) is JobOutcome.NOTHING
