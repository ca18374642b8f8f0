"""The audit as its user meets it: exported, verified, sealed, pruned; and what is told when rows are gone (S25)."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from host_device import CONFIG, HostDevice, HostUpdater
from release_bench import ReleaseBench

from twinslot.cli.host import Host
from twinslot.cli.main import main
from twinslot.config.options import load
from twinslot.core.audit_chain import NOTHING, ChainEnd, link_of
from twinslot.core.model import SlotName
from twinslot.engine.sealing import seal
from twinslot.storage.device_key import DeviceKeyFiles
from twinslot.storage.record.record import Record
from twinslot.trust.device_key import make_device_key, open_device_key
from twinslot_image.cli import main as image_main

pytestmark = pytest.mark.slow

CONTENT = b"superblock".ljust(4096, b"\1") + bytes(100_000)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> ReleaseBench:
    bench = ReleaseBench.make(tmp_path_factory.mktemp("bench"))
    for number in (2, 3):
        bench.image(f"{number}.0", number * 10, CONTENT + bytes([number]))
    return bench


@pytest.fixture
def device(tmp_path: Path, bench: ReleaseBench) -> HostDevice:
    """A device with its key, that has taken and kept 2.0."""
    device = HostDevice(tmp_path, bench)
    (tmp_path / "etc/twinslot").mkdir(parents=True)
    (tmp_path / "etc/twinslot/config.toml").write_text(CONFIG.format(directory=tmp_path, root=bench.root))
    device.config = load(tmp_path)
    make_device_key(DeviceKeyFiles(tmp_path / "data", ""))
    shutil.copy(tmp_path / "data/device-key.pub", tmp_path / "office.pem")
    take(device, "2.0", SlotName.B)
    return device


def take(device: HostDevice, release: str, slot: SlotName) -> None:
    device.install(device.bench.directory / f"{release}.twin")
    device.running = slot
    device.boots += 1
    device.engine().boot()
    device.engine().check()
    device.engine().commit(if_trial=True)


def call(device: HostDevice, *argv: str) -> int:
    updater = HostUpdater(device, device.origin)
    return main([*argv, "--config-root", str(device.directory)], Host(is_root=lambda: True, local=lambda _: updater))


def exported(device: HostDevice) -> Path:
    file = device.directory / "pump.audit"
    assert call(device, "audit", "export", str(file)) == 0
    return file


def verdict(device: HostDevice, file: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    """What device and office say of a file; both the same."""
    said = []
    for program in (main, image_main):
        capsys.readouterr()
        words = ["--json", "audit", "verify", str(file), "--key", str(device.directory / "office.pem"), *more]
        status = program(words)
        answer = json.loads(capsys.readouterr().out)
        assert (status == 0) == (answer["type"] == "audit")
        said.append(answer)
    assert said[0] == said[1]
    found: dict[str, Any] = said[0]
    return found


def rows(device: HostDevice) -> list[Any]:
    with device.record() as record:
        return record.snapshot()[1]


def end(device: HostDevice) -> ChainEnd:
    with device.record() as record:
        return record.audit_end()


def anchor(device: HostDevice) -> ChainEnd:
    found = ChainEnd.parse(device.environment()["ts_audit"])
    assert found is not None
    return found


@pytest.mark.verifies("S25")
def test_an_export_verifies_on_device_and_in_the_office_and_changes_nothing(
    device: HostDevice, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (device.directory / "data/record.sqlite").read_bytes(), device.rig.raw()
    file = exported(device)
    assert ((device.directory / "data/record.sqlite").read_bytes(), device.rig.raw()) == before
    assert file.stat().st_mode & 0o777 == 0o600, "rows name who asked for what"
    found = verdict(device, file, capsys)
    assert (found["end"], found["anchor"]) == (end(device).text, anchor(device).text)
    assert found["breaks"] == []
    assert call(device, "audit", "export") == 0, "to standard output"
    assert capsys.readouterr().out.splitlines()[1:-1] == file.read_text().splitlines()[1:-1]
    assert main(["audit", "verify", str(file), "--key", str(device.directory / "office.pem")]) == 0
    assert "is whole and as it was written" in capsys.readouterr().out


@pytest.mark.verifies("S25")
def test_an_update_that_begins_while_the_audit_is_exported_cuts_nothing_off(
    device: HostDevice, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Record.snapshot

    def and_then_an_update(record: Record) -> Any:
        found = read(record)
        monkeypatch.undo()
        device.install(device.bench.directory / "3.0.twin")
        return found

    monkeypatch.setattr(Record, "snapshot", and_then_an_update)
    file = exported(device)
    assert ChainEnd.parse(verdict(device, file, capsys)["end"]).number < anchor(device).number  # type: ignore[union-attr]


@pytest.mark.verifies("S25")
def test_each_decision_carries_the_end_of_the_audit_in_its_one_write(device: HostDevice) -> None:
    known = {row.number: row for row in rows(device)}
    committing = anchor(device)
    assert committing.hash == known[committing.number].hash
    assert known[committing.number].event == "healthy", "the row that was durable before the commit was written"
    generation = int(device.environment()["ts_generation"])
    device.install(device.bench.directory / "3.0.twin")
    known = {row.number: row for row in rows(device)}
    assert known[anchor(device).number].event == "activate"
    assert int(device.environment()["ts_generation"]) == generation + 2, "prepare and arm, as before"


@pytest.mark.verifies("S25")
def test_a_file_that_was_changed_is_refused_by_both_tools(
    device: HostDevice, capsys: pytest.CaptureFixture[str]
) -> None:
    file = exported(device)
    lines = file.read_bytes().splitlines(keepends=True)
    forged = device.directory / "forged"
    for code, kept in (
        ("audit-cut", lines[:3] + lines[4:]),
        ("audit-cut-off", lines[:-2]),
        ("audit-reordered", [*lines[:2], lines[3], lines[2], *lines[4:]]),
        ("audit-changed", [lines[0], lines[1].replace(b"20", b"21", 1), *lines[2:]]),
    ):
        forged.write_bytes(b"".join(kept))
        assert verdict(device, forged, capsys)["code"] == f"refused.{code}"
    forged.write_bytes(b"no audit\n")
    assert verdict(device, forged, capsys)["code"] == "image.json"
    later = ChainEnd(end(device).number + 5, "0" * 64).text
    assert verdict(device, file, capsys, "--anchor", later)["code"] == "refused.audit-cut-off"


@pytest.mark.verifies("S25")
def test_a_file_or_key_that_is_missing_is_said(device: HostDevice, capsys: pytest.CaptureFixture[str]) -> None:
    file = exported(device)
    assert main(["audit", "verify", str(file), "--key", "/nowhere.pem"]) == 6
    assert main(["audit", "verify", "/nowhere", "--key", str(device.directory / "office.pem")]) == 6
    assert main(["audit", "verify", str(file)]) == 2
    assert main(["audit", "verify", str(file), "--key", str(file)]) == 6
    (device.directory / "data/device-key.pem").unlink()
    assert call(device, "audit", "export") == 6
    assert "Traceback" not in capsys.readouterr().err


def lost(device: HostDevice) -> None:
    (device.directory / "data/record.sqlite").unlink()


def cut_off(device: HostDevice) -> None:
    last = anchor(device).number
    sql(device, f"DELETE FROM audit WHERE number >= {last - 1}", "DELETE FROM sqlite_sequence WHERE name = 'audit'")


def rewritten(device: HostDevice) -> None:
    """Every row anew, so that each fits the one before it."""
    link, changed = NOTHING.hash, []
    for row in rows(device):
        body = row.body.replace("root", "toor")
        link = link_of(link, row.at, row.boot, row.event, body)
        changed.append((body, link, row.number))
    database = sqlite3.connect(device.directory / "data/record.sqlite")
    with database:
        database.executemany("UPDATE audit SET body = ?, hash = ? WHERE number = ?", changed)
    database.close()


def sql(device: HostDevice, *statements: str) -> None:
    database = sqlite3.connect(device.directory / "data/record.sqlite")
    with database:
        for statement in statements:
            database.execute(statement)
    database.close()


@pytest.mark.verifies("S25")
@pytest.mark.parametrize(
    ("harm", "kind", "code"),
    [
        (lost, "begun-anew", "refused.audit-cut-off"),
        (cut_off, "cut-off", "refused.audit-cut-off"),
        (rewritten, "rewritten", "refused.audit-rewritten"),
    ],
)
def test_rows_that_are_gone_are_told_by_the_device_once_and_by_the_office(
    device: HostDevice, capsys: pytest.CaptureFixture[str], harm: Callable[[HostDevice], None], kind: str, code: str
) -> None:
    known = anchor(device)
    harm(device)
    with device.record() as record:
        if kind != "begun-anew":
            assert record.first_broken_link() is None, "the chain alone does not tell"
    if kind != "begun-anew":
        assert verdict(device, exported(device), capsys)["code"] == code, "the end in the boot environment does"
    else:
        (device.directory / "data/record.sqlite").unlink()
    for _ in range(3):
        device.boots += 1
        device.engine().boot()
    told = [json.loads(row.body) for row in rows(device) if row.event == "audit-broken"]
    assert [(each["kind"], each["anchor"]) for each in told] == [(kind, known.text)], "once"
    take(device, "3.0", SlotName.A)
    found = verdict(device, exported(device), capsys)
    assert [each["fields"]["kind"] for each in found["breaks"]] == [kind], "and goes with every export from then on"
    assert verdict(device, exported(device), capsys, "--anchor", known.text)["breaks"], "the device has told of it"


@pytest.mark.verifies("S25")
def test_the_audit_is_sealed_when_there_is_something_new(
    device: HostDevice, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verdict(device, exported(device), capsys)["sealed"] == 0
    before = end(device).number
    assert call(device, "audit", "seal") == 0
    assert call(device, "audit", "seal") == 0, "nothing is new"
    assert "the last row is a seal already" in capsys.readouterr().out
    assert [row.event for row in rows(device)].count("sealed") == 1
    assert verdict(device, exported(device), capsys)["sealed"] == before
    rewritten(device)
    device.rig.boot.write({"ts_audit": ""})  # whoever could change the environment as well
    assert verdict(device, exported(device), capsys)["code"] == "refused.audit-rewritten"


@pytest.mark.verifies("S25")
def test_an_audit_that_grew_is_pruned_and_a_signed_checkpoint_stands_for_the_rest(
    device: HostDevice, capsys: pytest.CaptureFixture[str]
) -> None:
    known = anchor(device)
    key = open_device_key(DeviceKeyFiles(device.directory / "data", ""))
    with device.record() as record:
        for number in range(60):
            record.audit("checked", text="x" * 900, number=number)
        size = record.audit_bytes()
    assert size > 60_000
    assert seal(device.engine()._device, key, limit=100_000).pruned is None
    assert seal(device.engine()._device, key, limit=60_000, keep=20_000).pruned
    with device.record() as record:
        assert record.audit_bytes() < 23_000
        assert record.first_broken_link() is None
    assert call(device, "log") == 0
    found = verdict(device, exported(device), capsys, "--anchor", known.text)
    assert found["first"] > 40
    assert found["checkpoint"].startswith(f"{found['first'] - 1}-")
    take(device, "3.0", SlotName.A)
    assert verdict(device, exported(device), capsys)["breaks"] == [], "what was pruned is not lost"
    sql(device, "DELETE FROM meta WHERE key = 'audit.checkpoint'")
    assert verdict(device, exported(device), capsys)["code"] == "refused.audit-cut"
    assert call(device, "log") == 6


@pytest.mark.verifies("REQ-AUD-03")
def test_an_update_is_explained_by_device_and_office_and_another_image_is_not_this_one(
    device: HostDevice, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(device, "explain", "last") == 0
    told = capsys.readouterr().out
    assert "healthy          trial -> committing [commit]" in told
    assert "the table says the same of every row" in told
    file, key = exported(device), ["--key", str(device.directory / "office.pem")]
    image = device.bench.directory / "2.0.twin"
    assert image_main(["explain", str(file), "last", *key, "--image", str(image)]) == 0
    office = capsys.readouterr().out
    assert office == told + "the image is the one that was accepted\n"
    assert image_main(["inspect", "--json", str(image)]) == 0
    assert f"image  2.0 (sequence 20), manifest {json.loads(capsys.readouterr().out)['image']['manifest']}\n" in told
    other = device.bench.directory / "3.0.twin"
    assert image_main(["--json", "explain", str(file), "last", *key, "--image", str(other)]) == 4
    account, error = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (account["outcome"], error["code"]) == ("committed", "refused.replay")
    assert "sequence of the image is '30', the rows say '20'" in error["found"]
    assert call(device, "explain", "ffff") == 4


@pytest.mark.verifies("S25")
def test_without_a_key_nothing_is_sealed_and_updates_go_on(device: HostDevice) -> None:
    (device.directory / "data/device-key.pem").unlink()
    assert call(device, "audit", "seal") == 6
    take(device, "3.0", SlotName.A)
    assert device.environment()["slot_a"] == "good"


@pytest.mark.verifies("S12")
@pytest.mark.parametrize("damaged", ["", "twelve\nslot_a=good", "F" * 64, "0" * 65])
def test_a_damaged_hash_at_the_end_of_the_audit_holds_up_no_decision(device: HostDevice, damaged: str) -> None:
    """Every row that is added gets it; what the boot environment would refuse is not offered to it."""
    known = anchor(device)
    update = f"UPDATE audit SET hash = '{damaged}' WHERE number = new.number"
    sql(device, f"CREATE TRIGGER damage AFTER INSERT ON audit BEGIN {update}; END")
    take(device, "3.0", SlotName.A)
    assert device.environment()["slot_a"] == "good"
    assert anchor(device) == known, "the anchor stays"
    assert call(device, "log") == 6, "and the damage is told"


@pytest.mark.verifies("S25")
def test_a_record_of_before_has_no_seal_and_is_read(device: HostDevice, capsys: pytest.CaptureFixture[str]) -> None:
    """The sample that the first release left (S18)."""
    sample = Path(__file__).parents[1] / "data/0.1.0/record/record.sqlite"
    shutil.copy(sample, device.directory / "data/record.sqlite")
    device.rig.boot.write({"ts_audit": ""})
    found = verdict(device, exported(device), capsys)
    assert (found["sealed"], found["anchor"], found["breaks"]) == (0, None, [])
    device.engine().boot()
    assert "audit-broken" not in [row.event for row in rows(device)], "nothing was anchored"
