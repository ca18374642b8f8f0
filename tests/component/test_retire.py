"""A device at its end: nothing secret stays, nothing is taken any more, and what was done is signed."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from host_device import CONFIG, HostDevice, HostUpdater
from release_bench import ReleaseBench

from twinslot.cli.host import Host
from twinslot.cli.main import main
from twinslot.config.options import load
from twinslot.core import boot_variables
from twinslot.core.errors import DeviceError, RefusedError
from twinslot.core.model import SlotName
from twinslot.core.requests import InstallOptions
from twinslot.engine import retire as retire_module
from twinslot.storage.device_key import DeviceKeyFiles
from twinslot.trust.device_key import make_device_key
from twinslot_image.cli import main as image_main

pytestmark = pytest.mark.slow

CONTENT = b"superblock".ljust(4096, b"\1") + bytes(100_000)


class PowerCut(BaseException):
    """The device is off."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> ReleaseBench:
    bench = ReleaseBench.make(tmp_path_factory.mktemp("bench"))
    bench.image("2.0", 20, CONTENT)
    bench.image("3.0", 30, CONTENT)
    return bench


@pytest.fixture
def device(tmp_path: Path, bench: ReleaseBench) -> HostDevice:
    """A device with keys and data, that took and kept 2.0."""
    device = HostDevice(tmp_path, bench)
    (tmp_path / "etc/twinslot").mkdir(parents=True)
    (tmp_path / "etc/twinslot/config.toml").write_text(
        CONFIG.format(directory=tmp_path, root=bench.root)
        + f'[http]\nclient_key = "{tmp_path}/tls.pem"\n[retire]\nerase = ["{tmp_path}/patients", "{tmp_path}/log"]\n'
    )
    device.config = load(tmp_path)
    (tmp_path / "tls.pem").write_text("a key")
    (tmp_path / "patients/ward").mkdir(parents=True)
    (tmp_path / "patients/ward/one").write_text("a name")
    (tmp_path / "patients/elsewhere").symlink_to(tmp_path / "kept")
    (tmp_path / "kept").write_text("not ours")
    (tmp_path / "log").write_text("a name")
    make_device_key(DeviceKeyFiles(tmp_path / "data", ""))
    shutil.copy(tmp_path / "data/device-key.pub", tmp_path / "office.pem")
    device.install(bench.directory / "2.0.twin")
    device.running, device.boots = SlotName.B, 2
    device.engine().boot()
    device.engine().check()
    device.engine().commit(if_trial=True)
    return device


def call(device: HostDevice, *argv: str) -> int:
    updater = HostUpdater(device, device.origin)
    return main([*argv, "--config-root", str(device.directory)], Host(is_root=lambda: True, local=lambda _: updater))


def retired(device: HostDevice) -> dict[str, Any]:
    """The receipt, by the verb itself."""
    return dict(HostUpdater(device, device.origin).retire("sold"))


def assert_gone(device: HostDevice) -> None:
    left = device.directory
    assert not (left / "data/device-key.pem").exists()
    assert not (left / "tls.pem").exists()
    assert not list((left / "patients").iterdir())
    assert not (left / "log").exists()
    assert (left / "kept").read_text() == "not ours", "a link is not followed"


def events(device: HostDevice) -> list[str]:
    with device.record() as record:
        return [row.event for row in reversed(record.audit_rows(1000))]


@pytest.mark.verifies("REQ-AUD-04")
def test_a_retired_device_keeps_no_secret_takes_no_update_and_its_receipt_verifies(
    device: HostDevice, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(device, "retire", "--reason", "sold") == 2, "it must be meant"
    capsys.readouterr()
    with (device.directory / "data/device-key.pem").open("rb") as key:
        assert call(device, "retire", "--reason", "sold", "--yes") == 0
        assert set(key.read()) == {0}, "overwritten before it was removed"
    receipt = device.directory / "receipt"
    receipt.write_text(capsys.readouterr().out)
    assert_gone(device)
    words = ["--json", "verify-attestation", str(receipt), "--key", str(device.directory / "office.pem")]
    assert image_main(words) == 0
    said = json.loads(capsys.readouterr().out)["said"]
    assert (said["reason"], said["release"]["name"], len(said["destroys"])) == ("sold", "2.0", 2)
    with device.record() as record:
        assert said["audit"] == record.audit_end().text, "the row is the last one"
        assert record.last_event() == "retired"
    asked: tuple[Callable[[], object], ...] = (
        lambda: device.install(device.bench.directory / "3.0.twin", InstallOptions()),
        lambda: device.engine().activate(),
        lambda: device.engine().rollback(),
    )
    for ask in asked:
        with pytest.raises(RefusedError) as refused:
            ask()
        assert refused.value.code == "refused.retired"
    capsys.readouterr()
    assert call(device, "retire", "--reason", "again", "--yes") == 0
    assert capsys.readouterr().out == receipt.read_text(), "the same one"
    assert call(device, "device-key", "init") == 4, "it gets no other name"
    assert not (device.directory / "data/device-key.pem").exists()
    capsys.readouterr()
    assert call(device, "device-key", "show") == 0
    assert capsys.readouterr().out == (device.directory / "office.pem").read_text()
    device.boots += 1
    assert device.engine().boot().state == "idle", "what runs goes on to start"


@pytest.mark.verifies("REQ-AUD-04")
def test_without_its_data_partition_or_its_environment_it_takes_no_update_either(device: HostDevice) -> None:
    retired(device)
    saved = device.directory / "saved"
    shutil.copytree(device.directory / "data", saved)
    shutil.rmtree(device.directory / "data")
    (device.directory / "data").mkdir()
    with pytest.raises(RefusedError, match="taken out of service"):
        device.install(device.bench.directory / "3.0.twin")
    shutil.rmtree(device.directory / "data")
    saved.rename(device.directory / "data")
    for copy in (0, 1):
        device.rig.damage(copy)
    device.engine().boot()
    assert device.environment()["ts_retired"] == "1", "the record told"


STEPS: tuple[tuple[object, str], ...] = (
    (retire_module, "sign"),
    (retire_module, "write_whole"),
    (retire_module, "sync_directory"),
    (retire_module, "_destroy"),
    (retire_module, "_erase"),
    (boot_variables, "retire"),
    (os, "unlink"),
)


@pytest.mark.verifies("REQ-AUD-04")
@pytest.mark.parametrize(("module", "name"), STEPS, ids=[name for _, name in STEPS])
@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("after", [False, True])
def test_cut_at_any_step_the_next_call_goes_on_and_signs_once(
    device: HostDevice, monkeypatch: pytest.MonkeyPatch, module: object, name: str, at: int, after: bool
) -> None:
    real: Callable[..., object] = getattr(module, name)
    calls = 0

    def cut(*arguments: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        if calls == at and not after:
            raise PowerCut
        done = real(*arguments, **named)
        if calls == at:
            raise PowerCut
        return done

    with monkeypatch.context() as patch:
        patch.setattr(module, name, cut)
        with contextlib.suppress(PowerCut):
            retired(device)
    kept = device.directory / "data/retirement.json"
    before = kept.read_bytes() if kept.exists() else None
    receipt = retired(device)
    assert_gone(device)
    assert json.loads(kept.read_text()) == receipt
    assert before is None or before == kept.read_bytes()
    assert events(device).count("retired") == 1
    assert json.loads(base64.b64decode(receipt["payload"]))["predicate"]["reason"] == "sold"


@pytest.mark.verifies("REQ-AUD-04")
def test_while_an_update_waits_nothing_is_destroyed(device: HostDevice) -> None:
    device.install(device.bench.directory / "3.0.twin")
    with pytest.raises(RefusedError) as refused:
        retired(device)
    assert refused.value.code == "refused.update-open"
    assert (device.directory / "data/device-key.pem").exists()
    assert "ts_retired" not in device.environment()


@pytest.mark.verifies("REQ-AUD-04")
@pytest.mark.parametrize("left", ["{}", '{"payload": "e30="}', "[]", "{"])
def test_a_receipt_that_the_device_did_not_write_stands_for_nothing(device: HostDevice, left: str) -> None:
    device.install(device.bench.directory / "3.0.twin")
    (device.directory / "data/retirement.json").write_text(left)
    with pytest.raises(RefusedError) as refused:
        retired(device)
    assert refused.value.code == "refused.update-open"
    assert (device.directory / "data/device-key.pem").exists()
    device.engine().cancel()
    assert json.loads(base64.b64decode(retired(device)["payload"]))["predicate"]["reason"] == "sold"
    assert "ts_retired" in device.environment()
    assert events(device).count("retired") == 1


@pytest.mark.parametrize("left", ["{", "[]", "{}", "\0" * 4096, "[" * 100_000])
def test_a_receipt_that_was_damaged_is_named_with_what_to_do(
    device: HostDevice, capsys: pytest.CaptureFixture[str], left: str
) -> None:
    receipt = retired(device)
    kept = device.directory / "data/retirement.json"
    kept.write_text(left)
    assert call(device, "retire", "--yes", "--reason", "sold") == 6
    said = capsys.readouterr().err
    assert f"'{kept}' is no receipt" in said
    assert "put back a copy of it, or move it away" in said
    assert_gone(device)
    assert call(device, "doctor", "--json") != 70, "whatever it finds, it is no fault of the program"
    assert call(device, "status") == 0
    with pytest.raises(RefusedError) as refused:
        device.install(device.bench.directory / "3.0.twin")
    assert refused.value.code == "refused.retired"
    kept.write_text(json.dumps(receipt))
    assert retired(device) == receipt


def test_a_receipt_that_was_damaged_before_the_key_went_is_signed_anew(
    device: HostDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(_: Path) -> None:
        raise PowerCut

    with monkeypatch.context() as patch, contextlib.suppress(PowerCut):
        patch.setattr(retire_module, "_destroy", cut)
        retired(device)
    kept = device.directory / "data/retirement.json"
    kept.write_text("")
    with pytest.raises(DeviceError) as damaged:
        retired(device)
    assert damaged.value.code == "device.retire"
    assert (device.directory / "data/device-key.pem").exists(), "it may be the last that can sign"
    kept.unlink()
    receipt = retired(device)
    assert json.loads(kept.read_text()) == receipt
    assert_gone(device)


@pytest.mark.verifies("REQ-AUD-04")
@pytest.mark.parametrize("lost", ["", "environment", "record"])
def test_whoever_looks_at_a_retired_device_is_told(
    device: HostDevice, capsys: pytest.CaptureFixture[str], lost: str
) -> None:
    assert call(device, "status") == 0
    assert "taken out of service" not in capsys.readouterr().out
    retired(device)
    if lost == "environment":
        for copy in (0, 1):
            device.rig.damage(copy)
    if lost == "record":
        for path in (device.directory / "data").glob("*.sqlite"):
            path.unlink()
    capsys.readouterr()
    assert call(device, "status") == 0
    assert "retired   this device was taken out of service" in capsys.readouterr().out
    assert call(device, "--json", "status") == 0
    assert json.loads(capsys.readouterr().out)["retired"] is True
    call(device, "doctor")
    assert "this device was taken out of service, and its keys were destroyed" in capsys.readouterr().out


def lose_the_receipt(device: HostDevice) -> None:
    """A device that was retired, whose data partition then lost the receipt and got back what had been erased."""
    retired(device)
    (device.directory / "data/retirement.json").unlink()
    (device.directory / "tls.pem").write_text("a key")
    (device.directory / "patients/ward").mkdir()
    (device.directory / "patients/ward/one").write_text("a name")
    (device.directory / "log").write_text("a name")


@pytest.mark.verifies("REQ-AUD-04")
def test_without_receipt_and_key_what_is_left_is_erased_all_the_same_and_said(
    device: HostDevice, capsys: pytest.CaptureFixture[str]
) -> None:
    lose_the_receipt(device)
    for _ in range(2):
        capsys.readouterr()
        assert call(device, "--json", "retire", "--yes", "--reason", "sold") == 6
        said = json.loads(capsys.readouterr().out)
        assert said["code"] == "device.retire-receipt"
        assert "no key is left to sign another" in said["hint"]
        assert_gone(device)
    assert events(device).count("retired") == 1
    assert not (device.directory / "data/retirement.json").exists(), "nobody signed one"
    assert call(device, "status") == 0


LEFT_STEPS: tuple[tuple[object, str], ...] = tuple(
    step for step in STEPS if step[1] in ("sync_directory", "_destroy", "_erase", "unlink")
)


@pytest.mark.verifies("REQ-AUD-04")
@pytest.mark.parametrize(("module", "name"), LEFT_STEPS, ids=[name for _, name in LEFT_STEPS])
@pytest.mark.parametrize("after", [False, True])
def test_without_a_receipt_cut_at_any_step_the_next_call_erases_the_rest(
    device: HostDevice, monkeypatch: pytest.MonkeyPatch, module: object, name: str, after: bool
) -> None:
    lose_the_receipt(device)
    real: Callable[..., object] = getattr(module, name)

    def cut(*arguments: object, **named: object) -> object:
        if after:
            real(*arguments, **named)
        raise PowerCut

    with monkeypatch.context() as patch:
        patch.setattr(module, name, cut)
        with pytest.raises(PowerCut):
            retired(device)
    with pytest.raises(DeviceError, match="the receipt of it is lost"):
        retired(device)
    assert_gone(device)


@pytest.mark.verifies("REQ-AUD-04")
def test_what_cannot_be_erased_keeps_nothing_else_from_it_and_all_of_it_is_named(
    device: HostDevice, capsys: pytest.CaptureFixture[str]
) -> None:
    """As keys on a root file system that is mounted read-only; here directories stand in their places."""
    with (device.directory / "etc/twinslot/config.toml").open("a") as file:
        file.write(f'[decryption]\nkey = "{device.directory}/images.pem"\n')
    device.config = load(device.directory)
    stay = (device.directory / "tls.pem", device.directory / "images.pem")
    stay[0].unlink()
    for path in stay:
        path.mkdir()
    assert call(device, "retire", "--yes", "--reason", "sold") == 6
    said = capsys.readouterr().err
    assert all(f"'{path}'" in said for path in stay)
    for path in stay:
        path.rmdir()
    assert_gone(device)
    assert call(device, "retire", "--yes", "--reason", "sold") == 0
    assert json.loads(capsys.readouterr().out) == json.loads((device.directory / "data/retirement.json").read_text())


@pytest.mark.parametrize("key", [b"\0" * 119, b"-----BEGIN PRIVATE KEY-----"], ids=["overwritten", "damaged"])
def test_a_key_that_cannot_sign_holds_up_no_erasing_and_is_left_to_be_looked_at(device: HostDevice, key: bytes) -> None:
    lose_the_receipt(device)
    own = device.directory / "data/device-key.pem"
    own.write_bytes(key)
    own.chmod(0o400)
    with pytest.raises(DeviceError) as damaged:
        retired(device)
    assert damaged.value.code == "device.device-key"
    own.rename(device.directory / "looked-at.pem")
    assert_gone(device)


def test_without_a_key_to_sign_with_nothing_is_begun(device: HostDevice) -> None:
    (device.directory / "data/device-key.pem").unlink()
    with pytest.raises(DeviceError):
        retired(device)
    assert (device.directory / "tls.pem").exists()
    assert "retired" not in events(device)


@pytest.mark.parametrize("path", ["/", "/var", "data", "../x", "{directory}/data", "{directory}", "{directory}/data/x"])
def test_what_would_take_the_record_or_the_system_with_it_is_no_configuration(device: HostDevice, path: str) -> None:
    file = device.directory / "etc/twinslot/config.toml"
    text = file.read_text()
    erase = path.format(directory=device.directory)
    file.write_text(text[: text.index("[retire]")] + f'[retire]\nerase = ["{erase}"]\n')
    with pytest.raises(DeviceError) as wrong:
        load(device.directory)
    assert wrong.value.code == "device.config-value"
