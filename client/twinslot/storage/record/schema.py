"""Versions of the record's database, oldest first. The version stands in SQLite's `user_version`.

Append a step for each change and never edit one that was shipped. Every statement of this client must work on each
version from `OLDEST` on, since a system on trial writes what the old client can read (S15).
"""

from __future__ import annotations

from typing import Final

MIGRATIONS: Final[tuple[str, ...]] = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE transactions (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        open INTEGER NOT NULL,
        body TEXT NOT NULL
    );
    CREATE TABLE slots (name TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE failed (sequence INTEGER PRIMARY KEY, reason TEXT NOT NULL, id TEXT NOT NULL, at TEXT NOT NULL);
    CREATE TABLE audit (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL,
        boot TEXT NOT NULL,
        event TEXT NOT NULL,
        body TEXT NOT NULL,
        hash TEXT NOT NULL
    );
    """,
)

OLDEST: Final = 1
NEWEST: Final = len(MIGRATIONS)
