"""The one place that announces: a row of the audit, and a line of the journal with the same fields.

The row comes first: a step that must not be done without one is neither done nor announced. What goes on without the
record, since the environment has decided (S12), has its line in any case.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from twinslot.core.errors import DeviceError, TwinslotError
from twinslot.core.events import ENDS, AuditEvent
from twinslot.core.origin import Origin
from twinslot.core.transaction import Transaction
from twinslot.storage.record.record import Record
from twinslot.system.journal import event_of, write_line


class Announcer:
    """Announces what one opening of the device does.

    Args:
        origin: Who asked; in every row and line.

    Attributes:
        record: Where rows go; None while there is none.
        about: What is known of the image that a request is about, for the row of its refusal.
        stopped_by: Who asked to stop, once somebody did.
    """

    def __init__(self, origin: Origin) -> None:
        self.record: Record | None = None
        self.about: dict[str, Any] = {}
        self.stopped_by: Callable[[], Origin | None] = lambda: None
        self._origin = origin

    # keeps: S19
    def announce(self, event: AuditEvent, transaction: Transaction | None = None, **fields: Any) -> None:
        """Store a row, with the transaction if one is given, and write the line.

        Raises:
            DeviceError: The row was not stored, so what it announces must not happen; no line was written.
        """
        stamped = fields | self._stamp()
        self._store(event, transaction, stamped)
        write_line(event, _told(event, transaction, stamped))

    def announce_stored_by(self, store: Callable[..., None], event: AuditEvent, **fields: Any) -> None:
        """As `announce`, for a row that is stored together with something else: `store` is given event and fields.

        Raises:
            DeviceError: It was not stored; no line was written.
        """
        stamped = fields | self._stamp()
        store(event, **stamped)
        write_line(event, stamped)

    def note(self, event: AuditEvent, transaction: Transaction | None = None, **fields: Any) -> bool:
        """As `announce`, for what goes on without a row: then there are two lines, this one and why it has none.

        Returns:
            Whether the row was stored.
        """
        try:
            self.announce(event, transaction, **fields)
        except DeviceError as e:
            write_line(event, _told(event, transaction, fields | self._stamp()))
            write_line(AuditEvent.TOLERATED, e.as_dict() | self._stamp())
            return False
        return True

    def once_in_boot(self, event: AuditEvent, **fields: Any) -> None:
        """As `note`, for what is true all the time: the row and the line come once in each boot."""
        try:
            stamped = fields | self._stamp()
            if self.record is None or self.record.audit_in_boot(event, **stamped):
                write_line(event, stamped)
        except DeviceError as e:
            write_line(AuditEvent.TOLERATED, e.as_dict() | self._stamp())

    def tolerated(self, error: TwinslotError) -> None:
        """An error that stops nothing, since the environment has decided (S12)."""
        fields = error.as_dict() | self._stamp()
        with contextlib.suppress(DeviceError):
            self._store(AuditEvent.TOLERATED, None, fields)
        write_line(AuditEvent.TOLERATED, fields)

    def told_by_the_record(self) -> None:
        """What the record did to itself when it was opened has its row already."""
        for name in self.record.set_aside if self.record else ():
            write_line(AuditEvent.RECORD_SET_ASIDE, {"file": name} | self._stamp())

    # keeps: S19
    def ended(self, verb: str, error: TwinslotError) -> None:
        """A request ended with this error: announced once, and counted when it comes again and again (S19)."""
        if error.announced:
            return
        error.announced = True
        event = event_of(error)
        fields = error.as_dict() | self.about | self._stamp() | {"verb": verb}
        times = self._count(event, fields)
        write_line(event, fields | ({"times": times} if times > 1 else {}))

    def _count(self, event: AuditEvent, fields: Mapping[str, Any]) -> int:
        """How often this came in this boot; a row is stored for some of them."""
        if self.record is None:
            return 1
        codes = [fields["code"], *(reason["code"] for reason in fields.get("reasons", ()))]
        kind = _digest([event, fields["verb"], codes])
        exact = _digest([kind, *(fields.get(name) for name in ("manifest", "release", "source", "origin"))])
        try:
            return self.record.audit_counted(event, exact, kind, dict(fields))
        except DeviceError as e:
            write_line(AuditEvent.TOLERATED, e.as_dict() | self._stamp())
            return 1

    def _store(self, event: AuditEvent, transaction: Transaction | None, fields: dict[str, Any]) -> None:
        if self.record is None:
            raise DeviceError("the record is not available", code="record", hint="see 'twinslot doctor'")
        if transaction is not None:
            self.record.save(transaction, event, **fields)
        else:
            self.record.audit(event, **fields)

    def _stamp(self) -> dict[str, Any]:
        by = self.stopped_by()
        return {"origin": self._origin.as_dict()} | ({"stopped_by": by.as_dict()} if by else {})


def _told(event: AuditEvent, transaction: Transaction | None, fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of the line: beside those of the row what the transaction says; at its end what it took, too."""
    if transaction is None:
        return fields
    release = transaction.release.name or f"sequence {transaction.release.sequence}"
    head = {"transaction": transaction.id, "state": transaction.state, "slot": transaction.target}
    figures = {"seconds": transaction.seconds, "bytes": transaction.moved} if event in ENDS else {}
    return head | {"release": release} | figures | fields


def _digest(parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, default=str, sort_keys=True).encode()).hexdigest()[:16]
