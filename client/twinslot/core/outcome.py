"""How a request to change the device ended, in one word, for programs. Words are public: add, never change."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, Self

from twinslot.core.errors import CancelledError, RefusedError, TwinslotError
from twinslot.core.lifecycle import State
from twinslot.core.transaction import Outcome, Transaction


class JobOutcome(enum.StrEnum):
    """The ends. Only `committed` means that an update succeeded (S10)."""

    WRITTEN = "written", "the image stands in the other slot and was read back; it waits to be activated"
    ARMED = "armed", "the next start tries the other slot; nothing is kept before the new system commits"
    ON_TRIAL = "on-trial", "the running system is on trial and stays so for now"
    COMMITTED = "committed", "the running system is kept: the update succeeded"
    ROLLING_BACK = "rolling-back", "the running system is being left; the next start is the other slot"
    ROLLED_BACK = "rolled-back", "the new system was left; the old one runs"
    ABANDONED = "abandoned", "an update that was not started yet was dropped; its slot does not start"
    UNDER_WAY = "under-way", "the update goes on; the next start of the client finds out how"
    NOTHING = "nothing", "there was nothing to do"
    REFUSED = "refused", "policy says no; nothing changed"
    CANCELLED = "cancelled", "it was stopped on request; the other slot does not start"
    FAILED = "failed", "an error ended it; the error says who must act"

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Self:
        """A member with its meaning, for the pages."""
        member = str.__new__(cls, value)
        member._value_, member.meaning = value, meaning
        return member


UNSUCCESSFUL: Final = frozenset({JobOutcome.REFUSED, JobOutcome.CANCELLED, JobOutcome.FAILED})  # they bring an error

OPEN: Final[Mapping[State, JobOutcome]] = {
    State.IDLE: JobOutcome.NOTHING,
    State.WRITING: JobOutcome.UNDER_WAY,
    State.WRITTEN: JobOutcome.WRITTEN,
    State.CHECKING: JobOutcome.UNDER_WAY,
    State.ARMED: JobOutcome.ARMED,
    State.TRIAL: JobOutcome.ON_TRIAL,
    State.COMMITTING: JobOutcome.UNDER_WAY,
    State.LEAVING: JobOutcome.ROLLING_BACK,
}
ENDED: Final[Mapping[Outcome, JobOutcome]] = {
    Outcome.COMMITTED: JobOutcome.COMMITTED,
    Outcome.ROLLED_BACK: JobOutcome.ROLLED_BACK,
    Outcome.ABANDONED: JobOutcome.ABANDONED,
}


# keeps: S10
def outcome_of(transaction: Transaction | None) -> JobOutcome:
    """The word for a request that gave this transaction; None: it gave none."""
    if transaction is None:
        return JobOutcome.NOTHING
    if transaction.outcome is not None:
        return ENDED.get(transaction.outcome, JobOutcome.UNDER_WAY)
    return OPEN.get(transaction.state, JobOutcome.UNDER_WAY)


def outcome_of_error(error: TwinslotError) -> JobOutcome:
    """The word for a request that ended with this error."""
    if isinstance(error, RefusedError):
        return JobOutcome.REFUSED
    return JobOutcome.CANCELLED if isinstance(error, CancelledError) else JobOutcome.FAILED
