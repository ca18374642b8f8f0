"""The record: what happened, on the data partition, in SQLite.

It explains; it never decides what boots (S12). Losing it costs history, nothing else: the engine rebuilds what matters
from the boot environment and the slots.

Durability: journal mode TRUNCATE with `synchronous=FULL`. A transaction that returned survives a power cut, one that
was cut is as if it had never begun (SQLite, "Atomic Commit In SQLite"). The file is root's alone: whoever can read it
can lock it. What any user may know is published beside it after each save (`published`).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Self

from twinslot.core import stored
from twinslot.core.errors import DeviceError
from twinslot.core.events import AuditEvent
from twinslot.core.model import Floors, SlotName, SlotRecord
from twinslot.core.transaction import Transaction
from twinslot.storage.record import database as record_file
from twinslot.storage.record import published
from twinslot.storage.record.audit_trail import AuditTrail
from twinslot.storage.record.database import BusyTimeout, Opened, as_device_error

FILE_NAME: Final = "record.sqlite"
ID_DIGITS: Final = 32  # of a transaction's id


class Record(AuditTrail):
    """The open database. Owned by one process under the update lock for writing; readers need no lock.

    Args:
        directory: Where the database stands; must exist.
        now: UTC time for people, ISO 8601; no decision asks it (S16).
        boot_id: Stamped on each audit row.
        on_trial: The running system is not committed: an old database keeps its version (S15).
        read_only: For `status` and `history`, as root; nothing is created, repaired or set aside.
        busy: How long a lock of another process is waited for; shared by the sessions of one process.
    """

    def __init__(
        self,
        directory: Path,
        now: Callable[[], str],
        boot_id: str = "",
        *,
        on_trial: bool = False,
        read_only: bool = False,
        busy: BusyTimeout | None = None,
    ) -> None:
        self._now, self._boot = now, boot_id
        busy = busy or BusyTimeout()
        with as_device_error(directory):
            self._opened: Opened = (
                record_file.open_for_reading(directory / FILE_NAME)
                if read_only
                else record_file.open_for_writing(directory / FILE_NAME, on_trial=on_trial, busy=busy)
            )
        self._db = self._opened.connection
        try:
            readable = self._is_readable()
            if read_only and not readable:
                raise DeviceError(
                    f"the record '{self._opened.path}' is damaged", code="record", hint="'twinslot boot' sets it aside"
                )
        except BaseException:
            self._db.close()
            raise
        if not readable:
            self._db.close()
            with as_device_error(directory):
                self._opened = record_file.start_over(directory / FILE_NAME, on_trial=on_trial, busy=busy)
            self._db = self._opened.connection
        try:
            for name in self._opened.set_aside:
                self.audit(AuditEvent.RECORD_SET_ASIDE, file=name)
            if not read_only and published.is_stale(directory, self._opened.path):
                self._publish()
        except BaseException:
            self._db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def fresh(self) -> bool:
        """The database was created just now: whatever it should know must be rebuilt."""
        return self._opened.fresh

    @property
    def set_aside(self) -> tuple[str, ...]:
        """Names of files that could not be used and were kept beside (damaged, or of a newer client)."""
        return self._opened.set_aside

    def close(self) -> None:
        """Close the file; everything saved is durable already."""
        self._db.close()

    # Transactions

    def save(self, transaction: Transaction, event: str, **detail: Any) -> None:
        """Store the transaction and one audit row, together or not at all."""
        body = json.dumps(transaction.as_dict(), sort_keys=True)
        is_open = int(transaction.outcome is None)
        with self._saving():
            self._execute(
                "INSERT INTO transactions (id, open, body) VALUES (?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET open = excluded.open, body = excluded.body",
                (transaction.id, is_open, body),
            )
            state: dict[str, Any] = {"transaction": transaction.id, "state": str(transaction.state)}
            self._append_audit(event, state | detail)

    # keeps: S18
    def current(self) -> Transaction | None:
        """The open transaction, if there is one.

        One that a newer client began for a slot which this client does not have stays as it is, for that client (S18).
        """
        rows = self._rows("SELECT body FROM transactions WHERE open ORDER BY number DESC")
        found = (Transaction.from_dict(json.loads(row[0])) for row in rows)
        return next((each for each in found if stored.is_known(each.target)), None)

    def history(self, limit: int = 50) -> list[Transaction]:
        """Transactions, newest first."""
        rows = self._rows("SELECT body FROM transactions ORDER BY number DESC LIMIT ?", limit)
        return [Transaction.from_dict(json.loads(row[0])) for row in rows]

    # Slots, floors, failed releases

    def save_slot(self, slot: SlotRecord) -> None:
        """Store what a slot now holds."""
        with self._saving():
            body = json.dumps(stored.write(slot), sort_keys=True)
            self._execute("INSERT OR REPLACE INTO slots (name, body) VALUES (?, ?)", (slot.slot, body))

    def forget_slot(self, name: SlotName) -> None:
        """The slot's content is about to change: what was known of it no longer holds."""
        with self._saving():
            self._execute("DELETE FROM slots WHERE name = ?", (name,))

    def slot(self, name: SlotName) -> SlotRecord | None:
        """What the record knows of a slot."""
        rows = self._rows("SELECT body FROM slots WHERE name = ?", name)
        return stored.read(SlotRecord, json.loads(rows[0][0])) if rows else None

    def floors(self) -> Floors:
        """The floors as the record has them (S8)."""
        value = self._meta("floors")
        return stored.read(Floors, json.loads(value)) if value else Floors()

    def raise_floors(self, floors: Floors) -> None:
        """Raise the floors; a lower value changes nothing."""
        self._set_meta("floors", json.dumps(stored.write(self.floors().highest(floors))))

    def add_failed(self, sequence: int, reason: str, transaction: str) -> None:
        """Remember that this release rolled back here (S13)."""
        with self._saving():
            self._execute(
                "INSERT OR REPLACE INTO failed (sequence, reason, id, at) VALUES (?, ?, ?, ?)",
                (sequence, reason, transaction, self._now()),
            )

    def forgive(self, sequence: int) -> None:
        """An operator said `--retry`: the release may be tried again."""
        with self._saving():
            self._execute("DELETE FROM failed WHERE sequence = ?", (sequence,))

    def failed(self) -> dict[int, str]:
        """Releases that rolled back here, with the reason."""
        return dict(self._rows("SELECT sequence, reason FROM failed ORDER BY sequence"))

    def generation(self) -> int:
        """Highest generation of the boot environment that this record has seen."""
        return int(self._meta("generation") or 0)

    def saw_generation(self, generation: int) -> None:
        """Remember the generation, to notice an environment that went back to an older copy."""
        if generation > self.generation():
            self._set_meta("generation", str(generation))

    def document(self, name: str) -> str | None:
        """A trust document kept by name (root chain, targets), or the last verified date."""
        return self._meta(f"document.{name}")

    def keep_documents(self, documents: Mapping[str, str | None]) -> None:
        """Keep verified trust documents by name, or forget those that are None: all of it in one step."""
        changed = [(f"document.{name}", text) for name, text in documents.items() if self.document(name) != text]
        if changed:
            with self._saving():
                for key, text in changed:
                    self._execute("DELETE FROM meta WHERE key = ?", (key,))
                    if text is not None:
                        self._execute("INSERT INTO meta (key, value) VALUES (?, ?)", (key, text))

    # keeps: S18
    def pending_documents(self, transaction: str) -> dict[str, str]:
        """Documents kept under a transaction's id (`ID.name`), by name: also those that only a newer client knows."""
        head = f"document.{transaction}."
        rows = self._rows("SELECT key, value FROM meta WHERE substr(key, 1, ?) = ?", len(head), head)
        return {key.removeprefix(head): value for key, value in rows}

    def drop_pending_documents(self) -> None:
        """Forget documents kept under a transaction's id: that update is over, one way or the other."""
        with self._saving(shown=False):
            self._execute("DELETE FROM meta WHERE key GLOB ?", (f"document.{'[0-9a-f]' * ID_DIGITS}.*",))

    # Migration

    # keeps: S15
    def migrate(self) -> bool:
        """Bring an old database to this client's version, with a copy kept beside. Call only after commit (S15)."""
        with as_device_error(self._opened.path):
            moved = record_file.migrate(self._opened)
        if moved:
            self.audit(AuditEvent.RECORD_MIGRATED, version=record_file.version(self._db))
        return moved

    # Plumbing

    def _is_readable(self) -> bool:
        """SQLite checks its structure, not what we wrote into it: a flipped bit there must not stop the client.

        Raises:
            DeviceError: A circumstance; the file is left as it is.
        """
        try:
            self.current()
            self.floors()
            self.generation()
            self.history(1)
            self.failed()
            self._rows("SELECT * FROM meta")
            self._rows("SELECT * FROM audit ORDER BY number DESC LIMIT 1")
            _ = [self.slot(name) for name in SlotName]
        except DeviceError as e:
            if isinstance(e.__cause__, sqlite3.Error) and record_file.is_circumstance(e.__cause__):
                raise
            return False  # text that is not UTF-8, or no tables
        except (ValueError, KeyError, TypeError, AttributeError):
            return False
        return True

    def _publish(self) -> None:
        """Best effort: what any user may know stands beside the database."""
        try:
            newest = self._rows("SELECT body FROM transactions ORDER BY number DESC LIMIT ?", published.HISTORY)
            slots = self._rows("SELECT name, body FROM slots")
            texts = self._rows("SELECT substr(key, 10), value FROM meta WHERE key LIKE 'document.%'")
            meta = {"floors": stored.write(self.floors()), "failed": self.failed(), "generation": self.generation()}
            meta["retired"] = self.is_retired()
        except DeviceError:
            return
        meta["documents"] = {name: text for name, text in texts if "." not in name}  # none of an update under way
        published.publish(self._opened.path.parent, dict(slots), [body for (body,) in newest], meta)
