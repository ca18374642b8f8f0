"""The audit: rows of what was done or refused, each chained to the row before it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from twinslot.core.audit_chain import NOTHING, ChainEnd, ChainRow, link_of
from twinslot.core.audit_statements import AUDIT_SECTION, CHECKPOINT, read_end
from twinslot.core.counting import counted, worth_a_row
from twinslot.core.envelope import DeviceStatement, loads, read_statement
from twinslot.core.errors import ImageError
from twinslot.storage.record.database import as_device_error
from twinslot.storage.record.store import Store

_COUNTS: Final = "refusals"  # key of the counts in `meta`
_CHECKPOINT: Final = "audit.checkpoint"  # key in `meta`: what stands for the rows that were pruned, an envelope
_BREAK: Final = "audit.break"  # key in `meta`: the anchor of which was told that it does not fit
_COLUMNS: Final = "SELECT number, at, boot, event, body, hash FROM audit"
_RETIRED: Final = "retired"  # key in `meta`
_ROW_OVERHEAD: Final = 200  # bytes of a row beside its body: hash, boot, date, and what SQLite adds


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One thing that was done or seen. `hash` covers the row and the hash before it."""

    number: int
    at: str
    boot: str
    event: str
    body: dict[str, Any]
    hash: str


class AuditTrail(Store):
    """The rows of the record. A row stands whole in the chain or not at all."""

    _boot: str  # stamped on each row
    _now: Callable[[], str]  # UTC time for people, ISO 8601 (S16)

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

    # keeps: S19
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

    def audit_rows(self, limit: int = 100, *, since: str = "") -> list[AuditRow]:
        """Rows, newest first.

        Args:
            limit: At most so many.
            since: Only rows at or after this time, as `at` has it.
        """
        return self._audit("DESC", 0, since, limit)

    def audit_from(self, after: int, limit: int, *, since: str = "") -> list[AuditRow]:
        """Rows with a higher number, oldest first; the other arguments are those of `audit_rows`."""
        return self._audit("ASC", after, since, limit)

    def _audit(self, order: str, after: int, since: str, limit: int) -> list[AuditRow]:
        query = f"{_COLUMNS} WHERE number > ? AND at >= ? ORDER BY number {order} LIMIT ?"
        rows = self._rows(query, after, since, limit)
        return [AuditRow(n, at, b, e, json.loads(body), h) for n, at, b, e, body, h in rows]

    def first_broken_link(self) -> int | None:
        """Number of the first audit row whose hash does not follow from the row before; None when all hold.

        The first that is there follows from the checkpoint, whose signature `audit verify` checks.
        """
        before = self.audit_start()
        for row in self.chain():
            if not row.follows(before.hash) or row.number != before.number + 1:
                return row.number
            before = row.end
        return None

    # keeps: S25
    def chain(self) -> Iterator[ChainRow]:
        """Every row as it is stored, ascending, all of one moment.

        Raises:
            DeviceError: The database cannot be read.
        """
        with as_device_error(self._opened.path):
            for row in self._execute(f"{_COLUMNS} ORDER BY number"):
                yield ChainRow(*row)

    def snapshot(self) -> tuple[DeviceStatement | None, list[ChainRow]]:
        """Checkpoint and rows of one moment, in memory: whoever takes long over them holds nobody up (S27).

        Raises:
            DeviceError: The database cannot be read.
        """
        with as_device_error(self._opened.path):
            self._execute("BEGIN")
            try:
                return self.checkpoint(), list(self.chain())
            finally:
                self._execute("COMMIT")

    def audit_start(self) -> ChainEnd:
        """What the first row that is there follows: the checkpoint, or nothing."""
        checkpoint = self.checkpoint()
        return read_end(checkpoint) if checkpoint else NOTHING

    # keeps: S25
    def audit_end(self) -> ChainEnd:
        """Number and hash of the last row."""
        rows = self._rows("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1")
        return ChainEnd(*rows[0]) if rows else self.audit_start()

    def audit_hash(self, number: int) -> str | None:
        """The hash of one row; None: there is no such row, or it was pruned."""
        rows = self._rows("SELECT hash FROM audit WHERE number = ?", number)
        return str(rows[0][0]) if rows else None

    def last_event(self) -> str:
        """The event of the last row; empty: there is none."""
        rows = self._rows("SELECT event FROM audit ORDER BY number DESC LIMIT 1")
        return str(rows[0][0]) if rows else ""

    def checkpoint(self) -> DeviceStatement | None:
        """What stands for the rows that were pruned; None: none were, or it is damaged, so that the chain is broken."""
        text = self._meta(_CHECKPOINT)
        try:
            signed = read_statement(loads(text.encode(), AUDIT_SECTION), CHECKPOINT, AUDIT_SECTION) if text else None
            if signed is not None:
                read_end(signed)
        except ImageError:
            return None
        return signed

    def audit_bytes(self) -> int:
        """Bytes that the rows take, about."""
        (row,) = self._rows("SELECT coalesce(sum(length(body)), 0), count(*) FROM audit")
        return int(row[0]) + _ROW_OVERHEAD * int(row[1])

    def row_to_prune_to(self, keep: int) -> ChainEnd | None:
        """The last row that must go so that what stays takes at most so many bytes; None: none must."""
        taken = 0
        for number, link, length in self._rows("SELECT number, hash, length(body) FROM audit ORDER BY number DESC"):
            taken += int(length) + _ROW_OVERHEAD
            if taken > keep:
                return ChainEnd(number, link)
        return None

    # keeps: S25
    def prune_audit(self, checkpoint: DeviceStatement, event: str, **detail: Any) -> None:
        """Add a row, keep the checkpoint, and forget the rows that it stands for: all of it or nothing."""
        through = read_end(checkpoint)
        text = json.dumps(checkpoint.as_dict(), sort_keys=True)
        with self._saving(shown=False):
            self._append_audit(event, detail)
            self._execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (_CHECKPOINT, text))
            self._execute("DELETE FROM audit WHERE number <= ?", (through.number,))

    def is_retired(self) -> bool:
        """The device was taken out of service."""
        return self._meta(_RETIRED) == "1"

    def keep_retired(self) -> None:
        """Remember it, for an environment that has to be written anew."""
        self._set_meta(_RETIRED, "1")

    def told_break(self) -> str:
        """The anchor of which a row says that the rows do not fit it; empty: none yet."""
        return self._meta(_BREAK) or ""

    def keep_break(self, anchor: str) -> None:
        """Remember that it was told of this anchor, which the boot environment has until the next decision."""
        self._set_meta(_BREAK, anchor)

    def _counts(self) -> dict[str, int]:
        """What `audit_counted` counted in this boot; a damaged or an old value counts as none."""
        try:
            kept = json.loads(self._meta(_COUNTS) or "{}")
            counts = kept["counts"] if kept.get("boot") == self._boot else {}
            return {str(key): int(times) for key, times in counts.items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            return {}

    def _append_audit(self, event: str, detail: dict[str, Any]) -> None:
        at, body = self._now(), _text(detail)
        link = link_of(self.audit_end().hash, at, self._boot, event, body)
        self._execute(
            "INSERT INTO audit (at, boot, event, body, hash) VALUES (?, ?, ?, ?, ?)",
            (at, self._boot, event, body, link),
        )


def _text(detail: dict[str, Any]) -> str:
    return json.dumps(detail, sort_keys=True, default=str)
