"""The update that is open, while one holder of the lock drives it: what it is, and how it is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from twinslot.core.errors import DeviceError
from twinslot.core.events import AuditEvent
from twinslot.core.lifecycle import BOOT_EVENTS, Event, State
from twinslot.core.transaction import Transaction
from twinslot.engine.announce import Announcer
from twinslot.storage.record.record import Record

# To begin one of these the record must take it; in all else the environment decides, and the record is brought
# forward later (S12).
RECORD_NEEDED: Final = frozenset({State.WRITING, State.WRITTEN, State.CHECKING, State.ARMED})


class OpenUpdate:
    """One transaction, or none. Used under the update lock, by the machine that drives it and by what it does.

    Args:
        announcer: Stores it, in its record if there is one.
        transaction: The open transaction; None when there is none.
        now: For the time stamps that people read.
    """

    def __init__(self, announcer: Announcer, transaction: Transaction | None, now: Callable[[], datetime]) -> None:
        self.announcer, self.transaction = announcer, transaction
        self._stored = transaction  # as the record has it
        self._now = now
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

    @property
    def unsaved(self) -> bool:
        """It was changed since it was stored last."""
        return self.transaction != self._stored

    def begin(self, transaction: Transaction) -> None:
        """Take a new transaction; it is stored by the event that follows."""
        self.transaction = transaction

    def change(self, **fields: Any) -> None:
        """Change fields of the transaction; they are stored with the next event."""
        self.transaction = replace(self.open, **fields)

    def enter(self, state: State, event: Event, detail: Mapping[str, Any], *, closing: bool, acts: bool) -> None:
        """Take a state of the table, stored before anything is done. The end is stored by the effect that closes it.

        A start that finds what stands in the record already, and does nothing, adds nothing: each verb is such a start.

        Args:
            state: Where the update stands from now on.
            event: What led there.
            detail: Of the event.
            closing: The end of the transaction follows.
            acts: Something is done in this state.
        """
        if self.transaction is None:
            return
        if closing:
            self._detail = dict(detail)
        self.change(state=state, armed=self.open.armed or state is State.ARMED)
        known = event in BOOT_EVENTS and not acts and self.transaction == self._stored
        if not closing and not known:
            self.save(AuditEvent(event), detail, needed=state in RECORD_NEEDED and event not in BOOT_EVENTS)

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


def timestamp(moment: datetime) -> str:
    """ISO 8601 in UTC, whole seconds; for people."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
