"""The record survives what happens to files: damage, newer clients, migrations, readers without rights."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from simulation.faults import KINDS
from twinslot.config.options import BootConfig, Config, DeviceConfig, RecordConfig, SlotsConfig, TrustConfig
from twinslot.core.errors import DeviceError
from twinslot.core.lifecycle import State
from twinslot.core.model import CheckResult, Floors, Release, SlotName, SlotRecord, StoredPayload
from twinslot.core.transaction import Outcome, Transaction
from twinslot.queries import status as report
from twinslot.queries.doctor import doctor
from twinslot.storage.record import schema
from twinslot.storage.record.database import BusyTimeout
from twinslot.storage.record.published import Published
from twinslot.storage.record.record import Record

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


@pytest.mark.verifies("S15")
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


@pytest.mark.verifies("S15")
def test_after_commit_the_database_is_migrated_and_a_copy_is_kept(tmp_path: Path, newer_client: None) -> None:
    with Record(tmp_path, now, on_trial=True) as record:
        record.save(make(outcome=Outcome.COMMITTED), "committed")
        assert record.migrate()
        assert not record.migrate()
        assert record.history()[0].id == "a" * 32
    assert version_of(tmp_path) == 2
    assert (tmp_path / "record.sqlite.v1").exists()


@pytest.mark.verifies("S15")
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


def test_reading_creates_nothing_and_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="there is no record"):
        Record(tmp_path, now, read_only=True)
    assert list(tmp_path.iterdir()) == []
    Record(tmp_path, now).close()
    with Record(tmp_path, now, read_only=True) as record, pytest.raises(DeviceError, match="readonly"):
        record.audit("not allowed")


# Where there is no room, no right to write, no descriptor.


def damage_full(directory: Path) -> None:
    with (directory / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))


def damage_read_only(directory: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", directory], check=True)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "small"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", directory], check=True)


@pytest.mark.root
@pytest.mark.parametrize(("kind", "damage"), [("ENOSPC", damage_full), ("EROFS", damage_read_only)])
def test_a_save_that_fails_is_told_as_sqlite_tells_it_and_keeps_what_was_saved(
    small: Path, kind: str, damage: Callable[[Path], None]
) -> None:
    with Record(small, now) as record:
        record.save(make(), "accepted")
    damage(small)
    with Record(small, now) as record:
        with pytest.raises(DeviceError) as caught:
            record.save(make(boots={"x" * 32: "y" * 20_000}), "grown")
        cause = caught.value.__cause__
        assert isinstance(cause, sqlite3.Error)
        assert (str(cause), cause.sqlite_errorcode & 0xFF) == KINDS[kind]["write"]
        assert str(small / "record.sqlite") in str(caught.value)
        assert record.current() == make()


def test_without_a_descriptor_the_record_is_left_as_it_is(tmp_path: Path) -> None:
    with Record(tmp_path, now) as record:
        record.save(make(), "accepted")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open("/dev/null", os.O_RDONLY)  # the lowest number that is free, whatever ran before in this process
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
    try:
        with pytest.raises(DeviceError) as caught:
            Record(tmp_path, now)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.code == "device.record"
    with Record(tmp_path, now) as record:
        assert record.current() == make()
        assert record.set_aside == ()


# Who may read, and who can hold up a save (S27).

STRANGER = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
# Takes a read transaction, which keeps every COMMIT waiting, and keeps it.
READER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN")
db.execute("SELECT count(*) FROM transactions").fetchall()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """One that others can enter; pytest's own are closed."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.mark.verifies("S27")
@pytest.mark.root
@pytest.mark.parametrize("made_by", ["this client", "an earlier one"])
def test_a_stranger_cannot_open_the_record_and_reads_what_is_published(open_directory: Path, made_by: str) -> None:
    with Record(open_directory, now) as record:
        record.save(make(), "accepted")
    database = open_directory / "record.sqlite"
    if made_by == "an earlier one":
        database.chmod(0o644)
        (open_directory / "record.sqlite.v1").touch(0o644)
        Record(open_directory, now).close()
    assert {file.stat().st_mode & 0o777 for file in open_directory.glob("record.sqlite*")} == {0o600}
    tried = subprocess.run([*STRANGER, "head", "-c1", database], capture_output=True, text=True)
    assert "Permission denied" in tried.stderr
    shown = subprocess.run([*STRANGER, "cat", open_directory / "status.json"], capture_output=True, check=True)
    assert json.loads(shown.stdout)["history"][0]["id"] == "a" * 32


@pytest.mark.verifies("S27")
@pytest.mark.root
def test_a_reader_that_keeps_a_lock_costs_one_timeout_and_not_one_for_each_save(tmp_path: Path) -> None:
    Record(tmp_path, now).close()
    argv = [sys.executable, "-c", READER, str(tmp_path / "record.sqlite")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"held\n"
        busy = BusyTimeout(0.2)
        with Record(tmp_path, now, busy=busy) as record:
            for _ in range(3):
                with pytest.raises(DeviceError, match="locked"):
                    record.audit("held up")
                assert busy.left == 0
                assert record._rows("PRAGMA busy_timeout") == [(0,)]
            with Record(tmp_path, now, busy=busy) as second:
                assert second._rows("PRAGMA busy_timeout") == [(0,)], "another session does not wait either"
            reader.communicate()
            record.audit("free again")


def test_what_is_published_says_what_the_record_says(tmp_path: Path) -> None:
    with Record(tmp_path, now) as record:
        record.save(make("a" * 32, outcome=Outcome.COMMITTED), "committed")
        record.save(make("b" * 32, checks=(CheckResult("pump", required=True, passed=True),)), "accepted")
        record.save_slot(SlotRecord(SlotName.A, Release("1.0", 10, 2, "c" * 64), {}, "a" * 32, "2026"))
        record.raise_floors(Floors(10, 2, 3))
        record.add_failed(30, "unhealthy", "b" * 32)
        record.saw_generation(7)
        record.keep_documents({"root": '{"quotes": "and \\n"}'})
        record.keep_documents({"b.root": "of an update under way"})
        public = Published(tmp_path)
        for ask in ("current", "history", "floors", "failed", "generation"):
            assert getattr(public, ask)() == getattr(record, ask)(), ask
        assert [public.slot(name) for name in SlotName] == [record.slot(name) for name in SlotName]
        assert public.document("root") == record.document("root")
        assert public.document("b.root") is None


@pytest.mark.parametrize("junk", [b"", b"[]", b'{"meta": 1}', b"\xff", b'{"meta": {"floors": {}, "failed": {}, "gen'])
def test_a_published_file_that_is_damaged_is_an_error_and_the_next_save_mends_it(tmp_path: Path, junk: bytes) -> None:
    with Record(tmp_path, now) as record:
        (tmp_path / "status.json").write_bytes(junk)
        with pytest.raises(DeviceError) as caught:
            Published(tmp_path)
        assert caught.value.code == "device.record"
        record.save(make(), "accepted")
    current = Published(tmp_path).current()
    assert current == make()


@pytest.mark.root
def test_a_stranger_gets_the_status_and_the_history_that_root_gets(open_directory: Path) -> None:
    with Record(open_directory, now) as record:
        record.save(make("a" * 32, outcome=Outcome.ROLLED_BACK, reason="unhealthy"), "rolled-back")
        record.save(make("b" * 32), "accepted")
        record.save_slot(SlotRecord(SlotName.A, Release("1.0", 10), {}, "a" * 32, "2026"))
        record.add_failed(30, "unhealthy", "b" * 32)
    config = Config(
        device=DeviceConfig(compatible=("acme,pump-3",)),
        slots=SlotsConfig(a={"rootfs": open_directory / "slot_a"}, b={"rootfs": open_directory / "slot_b"}),
        trust=TrustConfig(roles=("engineering",)),
        boot=BootConfig(fw_env_config=open_directory / "none"),  # a stranger cannot read the environment
        record=RecordConfig(directory=open_directory),
    )
    of_root = (report.status(config), report.history(config))
    os.seteuid(65534)
    try:
        of_a_stranger = (report.status(config), report.history(config))
        findings = {finding.area: finding.text for finding in doctor(config).findings}
    finally:
        os.seteuid(0)
    assert of_a_stranger == of_root
    assert of_root[0]["failed"] == {"30": "unhealthy"}
    assert "record" in findings


@pytest.mark.parametrize("lost", ["missing", "empty", "older"])
def test_what_is_published_is_written_anew_when_the_record_is_opened(tmp_path: Path, lost: str) -> None:
    with Record(tmp_path, now) as record:
        record.save(make(), "accepted")
    public = tmp_path / "status.json"
    if lost == "missing":
        public.unlink()
    else:
        public.write_bytes(b"" if lost == "empty" else b"{}")
        os.utime(public, (0, 0) if lost == "older" else None)
    Record(tmp_path, now).close()
    assert Published(tmp_path).current() == make()


@pytest.mark.root
def test_what_cannot_be_published_stops_no_save(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Record(small, now) as record:
        record.save(make(), "accepted")
        (small / "status.json.new").mkdir()
        record.save(make(outcome=Outcome.COMMITTED), "committed")
        assert record.history()[0].outcome is Outcome.COMMITTED
    assert "status.json' cannot be written: Is a directory" in caplog.text


def test_a_history_that_is_too_long_to_publish_loses_its_oldest_updates(tmp_path: Path) -> None:
    checks = tuple(CheckResult(f"check-{n}", required=True, passed=True, detail="x" * 200) for n in range(300))
    with Record(tmp_path, now) as record:
        for n in range(20):
            record.save(make(f"{n:032x}", checks=checks, outcome=Outcome.COMMITTED), "committed")
    found = Published(tmp_path).history()
    assert 1 < len(found) < 20
    assert [each.id for each in found] == [f"{n:032x}" for n in range(19, 19 - len(found), -1)]


@pytest.mark.parametrize("left", ["link", "second-name", "pipe", "of-a-cut"])
def test_what_stands_in_the_place_of_what_is_published_is_replaced(tmp_path: Path, left: str) -> None:
    victim, place = tmp_path / "victim", tmp_path / "data/status.json.new"
    victim.write_text("precious")
    place.parent.mkdir()
    makers = {"link": place.symlink_to, "second-name": place.hardlink_to, "pipe": lambda _: os.mkfifo(place)}
    makers.get(left, lambda _: place.write_text("{" * 9999))(victim)
    with Record(place.parent, now) as record:
        record.save(make(), "accepted")
    assert victim.read_text() == "precious"
    assert Published(place.parent).current() == make()
