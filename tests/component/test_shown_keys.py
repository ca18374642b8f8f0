"""What `device-key show` and `decryption-key show` print is a key file as it stands, for all who take one."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from host_device import CONFIG, HostDevice, HostUpdater
from release_bench import ReleaseBench

from twinslot.cli.host import Host
from twinslot.cli.main import main
from twinslot.config.options import load
from twinslot.core.model import SlotName
from twinslot.engine.facts import look
from twinslot.storage.running_slot import RunningSlot
from twinslot_image.cli import main as image_main

CONTENT = b"superblock".ljust(4096, b"\1") + bytes(100_000)
IMAGE = """
product = "Pump"
release = "1"
sequence = 1
compatible = ["acme,pump-3"]
trust = "bench/keys"
[payloads.firmware]
file = "image.toml"
check = "none"
"""
Say = Callable[..., Path]


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Say:
    """Calls the device's command and keeps its standard output, as a shell's `>` does."""
    bench = ReleaseBench.make(tmp_path / "bench")
    bench.image("2.0", 20, CONTENT)
    device = HostDevice(tmp_path, bench)
    (tmp_path / "etc/twinslot").mkdir(parents=True)
    decryption = f'[decryption]\nkey = "{tmp_path}/images.key"\n'
    text = CONFIG.format(directory=tmp_path, root=bench.root) + decryption
    (tmp_path / "etc/twinslot/config.toml").write_text(text)
    device.config = load(tmp_path)
    device.install(bench.directory / "2.0.twin")
    where = RunningSlot(SlotName.A, frozenset(), ("said by the test",))
    monkeypatch.setattr("twinslot.queries.attest.look", lambda config: look(config, lambda *_: where))
    updater = HostUpdater(device, device.origin)
    host = Host(is_root=lambda: True, local=lambda _: updater)

    def run(name: str, *argv: str) -> Path:
        capfdbinary.readouterr()
        assert main([*argv, "--config-root", str(tmp_path)], host) == 0
        (tmp_path / name).write_bytes(capfdbinary.readouterr().out)
        return tmp_path / name

    return run


def with_text(path: Path) -> None:
    """As an office keeps it: a note before the key, and the line ends of another system."""
    path.write_bytes(b"ed25519 of pump 7\n\n" + path.read_bytes() + b"delivered in May\n")
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


@pytest.mark.slow
@pytest.mark.parametrize("keep", [lambda _: None, with_text], ids=["as-printed", "with-text-around"])
def test_the_device_key_that_is_shown_is_a_key_file_for_all_who_verify(
    say: Say, tmp_path: Path, keep: Callable[[Path], None]
) -> None:
    say("made", "device-key", "init")
    key = say("pump-7.pem", "device-key", "show")
    assert key.read_bytes() == (tmp_path / "made").read_bytes() == (tmp_path / "data/device-key.pub").read_bytes()
    keep(key)
    subprocess.run(["openssl", "pkey", "-pubin", "-in", key, "-noout"], check=True)
    audit, attestation = say("audit", "audit", "export"), say("attestation", "attest")
    (tmp_path / "reports").mkdir()
    say("told", "report", "--no-service", "--output", str(tmp_path / "reports"))
    assert main(["audit", "verify", str(audit), "--key", str(key)]) == 0
    for words in (
        ("audit", "verify", str(audit)),
        ("explain", str(audit), "last"),
        ("verify-attestation", str(attestation)),
        ("inventory", str(attestation)),
    ):
        assert image_main([*words, "--key", str(key)]) == 0, words
    assert image_main(["reports", str(tmp_path / "reports"), "--keys", str(key)]) == 0


@pytest.mark.slow
def test_the_retired_device_is_verified_with_the_key_that_was_shown(say: Say, tmp_path: Path) -> None:
    say("made", "device-key", "init")
    key = say("pump-7.pem", "device-key", "show")
    say("cancelled", "cancel", "--no-service")
    receipt = say("receipt", "retire", "--yes", "--reason", "sold")
    assert image_main(["verify-attestation", str(receipt), "--key", str(key)]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("keep", [lambda _: None, with_text], ids=["as-printed", "with-text-around"])
def test_the_decryption_key_that_is_shown_is_a_recipient_as_it_stands(
    say: Say, tmp_path: Path, keep: Callable[[Path], None]
) -> None:
    say("made", "decryption-key", "init")
    key = say("pump-7.pem", "decryption-key", "show")
    keep(key)
    (tmp_path / "image.toml").write_text(IMAGE)
    image = tmp_path / "pump.twin"
    assert image_main(["build", str(tmp_path / "image.toml"), "-o", str(image)]) == 0
    assert image_main(["encrypt", str(image), "--recipient", str(key)]) == 0
    assert image_main(["recipients", "new", str(tmp_path / "spare.pem")]) == 0
    identity = ("--identity", str(tmp_path / "images.key"))
    assert image_main(["recipients", "add", str(image), str(tmp_path / "spare.pub.pem"), *identity]) == 0
    assert image_main(["recipients", "remove", str(image), str(key)]) == 0
    assert image_main(["recipients", "add", str(image), str(key), *identity]) == 4, "it was removed"
    assert image_main(["recipients", "remove", str(image), str(tmp_path / "missing.pem")]) == 6


def test_a_file_with_two_public_keys_is_neither(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "audit").write_text("")
    for name in ("one", "two"):
        key, public = str(tmp_path / f"{name}.key"), str(tmp_path / f"{name}.pem")
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True)
        subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True)
    (tmp_path / "both.pem").write_bytes((tmp_path / "one.pem").read_bytes() + (tmp_path / "two.pem").read_bytes())
    assert main(["audit", "verify", str(tmp_path / "audit"), "--key", str(tmp_path / "both.pem")]) == 6
    assert "one key in each file" in capsys.readouterr().err
