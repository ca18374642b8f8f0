"""What a board says of itself after a cut: record, audit chain, health, and the digest of what runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from twinslot_lab.board import Board
from twinslot_lab.errors import GuestError
from twinslot_lab.powercut.starting_point import Row

# Asks SQLite, not the client: what the client says of its own record is a different question.
_ROWS = """
import json, os, sqlite3
path = "/var/lib/twinslot/record.sqlite"
rows = []
if os.path.exists(path):
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)  # a client that writes is done long before
    rows = db.execute("SELECT number, hash, event FROM audit ORDER BY number").fetchall()
print(json.dumps(rows))
"""
# 6: a fault.
_REST = "twinslot --json status && twinslot --json history && { twinslot --json doctor || [ $? = 6 ]; }"


@dataclass(frozen=True, slots=True)
class Account:
    """The client's own answers, the rows of the audit chain with their events, and where /var came from.

    Attributes:
        lost_data: What the board said when it could not use its data partition; empty: it is mounted.
    """

    status: dict[str, Any]
    history: list[dict[str, Any]]
    doctor: dict[str, Any]
    rows: tuple[Row, ...]
    events: tuple[str, ...]
    lost_data: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; the rows by their events only."""
        told = {"status": self.status, "history": self.history, "doctor": self.doctor}
        return told | {"events": list(self.events), "lost_data": self.lost_data}


def audit(board: Board, seconds: float = 60) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """The audit chain now: rows and events. No record yet: none.

    Raises:
        GuestError: There is a record, and SQLite cannot read it.
    """
    found = json.loads(board.check("python3", "-I", "-c", _ROWS, timeout=seconds))
    return tuple((number, link) for number, link, _ in found), tuple(event for _, _, event in found)


def ask(board: Board) -> Account:
    """Everything, from a board at rest.

    Raises:
        GuestError: The client gave no account.
    """
    said = board.check("sh", "-c", _REST, timeout=600)
    try:
        status, history, doctor = (json.loads(line) for line in said.splitlines())
    except ValueError as e:
        raise GuestError(f"the client gave no account of itself: {said[:300]!r}") from e
    rows, events = audit(board)
    return Account(status, history["transactions"], doctor, rows, events, _lost_data(board))


def _lost_data(board: Board) -> str:
    """Why /var is in memory, in the words of the board's mount helper."""
    if board.check("findmnt", "-no", "FSTYPE", "/var").strip() != "tmpfs":
        return ""
    said = board.run("journalctl", "-b", "-u", "var.mount", "-o", "short-monotonic", "--no-pager", "-q").stdout
    return said.strip() or "/var is in memory"
