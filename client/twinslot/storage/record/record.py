"""The record: what happened, on the data partition, in SQLite.

It explains; it never decides what boots (S12). Losing it costs history, nothing else: the engine rebuilds what matters
from the boot environment and the slots.

Durability: journal mode TRUNCATE with `synchronous=FULL`. A transaction that returned survives a power cut, one that
was cut is as if it had never begun (SQLite, "Atomic Commit In SQLite"). The file is root's alone: whoever can read it
can lock it. What any user may know is published beside it after each save (`published`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from twinslot.core import stored
from twinslot.core.counting import counted, worth_a_row
from twinslot.core.errors import DeviceError
from twinslot.core.events import AuditEvent
from twinslot.core.model import Floors, SlotName, SlotRecord
from twinslot.core.transaction import Transaction
from twinslot.storage.record import database as record_file
from twinslot.storage.record import published
from twinslot.storage.record.database import BusyTimeout, Opened, as_device_error

FILE_NAME: Final = "record.sqlite"
ID_DIGITS: Final = 32  # of a transaction's id
_COUNTS: Final = "refusals"  # key of the counts in `meta`
FIRST_LINK: Final = "0" * 64  # what the first audit row is chained to


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One thing that was done or seen. `hash` covers the row and the hash before it."""

    number: int
    at: str
    boot: str
    event: str
    body: dict[str, Any]
    hash: str


class Record:
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

    def pending_documents(self, transaction: str) -> dict[str, str]:
        """Documents kept under a transaction's id (`ID.name`), by name: also those that only a newer client knows."""
        head = f"document.{transaction}."
        rows = self._rows("SELECT key, value FROM meta WHERE substr(key, 1, ?) = ?", len(head), head)
        return {key.removeprefix(head): value for key, value in rows}

    def drop_pending_documents(self) -> None:
        """Forget documents kept under a transaction's id: that update is over, one way or the other."""
        with self._saving(shown=False):
            self._execute("DELETE FROM meta WHERE key GLOB ?", (f"document.{'[0-9a-f]' * ID_DIGITS}.*",))

    # Audit

    def audit(self, event: str, **detail: Any) -> None:
        """Add one row to the chain."""
        with self._saving(shown=False):
            self._append_audit(event, detail)

    def audit_in_boot(self, event: str, **detail: Any) -> bool:
        """Add a row unless this boot has the same one: what is true all the time is told once in each boot.

        Returns:
            Whether it was added.
        """
        query, body = "SELECT 1 FROM audit WHERE boot = ? AND event = ? AND body = ? LIMIT 1", _text(detail)
        if self._rows(query, self._boot, event, body):
            return False
        self.audit(event, **detail)
        return True

    def audit_counted(self, event: str, exact: str, kind: str, detail: dict[str, Any]) -> int:
        """Count what a hostile image or server can bring about without end, and add a row for some of them (S19).

        Args:
            event: As for `audit`.
            exact: Key of the very same thing, see `core.counting`.
            kind: Key of things of its kind.
            detail: Of the row; `times` is added from the second on.

        Returns:
            How often it came in this boot.
        """
        with self._saving(shown=False):
            counts, times = counted(self._counts(), exact, kind)
            text = json.dumps({"boot": self._boot, "counts": counts}, sort_keys=True)
            self._execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (_COUNTS, text))
            if worth_a_row(times):
                self._append_audit(event, detail | ({"times": times} if times > 1 else {}))
        return times

    def audit_rows(self, limit: int = 100, *, after: int = 0, since: str = "") -> list[AuditRow]:
        """Rows, newest first.

        Args:
            limit: At most so many.
            after: Only rows with a higher number.
            since: Only rows at or after this time, as `at` has it.
        """
        columns = "SELECT number, at, boot, event, body, hash FROM audit"
        query = f"{columns} WHERE number > ? AND at >= ? ORDER BY number DESC LIMIT ?"
        rows = self._rows(query, after, since, limit)
        return [AuditRow(n, at, b, e, json.loads(body), h) for n, at, b, e, body, h in rows]

    def first_broken_link(self) -> int | None:
        """Number of the first audit row whose hash does not follow from the row before; None when all hold."""
        link, expected = FIRST_LINK, 1
        with as_device_error(self._opened.path):
            for number, at, boot, event, body, found in self._execute(
                "SELECT number, at, boot, event, body, hash FROM audit ORDER BY number"
            ):
                link = _link(link, at, boot, event, body)
                if found != link or number != expected:
                    return int(number)
                expected += 1
        return None

    # Migration

    def migrate(self) -> bool:
        """Bring an old database to this client's version, with a copy kept beside. Call only after commit (S15)."""
        with as_device_error(self._opened.path):
            moved = record_file.migrate(self._opened)
        if moved:
            self.audit(AuditEvent.RECORD_MIGRATED, version=record_file.version(self._db))
        return moved

    # Plumbing

    def _counts(self) -> dict[str, int]:
        """What `audit_counted` counted in this boot; a damaged or an old value counts as none."""
        try:
            kept = json.loads(self._meta(_COUNTS) or "{}")
            counts = kept["counts"] if kept.get("boot") == self._boot else {}
            return {str(key): int(times) for key, times in counts.items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            return {}

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

    def _execute(self, query: str, parameters: tuple[object, ...] = ()) -> sqlite3.Cursor:
        try:
            return self._db.execute(query, parameters)
        except sqlite3.Error as e:
            self._opened.busy.heard(e, self._db)
            raise

    def _rows(self, query: str, *parameters: object) -> list[Any]:
        """All rows of a query.

        Raises:
            DeviceError: `device.record`: the database cannot be read now.
        """
        with as_device_error(self._opened.path):
            return self._execute(query, parameters).fetchall()

    def _publish(self) -> None:
        """Best effort: what any user may know stands beside the database."""
        try:
            newest = self._rows("SELECT body FROM transactions ORDER BY number DESC LIMIT ?", published.HISTORY)
            slots = self._rows("SELECT name, body FROM slots")
            texts = self._rows("SELECT substr(key, 10), value FROM meta WHERE key LIKE 'document.%'")
            meta = {"floors": stored.write(self.floors()), "failed": self.failed(), "generation": self.generation()}
        except DeviceError:
            return
        meta["documents"] = {name: text for name, text in texts if "." not in name}  # none of an update under way
        published.publish(self._opened.path.parent, dict(slots), [body for (body,) in newest], meta)

    def _append_audit(self, event: str, detail: dict[str, Any]) -> None:
        row = self._execute("SELECT hash FROM audit ORDER BY number DESC LIMIT 1").fetchone()
        at, body = self._now(), _text(detail)
        link = _link(row[0] if row else FIRST_LINK, at, self._boot, event, body)
        self._execute(
            "INSERT INTO audit (at, boot, event, body, hash) VALUES (?, ?, ?, ?, ?)",
            (at, self._boot, event, body, link),
        )

    def _meta(self, key: str) -> str | None:
        rows = self._rows("SELECT value FROM meta WHERE key = ?", key)
        return str(rows[0][0]) if rows else None

    def _set_meta(self, key: str, value: str) -> None:
        if self._meta(key) != value:
            with self._saving():
                self._execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))

    @contextlib.contextmanager
    def _saving(self, *, shown: bool = True) -> Iterator[None]:
        """One durable database transaction; `shown`: of what `status` or `history` shows."""
        with as_device_error(self._opened.path):
            self._execute("BEGIN IMMEDIATE")
            try:
                yield
                self._commit()
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise
        if shown:
            self._publish()

    def _commit(self) -> None:
        self._execute("COMMIT")


def _text(detail: dict[str, Any]) -> str:
    return json.dumps(detail, sort_keys=True, default=str)


def _link(before: str, at: str, boot: str, event: str, body: str) -> str:
    return hashlib.sha256(f"{before}\n{at}\n{boot}\n{event}\n{body}".encode()).hexdigest()
