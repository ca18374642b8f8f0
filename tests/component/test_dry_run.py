"""`install --dry-run` and `install` give the same judgement, whatever options stand beside it."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from host_device import CONFIG, HostDevice
from release_bench import ReleaseBench

from twinslot.cli.main import main
from twinslot.cli.parser import make_parser
from twinslot.core.model import Release, SlotName, SlotRecord, StoredPayload
from twinslot.engine import assemble, facts
from twinslot.storage.running_slot import RunningSlot

pytestmark = pytest.mark.slow

CONTENT = b"superblock".ljust(4096, b"\1") + bytes(100_000)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> ReleaseBench:
    bench = ReleaseBench.make(tmp_path_factory.mktemp("bench"))
    bench.image("2.0", 20, CONTENT)
    os.environ["SOURCE_DATE_EPOCH"] = "1750000000"
    bench.image("3.0", 30, CONTENT, expires=datetime(2026, 1, 1, tzinfo=UTC))
    del os.environ["SOURCE_DATE_EPOCH"]
    return bench


@pytest.fixture
def device(tmp_path: Path, bench: ReleaseBench, monkeypatch: pytest.MonkeyPatch) -> HostDevice:
    (tmp_path / "etc/twinslot").mkdir(parents=True)
    (tmp_path / "etc/twinslot/config.toml").write_text(CONFIG.format(directory=tmp_path, root=bench.root))
    device = HostDevice(tmp_path, bench)
    device.record().close()
    where = RunningSlot(SlotName.A, frozenset(), ("said by the test",))
    monkeypatch.setattr(assemble, "open_device", lambda *_: device.edges())
    monkeypatch.setattr(facts, "find_running_slot", lambda *_: where)
    return device


def nothing(_: HostDevice) -> str:
    return "2.0"


def rolled_back(device: HostDevice) -> str:
    with device.record() as record:
        record.add_failed(20, "unhealthy", "1" * 32)
    return "2.0"


def runs_already(device: HostDevice) -> str:
    with device.record() as record:
        payloads = {"rootfs": StoredPayload(len(CONTENT), 65536, hashlib.sha256(CONTENT).hexdigest())}
        record.save_slot(SlotRecord(SlotName.A, Release("2.0", 20), payloads))
    return "2.0"


def expired(_: HostDevice) -> str:
    return "3.0"


# Each option of `install`, the situation in which it decides, and the code of the refusal without it.
SITUATIONS: dict[str, tuple[Callable[[HostDevice], str], str | None]] = {
    "--no-activate": (nothing, None),
    "--reboot": (nothing, None),
    "--no-reboot": (nothing, None),
    "--retry": (rolled_back, "refused.failed-before"),
    "--reinstall": (runs_already, "refused.already-installed"),
    "--ignore-expiry": (expired, "refused.expired"),
    "--outside-window": (nothing, None),  # what it opens: tests/simulation/test_gates.py
}


def judged(device: HostDevice, capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str | None]:
    """Exit status, and the code of the error."""
    capsys.readouterr()
    root = str(device.directory)
    status = main(["--no-service", "--json", "--config-root", root, "install", *argv])
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    return status, last.get("code")


@pytest.mark.verifies("REQ-CLI-05")
@pytest.mark.parametrize("option", SITUATIONS)
def test_a_dry_run_judges_as_the_install_with_and_without_each_option(
    device: HostDevice, bench: ReleaseBench, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    provoke, code = SITUATIONS[option]
    image = str(bench.directory / f"{provoke(device)}.twin")
    for given in ([], [option]):
        dry = judged(device, capsys, "--dry-run", *given, image)
        assert dry == ((0, None) if given or code is None else (4, code))
        assert device.environment()["slot"] == "a", "nothing was changed"
        assert judged(device, capsys, *given, image) == dry
        if code is None:
            assert main(["--no-service", "--config-root", str(device.directory), "cancel"]) == 0


def test_every_option_of_install_has_a_situation() -> None:
    (verbs,) = [each for each in make_parser()._actions if isinstance(each, argparse._SubParsersAction)]
    options = {word for action in verbs.choices["install"]._actions for word in action.option_strings}
    everywhere = {word for action in make_parser()._actions for word in action.option_strings}
    assert options - everywhere - {"--dry-run"} == SITUATIONS.keys()


def test_on_trial_both_say_that_the_other_slot_is_needed(
    device: HostDevice, bench: ReleaseBench, capsys: pytest.CaptureFixture[str]
) -> None:
    device.rig.boot.write({"slot": "a", "slot_a": "trial", "slot_b": "good", "upgrade_available": "1"})
    image = str(bench.directory / "2.0.twin")
    assert judged(device, capsys, "--dry-run", image) == judged(device, capsys, image) == (4, "refused.on-trial")
