"""The way back, read ahead of time: what `twinslot scrub` finds, keeps and tells."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from host_device import CONFIG, HostDevice, HostUpdater
from release_bench import ReleaseBench

from twinslot.cli.host import Host
from twinslot.cli.main import main
from twinslot.core.errors import DeviceError, RefusedError
from twinslot.core.fallback import Fallback
from twinslot.core.model import SlotName
from twinslot.engine.facts import Facts, RecordFacts

pytestmark = pytest.mark.slow

CONTENT = b"superblock".ljust(4096, b"\1") + bytes(100_000)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> ReleaseBench:
    bench = ReleaseBench.make(tmp_path_factory.mktemp("bench"))
    for number in (2, 3, 4):
        bench.image(f"{number}.0", number * 10, CONTENT + bytes([number]))
    return bench


@pytest.fixture
def device(tmp_path: Path, bench: ReleaseBench) -> HostDevice:
    """Slot a runs 3.0; slot b holds 2.0, which ran before."""
    device = HostDevice(tmp_path, bench)
    (tmp_path / "etc/twinslot").mkdir(parents=True)
    (tmp_path / "etc/twinslot/config.toml").write_text(CONFIG.format(directory=tmp_path, root=bench.root))
    take(device, "2.0", SlotName.B)
    take(device, "3.0", SlotName.A)
    return device


def take(device: HostDevice, release: str, slot: SlotName) -> None:
    """Install a release, start it and keep it."""
    device.install(device.bench.directory / f"{release}.twin")
    device.running = slot
    device.boots += 1
    device.engine().boot()
    device.engine().check()
    device.engine().commit(if_trial=True)


def fallback(device: HostDevice) -> Fallback:
    """As every surface sees it."""
    with device.record() as record:
        return Facts(device.running, device.rig.boot.read(), RecordFacts.read(record)).fallback


def events(device: HostDevice) -> list[str]:
    with device.record() as record:
        return [row.event for row in reversed(record.audit_rows())]


def call(device: HostDevice, *argv: str) -> int:
    updater = HostUpdater(device, device.origin)
    host = Host(is_root=lambda: True, local=lambda _: updater)
    return main([*argv, "--config-root", str(device.directory)], host)


@pytest.mark.verifies("REQ-AUD-01")
def test_a_slot_that_ran_and_was_read_back_is_proven_and_reading_it_renews_the_date(
    device: HostDevice, capsys: pytest.CaptureFixture[str]
) -> None:
    before = fallback(device)
    assert (before.slot, before.why) == (SlotName.B, "")
    assert before.proven is not None, "the install read it back"
    age(device, read_at="2020-01-01T00:00:00Z")
    assert call(device, "scrub", "--json") == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert told[-1] == {"type": "scrub", "slot": "b", "release": "2.0", "kept": True}
    after = fallback(device)
    assert after.proven is not None
    assert after.proven.year > 2020
    assert events(device)[-1] == "slot-read"


@pytest.mark.verifies("REQ-AUD-01", "S14")
@pytest.mark.parametrize("place", ["payload", "tail"])
def test_a_flipped_bit_is_found_told_everywhere_and_forgotten_when_the_slot_is_sound_again(
    device: HostDevice, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    offset = 5000 if place == "payload" else len(CONTENT) + 70_000
    flip(device, offset)
    assert call(device, "scrub") == 6
    said = capsys.readouterr().err
    assert ("is not what was installed" if place == "payload" else "is not zero after its payload") in said
    assert fallback(device).proven is None
    assert "is not sound" in fallback(device).why
    assert events(device)[-1] == "slot-unsound"
    assert device.environment()["slot_b"] == "good", "it may still be better than none"
    flip(device, offset)
    assert call(device, "scrub") == 0
    assert fallback(device).why == ""


@pytest.mark.verifies("REQ-AUD-01")
def test_without_a_committed_release_behind_there_is_nothing_to_read(device: HostDevice) -> None:
    device.install(device.bench.directory / "4.0.twin")
    with pytest.raises(RefusedError) as refused:
        device.engine().scrub()
    assert refused.value.code == "refused.no-other-slot"
    [reason] = refused.value.reasons
    assert (reason.expected, reason.found) == ("a release with its digests", "trial")


def test_the_slot_of_the_factory_of_which_nothing_is_known_is_said_to_be_that(
    tmp_path: Path, bench: ReleaseBench
) -> None:
    fresh = HostDevice(tmp_path, bench)
    take(fresh, "2.0", SlotName.B)
    with pytest.raises(RefusedError) as refused:
        fresh.engine().scrub()
    assert refused.value.reasons[0].found == "nothing known of what it holds"


@pytest.mark.verifies("REQ-AUD-01")
def test_what_was_found_while_an_update_took_the_slot_is_not_kept(device: HostDevice) -> None:
    taken: list[str] = []

    def install_meanwhile(_: Any) -> None:
        if not taken:
            taken.append(device.install(device.bench.directory / "4.0.twin").id)

    report = device.engine().scrub(install_meanwhile)
    assert taken, "an install is not held up by a reading"
    assert not report.kept
    assert not {"slot-read", "slot-unsound"} & set(events(device))


@pytest.mark.verifies("REQ-AUD-01")
def test_each_start_of_a_kept_system_is_noted_once(device: HostDevice) -> None:
    device.boots += 1
    device.engine().boot()
    with device.record() as record:
        known = record.slot(SlotName.A)
    assert known is not None
    assert known.started_in == f"{device.boots:032x}"
    stands = (device.directory / "data/record.sqlite").read_bytes()
    device.engine().boot()
    assert (device.directory / "data/record.sqlite").read_bytes() == stands


def test_a_trial_is_no_start_of_a_kept_system(device: HostDevice) -> None:
    device.install(device.bench.directory / "4.0.twin")
    device.running = SlotName.B
    device.boots += 1
    device.engine().boot()
    with device.record() as record:
        assert record.slot(SlotName.B) is None


def test_a_place_that_is_gone_makes_the_way_back_unsound(device: HostDevice) -> None:
    device.slots[SlotName.B].rename(device.directory / "elsewhere")
    report = device.engine().scrub()
    assert isinstance(report.error, DeviceError)
    assert report.error.code == "device.slot-read"
    assert fallback(device).proven is None


def age(device: HostDevice, **fields: str) -> None:
    """Make what is known of slot b older."""
    with device.record() as record:
        known = record.slot(SlotName.B)
        assert known is not None
        record.save_slot(replace(known, **fields))  # type: ignore[arg-type]


def flip(device: HostDevice, offset: int) -> None:
    with device.slots[SlotName.B].open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))
