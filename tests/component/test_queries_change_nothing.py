"""A query changes nothing (S26): whatever state a device is in, each query leaves every byte of it as it was.

Environment, record, state directory and slots are compared whole, with modes and times of change, before and after
each query of the command line and of the bus.
"""

from __future__ import annotations

import multiprocessing
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bus_bench import PROPERTIES, Answered, Caller, private_bus
from host_device import CONFIG, HostDevice
from release_bench import ReleaseBench

import waits
from fakes.rigs import OFFSETS, SIZE
from twinslot.app.local import LocalUpdater
from twinslot.bootloader.uboot import rawenv
from twinslot.bus import names
from twinslot.bus.server.server import serve
from twinslot.cli.main import main
from twinslot.cli.parser import make_parser
from twinslot.core.events import AuditEvent
from twinslot.core.lifecycle import State
from twinslot.core.model import Floors, Release, SlotName, SlotRecord, StoredPayload
from twinslot.core.transaction import Transaction
from twinslot.engine import facts
from twinslot.payloads.partition.handler import PartitionHandler
from twinslot.storage.device_key import DeviceKeyFiles
from twinslot.storage.record import schema
from twinslot.storage.running_slot import RunningSlot
from twinslot.trust.device_key import make_device_key

pytestmark = pytest.mark.slow

CONTENT = b"superblock".ljust(4096, b"\1") + bytes(100_000)
CHANGING = {
    "activate",
    "approve",
    "boot",
    "cancel",
    "check",
    "commit",
    "continue",
    "decryption-key",
    "device-key",
    "hold",
    "install",
    "poll",
    "report",
    "retire",
    "rollback",
    "scrub",
    "service",
    "watch",
}
WHERE = RunningSlot(SlotName.A, frozenset(), ("said by the test",))


def environment(device: HostDevice, *, settled: bool = True, **variables: str) -> None:
    """What the environment says beside what it says already."""
    device.rig.boot.write({"ts_generation": "7", **variables})
    if settled:
        device.rig.boot.settle()


def update(device: HostDevice, state: State, **fields: Any) -> None:
    """An open update in the record, into slot b unless something else is said."""
    chosen: dict[str, Any] = {"target": SlotName.B, "release": Release("2.0", 20)} | fields
    with device.record() as record:
        record.save(Transaction(id="1" * 32, state=state, **chosen), "accepted")


def at_rest(_: HostDevice) -> None:
    """Nothing is wrong and nothing waits."""


def copies_differ(device: HostDevice) -> None:
    environment(device, settled=False, slot_b="bad")


def one_copy_lost(device: HostDevice) -> None:
    device.rig.damage(0)


def both_copies_lost(device: HostDevice) -> None:
    for copy in (0, 1):
        device.rig.damage(copy)


def saved_default(device: HostDevice) -> None:
    """U-Boot has saved its built-in default since."""
    for number, offset in enumerate(OFFSETS):
        with (device.directory / "card").open("r+b") as card:
            card.seek(offset)
            card.write(rawenv.encode({"slot": "a", "slot_a": "good", "slot_b": "good"}, SIZE, number))


def on_trial(device: HostDevice) -> None:
    update(device, State.ARMED, target=SlotName.A)
    environment(device, slot="a", slot_a="trial", slot_b="good", upgrade_available="1", bootcount="1", ts_txn="1" * 32)


def trial_without_record(device: HostDevice) -> None:
    on_trial(device)
    lost_record(device)


def given_up(device: HostDevice) -> None:
    update(device, State.LEAVING, target=SlotName.A)
    environment(
        device, slot="b", slot_a="bad", slot_b="good", upgrade_available="1", ts_reason="unhealthy", ts_txn="1" * 32
    )


def rolled_back(device: HostDevice) -> None:
    """The old system runs again, and the story was not told yet."""
    update(device, State.TRIAL, armed=True)
    environment(device, slot="a", slot_b="bad", upgrade_available="1", ts_reason="bootlimit", ts_failed="20")


def cut_while_writing(device: HostDevice) -> None:
    update(device, State.WRITING)
    environment(device, settled=False, slot_b="bad", ts_txn="1" * 32)


def armed(device: HostDevice) -> None:
    update(device, State.ARMED, armed=True)
    environment(device, settled=False, slot="b", slot_b="trial", upgrade_available="1", ts_txn="1" * 32)


def overtaken(device: HostDevice) -> None:
    update(device, State.ARMED)
    environment(device, ts_txn="2" * 32)


def went_back(device: HostDevice) -> None:
    """The environment is older than the record, its floors are lower."""
    with device.record() as record:
        record.saw_generation(90)
        record.raise_floors(Floors(15, 2))


def lost_record(device: HostDevice) -> None:
    shutil.rmtree(device.directory / "data")
    (device.directory / "data").mkdir()


def damaged_record(device: HostDevice) -> None:
    (device.directory / "data/record.sqlite").write_bytes(b"no database" * 1000)


def record_with_damaged_text(device: HostDevice) -> None:
    update(device, State.WRITTEN)
    with sqlite3.connect(device.directory / "data/record.sqlite") as database:
        database.execute("UPDATE transactions SET body = 'no json'")
    database.close()


def foreign_roots(device: HostDevice) -> None:
    """Roots that do not follow from the built-in one: an install would drop them."""
    with device.record() as record:
        record.keep_documents({"root": "{}", "roots": '["{}"]'})


def newer_record(device: HostDevice) -> None:
    with sqlite3.connect(device.directory / "data/record.sqlite") as database:
        database.execute(f"PRAGMA user_version = {schema.NEWEST + 1}")
    database.close()


def half_a_save(device: HostDevice) -> None:
    """Power went within a save: SQLite rolls the journal back as soon as somebody opens it for writing."""
    data = device.directory / "data"
    database = sqlite3.connect(data / "record.sqlite", isolation_level=None)
    database.execute("PRAGMA journal_mode = TRUNCATE")
    database.execute("PRAGMA cache_size = 1")
    database.execute("BEGIN IMMEDIATE")
    for number in range(200):  # more than the cache holds: pages are written before the commit
        database.execute("INSERT INTO meta (key, value) VALUES (?, ?)", (f"test.{number}", "x" * 500))
    shutil.copytree(data, device.directory / "cut")
    database.close()
    shutil.rmtree(data)
    (device.directory / "cut").rename(data)
    assert (data / "record.sqlite-journal").stat().st_size


def open_record_and_leftovers(device: HostDevice) -> None:
    """Modes of an earlier client, and what cuts left behind."""
    data = device.directory / "data"
    (data / "record.sqlite").chmod(0o644)
    (data / "status.json").unlink()
    (data / "status.json.new").write_text("{")
    (data / "lists").mkdir()
    for name in ("a.rootfs", "b.rootfs", "b.rootfs~new", "b.rootfs~first"):
        (data / "lists" / name).write_bytes(b"damaged")


STATES = (
    at_rest,
    copies_differ,
    one_copy_lost,
    both_copies_lost,
    saved_default,
    on_trial,
    trial_without_record,
    given_up,
    rolled_back,
    cut_while_writing,
    armed,
    overtaken,
    went_back,
    lost_record,
    damaged_record,
    record_with_damaged_text,
    newer_record,
    half_a_save,
    open_record_and_leftovers,
)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> ReleaseBench:
    bench = ReleaseBench.make(tmp_path_factory.mktemp("bench"))
    bench.image("2.0", 20, CONTENT)
    return bench


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where every device stands; the root mount is not real."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(facts, "find_running_slot", lambda *_: WHERE)
        yield tmp_path_factory.mktemp("device") / "device"


@pytest.fixture(scope="module")
def bus(place: Path, bench: ReleaseBench) -> Iterator[Caller]:
    """The real service for the device there."""
    shutil.rmtree(place, ignore_errors=True)  # tests are shared out: one without the service may have come before
    place.mkdir()
    config = HostDevice(place, bench).config
    with private_bus() as address:
        fork = multiprocessing.get_context("fork")
        arguments = {"address": address, "idle": 3600.0}
        service = fork.Process(
            target=serve, args=(lambda origin: LocalUpdater(config, origin=origin),), kwargs=arguments
        )
        service.start()
        try:
            waits.until(Caller(address).owned)
            yield Caller(address)
        finally:
            service.kill()
            service.join(waits.HANG)


@pytest.fixture
def device(place: Path, bench: ReleaseBench, monkeypatch: pytest.MonkeyPatch) -> HostDevice:
    """A new device, that took one look at itself as each start does."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    device = HostDevice(place, bench)
    (place / "etc/twinslot").mkdir(parents=True)
    (place / "etc/twinslot/config.toml").write_text(CONFIG.format(directory=place, root=bench.root))
    with device.record() as record:
        payload = {"rootfs": StoredPayload(8192, 4096, "0" * 64)}
        record.save_slot(SlotRecord(SlotName.A, Release("1.0", 10), payload))
    make_device_key(DeviceKeyFiles(place / "data", ""))
    device.engine().boot()
    return device


def everything(directory: Path) -> dict[str, object]:
    """Each file and folder: kind and mode, time of the last change, content."""
    found: dict[str, object] = {}
    for path in sorted((directory, *directory.rglob("*"))):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(directory))] = (status.st_mode, status.st_mtime_ns, status.st_ino, content)
    return found


def kept(device: HostDevice) -> dict[str, object]:
    """The same without what each start touches: the lock, and times."""
    found = everything(device.directory).items()
    return {name: (each[0], each[3]) for name, each in found if name != "lock" and isinstance(each, tuple)}


def queries(device: HostDevice, bench: ReleaseBench, bus: Caller) -> dict[str, Callable[[], object]]:
    """Every query, by name."""
    image = str(bench.directory / "2.0.twin")
    asked = (
        ("status",),
        ("history",),
        ("log",),
        ("doctor",),
        ("info", image),
        ("info", "--running"),
        ("info", "--waiting"),
        ("install", "--dry-run", image),
        ("metrics",),
        ("device-key", "show"),
        ("audit", "export"),
        ("attest",),
        ("explain", "last"),
    )
    root = ("--no-service", "--json", "--config-root", str(device.directory))
    over_bus: dict[str, Callable[[], object]] = {
        "GetStatus": lambda: bus.call("GetStatus"),
        "GetHistory": lambda: bus.call("GetHistory", "u", 10),
        "GetLog": lambda: bus.call("GetLog", "tsu", 0, "", 10),
        "GetAttestation": lambda: bus.call("GetAttestation", "s", "00"),
        "GetAll": lambda: bus.call("GetAll", "s", names.UPDATE, interface=PROPERTIES),
    }
    return {" ".join(words): lambda words=words: main([*root, *words]) for words in asked} | over_bus


def said(ask: Callable[[], object]) -> str:
    """How a query failed; without a record some cannot answer, and say so."""
    try:
        ask()
    except Answered as e:
        return e.words
    return "it answered for the record"


@pytest.mark.verifies("S26")
@pytest.mark.parametrize("state", [*STATES, foreign_roots], ids=lambda state: state.__name__)
def test_a_query_leaves_every_byte_of_a_device_as_it_was(
    device: HostDevice, bench: ReleaseBench, bus: Caller, state: Callable[[HostDevice], None]
) -> None:
    state(device)
    before = everything(device.directory)
    for name, ask in queries(device, bench, bus).items():
        assert re.search("record|device key", said(ask)), name
        assert everything(device.directory) == before, f"'{name}' changed the device"
    assert device.rebooted == 0


@pytest.mark.verifies("S26")
@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__)
def test_the_next_start_does_what_the_queries_left_undone(
    device: HostDevice, state: Callable[[HostDevice], None]
) -> None:
    state(device)
    before = kept(device)
    device.engine().boot()
    assert (kept(device) != before) == (state is not at_rest), "each state but the first is one to recover from"


@pytest.mark.verifies("S26")
def test_every_verb_is_a_query_or_changes_something(device: HostDevice, bench: ReleaseBench, bus: Caller) -> None:
    (verbs,) = (each.choices for each in make_parser()._actions if isinstance(each.choices, dict))
    asked = {name.split()[0] for name in queries(device, bench, bus)}
    assert set(verbs) - {"help"} == CHANGING | (asked & set(verbs))


@pytest.mark.root
def test_a_partition_has_one_size_for_queries_and_installs(tmp_path: Path) -> None:
    image = tmp_path / "disk"
    image.write_bytes(bytes(3 << 20))
    loop = subprocess.run(["losetup", "--find", "--show", image], check=True, capture_output=True, text=True)
    path = Path(loop.stdout.strip())
    try:
        place = PartitionHandler().place(path, SlotName.B, "rootfs", WHERE)
        target = place.open_target()
        try:
            assert place.room() == target.size == 3 << 20
        finally:
            target.close()
    finally:
        subprocess.run(["losetup", "--detach", path], check=True)


def test_info_tells_of_kept_roots_that_are_not_used(
    device: HostDevice, bench: ReleaseBench, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--no-service", "--config-root", str(device.directory), "info", str(bench.directory / "2.0.twin"))
    for state, told in ((at_rest, False), (foreign_roots, True)):
        state(device)
        capsys.readouterr()
        main([*words])
        printed = capsys.readouterr()
        assert (AuditEvent.ROOTS_DROPPED.meaning in printed.out + printed.err) is told
