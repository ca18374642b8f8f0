"""What a device says of itself, signed, and what the office makes of it."""

from __future__ import annotations

import base64
import csv
import io
import json
import multiprocessing
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bus_bench import Caller, private_bus
from host_device import CONFIG, HostDevice, HostUpdater
from release_bench import ReleaseBench
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]

import waits
from twinslot.app.service import ServiceUpdater
from twinslot.bus.server.server import serve
from twinslot.cli.host import Host
from twinslot.cli.main import main
from twinslot.config.options import load
from twinslot.core.attestation import COLUMNS, KIND, PREDICATE, STATEMENT
from twinslot.core.envelope import sign
from twinslot.core.errors import TwinslotError
from twinslot.core.model import SlotName
from twinslot.engine.facts import look
from twinslot.storage.device_key import DeviceKeyFiles
from twinslot.storage.running_slot import RunningSlot
from twinslot.trust.device_key import make_device_key, open_device_key
from twinslot_image.cli import main as image_main

pytestmark = pytest.mark.slow

CONTENT = b"superblock".ljust(4096, b"\1") + bytes(100_000)
NONCE = "6f1e22ab90"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> ReleaseBench:
    bench = ReleaseBench.make(tmp_path_factory.mktemp("bench"))
    bench.image("2.0", 20, CONTENT)
    return bench


def made(directory: Path, bench: ReleaseBench) -> HostDevice:
    """A device with a key, that took and kept 2.0."""
    device = HostDevice(directory, bench)
    (directory / "etc/twinslot").mkdir(parents=True)
    (directory / "etc/twinslot/config.toml").write_text(CONFIG.format(directory=directory, root=bench.root))
    device.config = load(directory)
    make_device_key(DeviceKeyFiles(directory / "data", ""))
    shutil.copy(directory / "data/device-key.pub", directory / "office.pem")
    device.install(bench.directory / "2.0.twin")
    device.running, device.boots = SlotName.B, 2
    device.engine().boot()
    device.engine().check()
    device.engine().commit(if_trial=True)
    return device


@pytest.fixture
def device(tmp_path: Path, bench: ReleaseBench, monkeypatch: pytest.MonkeyPatch) -> HostDevice:
    device = made(tmp_path, bench)
    where = RunningSlot(SlotName.B, frozenset(), ("said by the test",))
    monkeypatch.setattr("twinslot.queries.attest.look", lambda config: look(config, lambda *_: where))
    return device


def attested(device: HostDevice, capsys: pytest.CaptureFixture[str], *more: str) -> Path:
    """What `twinslot attest` printed, as a file."""
    updater = HostUpdater(device, device.origin)
    host = Host(is_root=lambda: True, local=lambda _: updater)
    capsys.readouterr()
    assert main(["attest", *more, "--config-root", str(device.directory)], host) == 0
    file = device.directory / "attestation.json"
    file.write_text(capsys.readouterr().out)
    return file


def verified(
    device: HostDevice, file: Path, capsys: pytest.CaptureFixture[str], *more: str
) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    status = image_main(
        ["--json", "verify-attestation", str(file), "--key", str(device.directory / "office.pem"), *more]
    )
    return status, json.loads(capsys.readouterr().out)


@pytest.mark.verifies("REQ-AUD-02")
def test_what_runs_ran_and_is_wrong_is_said_signed_and_to_the_question(
    device: HostDevice, capsys: pytest.CaptureFixture[str]
) -> None:
    file = attested(device, capsys, "--nonce", NONCE.upper())
    status, found = verified(device, file, capsys, "--nonce", NONCE)
    assert status == 0
    said = found["said"]
    assert (said["running"], said["state"], said["nonce"]) == ("b", "idle", NONCE)
    assert said["slots"]["b"]["release"]["name"] == "2.0"
    assert said["slots"]["b"]["started_at"]
    assert said["floors"]["sequence"] == 20
    assert [(each["release"], each["outcome"]) for each in said["history"]] == [("2.0", "committed")]
    assert said["fallback"]["why"], "slot a holds nothing that is known"
    assert said["audit"]["holds"]
    assert said["audit"]["anchor"]
    assert len(said["roots"]["built_in"]) == 64
    assert {each["severity"] for each in said["anomalies"]} <= {"fault", "warning", "unknown"}
    assert found["device"] == said["device"]["fingerprint"]


@pytest.mark.verifies("REQ-AUD-02")
def test_what_was_changed_is_another_devices_or_an_older_answer_is_told_apart(
    device: HostDevice, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = attested(device, capsys, "--nonce", NONCE)
    assert verified(device, file, capsys, "--nonce", "00ff")[1]["code"] == "refused.attestation-nonce"
    envelope = json.loads(file.read_text())
    payload = base64.b64decode(envelope["payload"]).replace(b'"sequence":20', b'"sequence":21')
    changed = tmp_path / "changed"
    changed.write_text(json.dumps(envelope | {"payload": base64.b64encode(payload).decode()}))
    status, answer = verified(device, changed, capsys)
    assert (status, answer["code"]) == (4, "refused.attestation-signature")
    other, _ = make_device_key(DeviceKeyFiles(tmp_path / "other", ""))
    (tmp_path / "office.pem").write_text(other.public.pem)
    assert verified(device, file, capsys)[1]["code"] == "refused.attestation-device"


@pytest.mark.verifies("REQ-AUD-02")
def test_what_the_device_signed_as_something_else_is_no_attestation(
    device: HostDevice, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    key = open_device_key(DeviceKeyFiles(device.directory / "data", ""))
    said = verified(device, attested(device, capsys), capsys)[1]["said"]
    for kind, statement in (
        ("application/vnd.twinslot.audit-end+json", {"predicateType": PREDICATE}),
        (KIND, {"_type": STATEMENT, "predicateType": "x", "predicate": {}, "subject": []}),
        (KIND, {"_type": STATEMENT, "predicateType": "x", "predicate": said, "subject": []}),
        (KIND, {}),
    ):
        file = tmp_path / "statement"
        file.write_text(json.dumps(sign(kind, statement, key.public, key.sign).as_dict()))
        status, answer = verified(device, file, capsys)
        assert (status, answer["code"]) == (3, "image.attestation")
    file = tmp_path / "junk"
    for junk, code in ((b"", "image.json"), (b"[" * 100_000, "image.json"), (b"{}", "image.attestation")):
        file.write_bytes(junk)
        assert verified(device, file, capsys)[1]["code"] == code


@pytest.mark.verifies("REQ-AUD-02")
def test_public_tools_verify_the_signature(device: HostDevice, capsys: pytest.CaptureFixture[str]) -> None:
    envelope = json.loads(attested(device, capsys).read_text())
    key = open_device_key(DeviceKeyFiles(device.directory / "data", ""))
    raw = key.public.der[-32:].hex()
    public = SSlibKey(key.public.fingerprint, "ed25519", "ed25519", {"public": raw})
    assert Envelope.from_dict(envelope).verify([public], 1)


@pytest.mark.verifies("REQ-AUD-02")
def test_an_inventory_lists_devices_and_names_what_is_none(
    device: HostDevice, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    good, bad = attested(device, capsys), tmp_path / "bad.json"
    bad.write_text("{}")
    keys = tmp_path / "keys"
    keys.mkdir()
    shutil.copy(tmp_path / "office.pem", keys / "pump-7.pem")
    capsys.readouterr()
    assert image_main(["inventory", str(good), "--key", str(keys), "--csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert tuple(row) == COLUMNS
    assert (row["release"], row["sequence"], row["running"], row["hardware"]) == ("2.0", "20", "b", "")
    assert image_main(["--json", "inventory", str(bad), str(good), "--key", str(keys)]) == 4
    listed, ended = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (listed["type"], listed["release"], ended["code"]) == ("device", "2.0", "refused.inventory")
    assert image_main(["inventory", str(good), "--key", str(keys)]) == 0
    assert "2.0" in capsys.readouterr().out


def test_a_cell_is_never_a_formula(device: HostDevice, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    key = open_device_key(DeviceKeyFiles(device.directory / "data", ""))
    statement = json.loads(base64.b64decode(json.loads(attested(device, capsys).read_text())["payload"]))
    statement["predicate"]["slots"]["b"]["release"]["name"] = "=cmd|' /C calc'!A0"
    file = tmp_path / "evil"
    file.write_text(json.dumps(sign(KIND, statement, key.public, key.sign).as_dict()))
    capsys.readouterr()
    assert image_main(["inventory", str(file), "--key", str(tmp_path / "office.pem"), "--csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert row["release"].startswith("'=")


@pytest.mark.parametrize("nonce", ["1", "xyz0", "00" * 65, ""])
def test_what_is_no_nonce_is_refused(nonce: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["attest", "--nonce", nonce]) == 2
    assert "hex digits" in capsys.readouterr().err


@pytest.mark.root
@pytest.mark.verifies("S22")
def test_the_service_has_another_process_sign(
    tmp_path: Path, bench: ReleaseBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = made(tmp_path, bench)
    opened: list[object] = []
    monkeypatch.setattr(DeviceKeyFiles, "private", opened.append)
    answer = ServiceUpdater(device.config, str(tmp_path), device.origin).attest(NONCE)
    assert opened == [], "this process has not asked for the key"
    assert json.loads(base64.b64decode(answer["payload"]))["predicate"]["nonce"] == NONCE
    (tmp_path / "data/device-key.pem").unlink()
    with pytest.raises(TwinslotError) as missing:
        ServiceUpdater(device.config, str(tmp_path), device.origin).attest("")
    assert missing.value.code == "device.device-key-missing"


@pytest.fixture
def caller(device: HostDevice) -> Iterator[Caller]:
    """The bus with a real service for the device."""
    with private_bus() as address:
        fork = multiprocessing.get_context("fork")
        updater = HostUpdater(device, device.origin)
        service = fork.Process(target=serve, args=(lambda _: updater,), kwargs={"address": address, "idle": 3600.0})
        service.start()
        try:
            waits.until(Caller(address).owned)
            yield Caller(address)
        finally:
            service.kill()
            service.join(waits.HANG)


@pytest.mark.verifies("REQ-AUD-02")
def test_over_the_bus_it_is_the_same(
    device: HostDevice, caller: Caller, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (answer,) = caller.call("GetAttestation", "s", NONCE)
    file = tmp_path / "over-bus"
    file.write_text(answer)
    assert verified(device, file, capsys, "--nonce", NONCE)[0] == 0
    with pytest.raises(Exception, match="nonce"):
        caller.call("GetAttestation", "s", "zz")


@pytest.mark.verifies("REQ-AUD-02")
def test_openssl_verifies_it_as_well(device: HostDevice, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    envelope = json.loads(attested(device, capsys).read_text())
    payload = base64.b64decode(envelope["payload"])
    kind = envelope["payloadType"].encode()
    (tmp_path / "pae").write_bytes(b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload))
    (tmp_path / "sig").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    argv = [
        "openssl",
        "pkeyutl",
        "-verify",
        "-pubin",
        "-inkey",
        "office.pem",
        "-rawin",
        "-in",
        "pae",
        "-sigfile",
        "sig",
    ]
    assert subprocess.run(argv, cwd=tmp_path, capture_output=True).returncode == 0
