"""The record survives what happens to files: damage, newer clients, migrations, readers without rights."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from twinslot.core.errors import DeviceError
from twinslot.core.lifecycle import State
from twinslot.core.model import Floors, Release, SlotName, SlotRecord, StoredPayload
from twinslot.core.transaction import Outcome, Transaction
from twinslot.storage import schema
from twinslot.storage.record import Record

STEP = "ALTER TABLE transactions ADD COLUMN note TEXT NOT NULL DEFAULT '';"


def now() -> str:
    return "2026-11-21T00:00:00Z"


def make(identity: str = "a" * 32, **fields: object) -> Transaction:
    return Transaction(identity, State.WRITING, SlotName.B, Release("2.0", 20), **fields)  # type: ignore[arg-type]


@pytest.fixture
def newer_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on the code is a later release's, with one more migration."""
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, STEP))
    monkeypatch.setattr(schema, "NEWEST", schema.NEWEST + 1)


def version_of(directory: Path) -> int:
    connection = sqlite3.connect(directory / "record.sqlite")
    try:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


def test_what_was_saved_is_found_again(tmp_path: Path) -> None:
    with Record(tmp_path, now) as record:
        record.save(make(payloads={"rootfs": StoredPayload(10, 4096, "d" * 64)}), "accepted", why="test")
        record.save_slot(SlotRecord(SlotName.A, Release("1.0", 10)))
        record.raise_floors(Floors(10, 2, 3))
        record.raise_floors(Floors(5, 1, 1))
        record.add_failed(30, "unhealthy", "b" * 32)
    with Record(tmp_path, now) as record:
        transaction = record.current()
        assert transaction == make(payloads={"rootfs": StoredPayload(10, 4096, "d" * 64)})
        assert record.slot(SlotName.A) == SlotRecord(SlotName.A, Release("1.0", 10))
        assert record.floors() == Floors(10, 2, 3), "a lower floor changes nothing"
        assert record.failed() == {30: "unhealthy"}
        assert not record.fresh


def test_a_changed_audit_row_breaks_the_chain(tmp_path: Path) -> None:
    with Record(tmp_path, now) as record:
        for number in range(5):
            record.audit("event", number=number)
        assert record.first_broken_link() is None
        record._db.execute("UPDATE audit SET body = '{}' WHERE number = 3")
        assert record.first_broken_link() == 3


def test_a_removed_audit_row_breaks_the_chain(tmp_path: Path) -> None:
    with Record(tmp_path, now) as record:
        for number in range(5):
            record.audit("event", number=number)
        record._db.execute("DELETE FROM audit WHERE number = 1")
        assert record.first_broken_link() == 2


@pytest.mark.parametrize("junk", [b"", b"junk" * 1000, b"SQLite format 3\0" + b"\1" * 5000])
def test_a_damaged_database_is_set_aside_and_a_new_one_begun(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "record.sqlite").write_bytes(junk)
    with Record(tmp_path, now) as record:
        assert record.fresh
        assert record.current() is None
        assert record.audit_rows()[0].body == {"file": "record.sqlite.damaged.1"}
    assert (tmp_path / "record.sqlite.damaged.1").read_bytes() == junk


def test_a_trial_leaves_an_old_database_at_its_version(tmp_path: Path, newer_client: None) -> None:
    connection = sqlite3.connect(tmp_path / "record.sqlite")
    connection.executescript(schema.MIGRATIONS[0] + "PRAGMA user_version = 1;")
    connection.close()
    with Record(tmp_path, now, on_trial=True) as record:
        record.save(make(), "accepted")
        record.audit("seen by the new client")
    assert version_of(tmp_path) == 1


def test_a_database_made_on_trial_can_be_read_by_the_old_client(tmp_path: Path, newer_client: None) -> None:
    with Record(tmp_path, now, on_trial=True) as record:
        record.save(make(), "adopted")
    assert version_of(tmp_path) == schema.OLDEST


def test_after_commit_the_database_is_migrated_and_a_copy_is_kept(tmp_path: Path, newer_client: None) -> None:
    with Record(tmp_path, now, on_trial=True) as record:
        record.save(make(outcome=Outcome.COMMITTED), "committed")
        assert record.migrate()
        assert not record.migrate()
        assert record.history()[0].id == "a" * 32
    assert version_of(tmp_path) == 2
    assert (tmp_path / "record.sqlite.v1").exists()


def test_an_old_client_sets_a_newer_database_aside_and_goes_on_from_the_kept_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as later:
        later.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, STEP))
        later.setattr(schema, "NEWEST", 2)
        with Record(tmp_path, now, on_trial=True) as record:
            record.save(make(outcome=Outcome.COMMITTED), "committed")
            record.migrate()
            record.audit("only the newer client knows")
    with Record(tmp_path, now) as record:
        assert record.set_aside == ("record.sqlite.newer-v2.1",)
        assert record.history()[0].id == "a" * 32
        assert "only the newer client knows" not in [row.event for row in record.audit_rows()]
    assert version_of(tmp_path) == 1
    connection = sqlite3.connect(tmp_path / "record.sqlite.newer-v2.1")
    assert connection.execute("SELECT count(*) FROM audit WHERE event = 'only the newer client knows'").fetchone() == (
        1,
    )
    connection.close()


def test_anyone_may_read_and_reading_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="there is no record"):
        Record(tmp_path, now, read_only=True)
    assert list(tmp_path.iterdir()) == []
    Record(tmp_path, now).close()
    assert (tmp_path / "record.sqlite").stat().st_mode & 0o777 == 0o644
    with Record(tmp_path, now, read_only=True) as record, pytest.raises(DeviceError, match="readonly"):
        record.audit("not allowed")
