"""Media and limits that fail: what a call on the record meets without room, without descriptors, on a bad medium."""

from __future__ import annotations

import errno
import os
import sqlite3
from dataclasses import dataclass

from twinslot.core.errors import DeviceError

# What SQLite makes of each, by what is done: message and primary result code (sqlite3.h).
# tests/component/test_record.py holds them to real ones.
KINDS: dict[str, dict[str, tuple[str, int]]] = {
    "ENOSPC": {"write": ("database or disk is full", 13)},
    "EDQUOT": {"write": ("disk I/O error", 10)},
    "EROFS": {"write": ("attempt to write a readonly database", 8)},
    "EMFILE": {"write": ("unable to open database file", 14), "open": ("unable to open database file", 14)},
    "EIO": {
        "write": ("disk I/O error", 10),
        "read": ("disk I/O error", 10),
        "open": ("disk I/O error", 10),
    },
}


@dataclass
class Faults:
    """Lets one call on the record fail, or every call from there on.

    Attributes:
        kind: Of `KINDS`; empty: nothing fails.
        at: Number of the call that fails, from 1, of those that this kind can meet.
        lasting: All that follow fail, too.
        met: Calls so far that this kind could meet.
        fired: Faults so far.
    """

    kind: str = ""
    at: int = 0
    lasting: bool = False
    met: int = 0
    fired: int = 0

    def meet(self, what: str) -> None:
        """A call begins: `read`, `write` or `open`."""
        found = KINDS.get(self.kind, {}).get(what)
        if found is None:
            return
        self.met += 1
        if self.met == self.at or (self.lasting and self.met > self.at):
            self.fired += 1
            error = sqlite3.OperationalError(found[0])
            error.sqlite_errorcode = found[1]
            if what == "open":
                raise DeviceError(found[0], code="record") from error
            raise error


# What the edges raise where a call of the system fails: code, or the error itself. Component tests hold them to real
# ones (test_shortages.py, test_uboot.py, test_lock.py).
EDGES = {"lock": "lock", "environment read": "env-gone", "environment write": "env-write", "check": "resources"}
ERRNOS = ("ENOSPC", "EROFS", "EDQUOT", "EMFILE", "EIO")


@dataclass
class Shortages:
    """Lets one call at the edges but the record fail, or every call from there on.

    Attributes:
        kind: Of `ERRNOS`; empty: nothing fails.
        edge: Of `EDGES`: only there; empty: at each.
        at: Number of the call that fails, from 1.
        lasting: All that follow fail, too.
        met: Calls so far.
        fired: Faults so far.
    """

    kind: str = ""
    edge: str = ""
    at: int = 0
    lasting: bool = False
    met: int = 0
    fired: int = 0

    def meet(self, edge: str) -> None:
        """A call begins."""
        if not self.kind or self.edge not in ("", edge):
            return
        self.met += 1
        if self.met == self.at or (self.lasting and self.met > self.at):
            self.fired += 1
            number = getattr(errno, self.kind)
            raise DeviceError(f"{edge} failed", code=EDGES[edge]) from OSError(number, os.strerror(number))
