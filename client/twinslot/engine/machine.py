"""Where the table meets the world: store the record, do the effects, feed back the event.

The loop is the same for every verb. What an effect does stands in `effects.py`; what follows from an event stands in
`core/lifecycle.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from twinslot.core.errors import CancelledError, DeviceError, TwinslotError
from twinslot.core.events import AuditEvent
from twinslot.core.lifecycle import BOOT_EVENTS, CLOSING, TABLE, Effect, Event, State, step
from twinslot.core.model import Reason
from twinslot.core.transaction import Transaction
from twinslot.engine.announce import Announcer
from twinslot.storage.record.record import Record

# To begin one of these the record must take it; in all else the environment decides, and the record is brought
# forward later (S12).
_RECORD_NEEDED: Final = frozenset({State.WRITING, State.WRITTEN, State.CHECKING, State.ARMED})

Perform = Callable[[], Event | None]


class Machine:
    """One transaction being driven through the table. Used under the update lock.

    Args:
        announcer: Stores each state before its effects, in its record if there is one.
        transaction: The open transaction; None when there is none.
        now: For the time stamps that people read.
    """

    def __init__(self, announcer: Announcer, transaction: Transaction | None, now: Callable[[], datetime]) -> None:
        self.announcer, self.transaction = announcer, transaction
        self._stored = transaction  # as the record has it
        self._now = now
        self.effects: Mapping[Effect, Perform] = {}
        self._detail: dict[str, Any] = {}  # of the event that led to the closing

    @property
    def record(self) -> Record | None:
        """Where states are stored; None when it cannot be opened."""
        return self.announcer.record

    @property
    def state(self) -> State:
        """Where the open transaction stands."""
        return self.transaction.state if self.transaction else State.IDLE

    @property
    def open(self) -> Transaction:
        """The transaction that is being driven.

        Raises:
            DeviceError: There is none; the record was lost at this very moment.
        """
        if self.transaction is None:
            raise DeviceError("there is no open transaction", code="record")
        return self.transaction

    def begin(self, transaction: Transaction) -> None:
        """Take a new transaction; it is stored by the event that follows."""
        self.transaction = transaction

    def change(self, **fields: Any) -> None:
        """Change fields of the transaction; they are stored with the next event."""
        self.transaction = replace(self.open, **fields)

    def feed(self, event: Event, **detail: Any) -> None:
        """Drive the table from one event until no effect reports another.

        Raises:
            TwinslotError: An effect failed. If the table knows `FAILED` (or `CANCELLED`) here, it was fed first, so the
                state that the error leaves behind is defined and stored.
        """
        pending: Event | None = event
        while pending is not None:
            state, effects = step(self.state, pending)
            self._store(state, pending, detail, effects)
            pending = self._perform(effects)
            detail = {}

    def _perform(self, effects: tuple[Effect, ...]) -> Event | None:
        reported: Event | None = None
        doing: Effect | None = None
        try:
            for effect in effects:
                doing = effect
                reported = self.effects[effect]()
        except TwinslotError as e:
            event = self._event_of(e)
            # A refused reboot undoes nothing: the decision has landed, and somebody else may reboot.
            if doing is not Effect.REBOOT and event in TABLE[self.state]:
                self._feed_after(event, e)
            raise
        return reported

    def _event_of(self, error: TwinslotError) -> Event:
        """A committed slot that could not be read back for another reason than its content is not rotten."""
        stopped = isinstance(error, CancelledError) or (
            self.state is State.CHECKING and error.code not in ("device.slot-changed", "device.tail")
        )
        return Event.CANCELLED if stopped else Event.FAILED

    def _feed_after(self, event: Event, error: TwinslotError) -> None:
        """Leave the state behind that the table names; a second failure must not hide the first."""
        if self.state in _RECORD_NEEDED:  # the transaction is about to be closed: with the kind of failure as reason
            self.change(reason=_reason_of(error))
        try:
            self.feed(event, **error.as_dict())
            error.announced = True
        except TwinslotError as second:
            self.announcer.tolerated(second)

    def _store(self, state: State, event: Event, detail: Mapping[str, Any], effects: tuple[Effect, ...]) -> None:
        """Store before doing; the end of a transaction is stored by the effect that closes it.

        A start that finds what stands in the record already, and does nothing, adds nothing: each verb is such a start.
        """
        if self.transaction is None:
            return
        closing = not CLOSING.isdisjoint(effects)
        if closing:
            self._detail = dict(detail)
        self.change(state=state, armed=self.open.armed or state is State.ARMED)
        known = event in BOOT_EVENTS and not effects and self.transaction == self._stored
        if not closing and not known:
            self.save(AuditEvent(event), detail, needed=state in _RECORD_NEEDED and event not in BOOT_EVENTS)

    def save(self, event: AuditEvent, detail: Mapping[str, Any], *, needed: bool = False) -> None:
        """Store the transaction as it is, with one audit row.

        Raises:
            DeviceError: It could not be stored, and it is `needed`.
        """
        if needed:
            self.announcer.announce(event, self.open, **detail)
        elif not self.announcer.note(event, self.open, **detail):
            return
        self._stored = self.transaction

    def close(self, event: AuditEvent, **fields: Any) -> None:
        """End the transaction: stored with its outcome, and no longer open."""
        self.change(ended=timestamp(self._now()), **fields)
        self.save(event, self._detail | {"outcome": str(self.open.outcome), "reason": self.open.reason})
        self.transaction = None


def _reason_of(error: TwinslotError) -> Reason:
    """What is stored of an install that ends with this error."""
    if not isinstance(error, CancelledError):
        return Reason.FAILED
    return Reason.STOPPED if error.code == "cancelled.stopped" else Reason.CANCELLED


def timestamp(moment: datetime) -> str:
    """ISO 8601 in UTC, whole seconds; for people."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
