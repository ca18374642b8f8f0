"""The record's open database: how it is asked, and how a change of it is durable or never happened."""

from __future__ import annotations

import abc
import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any

from twinslot.storage.record.database import Opened, as_device_error


class Store(abc.ABC):
    """What every part of the record stands on. Whoever inherits opens the database."""

    _opened: Opened
    _db: sqlite3.Connection

    @abc.abstractmethod
    def _publish(self) -> None:
        """After a change of what any user may know."""

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
