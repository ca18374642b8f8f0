"""The audit: rows of what was done or refused, each chained to the row before it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from twinslot.core.counting import counted, worth_a_row
from twinslot.storage.record.database import as_device_error
from twinslot.storage.record.store import Store

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
        columns = "SELECT number, at, boot, event, body, hash FROM audit"
        query = f"{columns} WHERE number > ? AND at >= ? ORDER BY number {order} LIMIT ?"
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

    def _counts(self) -> dict[str, int]:
        """What `audit_counted` counted in this boot; a damaged or an old value counts as none."""
        try:
            kept = json.loads(self._meta(_COUNTS) or "{}")
            counts = kept["counts"] if kept.get("boot") == self._boot else {}
            return {str(key): int(times) for key, times in counts.items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            return {}

    def _append_audit(self, event: str, detail: dict[str, Any]) -> None:
        row = self._execute("SELECT hash FROM audit ORDER BY number DESC LIMIT 1").fetchone()
        at, body = self._now(), _text(detail)
        link = _link(row[0] if row else FIRST_LINK, at, self._boot, event, body)
        self._execute(
            "INSERT INTO audit (at, boot, event, body, hash) VALUES (?, ?, ?, ?, ?)",
            (at, self._boot, event, body, link),
        )


def _text(detail: dict[str, Any]) -> str:
    return json.dumps(detail, sort_keys=True, default=str)


def _link(before: str, at: str, boot: str, event: str, body: str) -> str:
    return hashlib.sha256(f"{before}\n{at}\n{boot}\n{event}\n{body}".encode()).hexdigest()
