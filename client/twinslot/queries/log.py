"""The audit as `twinslot log` and the bus show it: rows as JSON-ready data, and whether their chain holds."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, Final

from twinslot.config.options import Config
from twinslot.core.events import AuditEvent, describe
from twinslot.storage.record.audit_trail import AuditRow
from twinslot.storage.record.record import Record

JsonObject = dict[str, Any]

MOST: Final = 1_000_000  # rows in one answer


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which rows.

    Attributes:
        after: Only rows with a higher number.
        since: Only rows at or after this time: UTC, ISO 8601 as the rows have it; empty: of all times.
        limit: At most so many: the oldest of those after a row, so that whoever reads on misses none; without one the
        newest.
            0: all.
    """

    after: int = 0
    since: str = ""
    limit: int = 0


@dataclass(frozen=True, slots=True)
class LogPage:
    """What was asked for.

    Attributes:
        rows: Ascending.
        broken: Number of the first row that does not follow from the row before it; None: the chain holds, or was not
            checked, since the rows go on after one.
    """

    rows: list[JsonObject] = field(default_factory=list)
    broken: int | None = None

    def as_dict(self) -> JsonObject:
        """JSON-ready, as `GetLog` answers."""
        return {"rows": self.rows, "broken": self.broken}


def read_log(config: Config, query: LogQuery) -> LogPage:
    """Read the rows; no lock, and nothing is changed. Only root may.

    Raises:
        DeviceError: There is no record, or it cannot be read.
    """
    with Record(config.record.directory, lambda: "", read_only=True) as record:
        return rows_of(record, query)


def rows_of(record: Record, query: LogQuery) -> LogPage:
    """The rows of an open record."""
    limit = query.limit or MOST
    if query.after:
        return LogPage([_row(row) for row in record.audit_from(query.after, limit, since=query.since)])
    rows = record.audit_rows(limit, since=query.since)
    return LogPage([_row(row) for row in reversed(rows)], record.first_broken_link())


def _row(row: AuditRow) -> JsonObject:
    level = AuditEvent(row.event).level if row.event in AuditEvent.__members__.values() else logging.INFO
    head = {"number": row.number, "at": row.at, "boot": row.boot, "event": row.event}
    told = {"level": logging.getLevelName(level).lower(), "message": describe(row.event, row.body)}
    return head | told | {"fields": row.body, "hash": row.hash}
