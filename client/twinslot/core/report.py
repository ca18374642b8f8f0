"""What a device tells its maker when there is no server of a fleet: signed reports. Pure.

A report is a DSSE envelope (github.com/secure-systems-lab/dsse, envelope.md) in JSON, signed by the device's own key.
Its payload is JSON as well:

    {"format": 1, "id": "...", "at": "...", "device": {...}, "status": {...}, "rows": [...], "before": "...",
     "dropped": 0, "updates": [...], "telemetry": {...}}

Rules:

1. What became of an update is told by rows of the audit alone, in their order; `updates` says more of those whose last
   row is among them, and of no other (S10).
2. `id` is made of the key and of the rows: the same rows sent twice have the same id, whoever receives them counts one.
3. A report is bounded. What does not fit comes in the next one. Where more rows wait than the device is to keep for its
   maker, routine ones go first, oldest first, and ends of updates last; how many went is told in `dropped`.
4. `before` is the hash of the row before the first one, so that whoever receives all reports can follow the chain.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from twinslot.core.envelope import DeviceStatement
from twinslot.core.events import ENDS, WARNING, AuditEvent

PAYLOAD_TYPE: Final = "application/vnd.twinslot.report+json"
FORMAT: Final = 1
ROWS_MAX: Final = 200  # rows in one report
PAYLOAD_MAX: Final = 40_000  # bytes; with base64 and what stands around it the envelope stays below 64 KiB
ROW_MAX: Final = 8_000  # bytes of one row; a longer one comes without its fields
Row = Mapping[str, Any]  # as `queries.log` gives it


def thinned(rows: Sequence[Row], most: int) -> tuple[list[Row], int]:
    """The rows that are told when no more than `most` may wait, and how many are not."""
    over = len(rows) - most
    if over <= 0:
        return list(rows), 0
    gone = {int(row["number"]) for row in sorted(rows, key=_worth)[:over]}
    return [row for row in rows if int(row["number"]) not in gone], over


def _worth(row: Row) -> tuple[int, int]:
    event = str(row["event"])
    known = AuditEvent(event) if event in AuditEvent.__members__.values() else None
    routine = known is not None and known.level < WARNING
    return 2 if event in ENDS else 0 if routine else 1, int(row["number"])


def first_batch(rows: Sequence[Row], room: int) -> list[dict[str, Any]]:
    """As many of the first rows as one report takes.

    Args:
        rows: Ascending.
        room: Bytes that they may take.
    """
    batch: list[dict[str, Any]] = []
    for row in rows[:ROWS_MAX]:
        told = told_row(row)
        room -= len(json.dumps(told)) + 2
        if room < 0 and batch:
            break
        batch.append(told)
    return batch


def told_row(row: Row) -> dict[str, Any]:
    """A row as a report has it: what its hash covers, and the hash. A very long one has `cut` instead of `fields`."""
    told = {key: row[key] for key in ("number", "at", "boot", "event", "fields", "hash")}
    if (length := len(json.dumps(told["fields"]))) > ROW_MAX:
        del told["fields"]
        told["cut"] = length
    return told


def report_id(key: str, rows: Sequence[Row], at: str) -> str:
    """Alike for the same rows of the same device; without rows for the same moment. 32 hex digits."""
    what = f"{rows[0]['number']} {rows[-1]['number']} {rows[-1]['hash']}" if rows else at
    return hashlib.sha256(f"{key} {what}".encode()).hexdigest()[:32]


def ended_updates(rows: Iterable[Row], history: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of the updates that these rows close, what the record has beside.

    Args:
        rows: Of a report.
        history: Transactions as `Transaction.as_dict`.
    """
    closed = {row["fields"].get("transaction") for row in rows if row["event"] in ENDS and "fields" in row}
    return [_update(each) for each in history if each.get("id") in closed and each.get("outcome")]


_TOLD: Final = ("id", "kind", "outcome", "reason", "started", "ended", "seconds", "unused", "forced")


def _update(transaction: Mapping[str, Any]) -> dict[str, Any]:
    told = {key: transaction[key] for key in _TOLD if key in transaction}
    told |= {key: value for key, value in transaction.items() if key.startswith("bytes_")}
    told["release"] = {key: transaction["release"].get(key) for key in ("name", "sequence", "epoch", "manifest")}
    told["checks"] = transaction.get("checks", [])
    return told


def envelope(payload: bytes, key: str, signature: bytes) -> bytes:
    """The signed report.

    Args:
        payload: What was signed, with `PAYLOAD_TYPE`.
        key: Fingerprint of the device's key.
        signature: By it.
    """
    said = DeviceStatement(PAYLOAD_TYPE, payload, key, signature).as_dict()
    return json.dumps(said, separators=(",", ":")).encode()
