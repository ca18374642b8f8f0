"""The device's own key as its user meets it: the command, `status`, and who can reach the key."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from twinslot.storage.device_key import DeviceKeyFiles
from twinslot.trust.device_key import open_device_key, verifies
from twinslot.worker import launch

Call = Callable[..., subprocess.CompletedProcess[str]]
CONFIG = """
[device]
compatible = "acme,pump-3"
[slots]
a = {{ rootfs = "{directory}/slot_a" }}
b = {{ rootfs = "{directory}/slot_b" }}
[trust]
roles = ["engineering"]
[record]
directory = "{directory}/data"
"""


@pytest.fixture
def root() -> Iterator[Path]:
    """A directory that every user may enter, as that of a system; those of tests are for one user alone."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def data(root: Path) -> Path:
    """The data partition."""
    (root / "etc/twinslot").mkdir(parents=True)
    (root / "etc/twinslot/config.toml").write_text(CONFIG.format(directory=root))
    return root / "data"


@pytest.fixture
def call(root: Path, data: Path) -> Call:
    def run(*argv: str, as_user: tuple[str, ...] = (), **more: str) -> subprocess.CompletedProcess[str]:
        command = [*as_user, sys.executable, "-m", "twinslot", *argv, "--config-root", str(root)]
        return subprocess.run(command, capture_output=True, text=True, env=os.environ | more)

    return run


def shown(call: Call, *argv: str) -> dict[str, Any]:
    said = call(*argv, "--json")
    assert said.returncode == 0, said.stdout + said.stderr
    found: dict[str, Any] = json.loads(said.stdout)
    return found


@pytest.mark.root
def test_the_key_is_made_once_and_everybody_is_shown_its_public_part(call: Call, data: Path) -> None:
    assert shown(call, "status")["device_key"] is None
    made = shown(call, "device-key", "init")
    assert made["type"] == "device-key"
    assert made["made"] is True
    again = shown(call, "device-key", "init")
    shows = shown(call, "device-key", "show")
    assert again == shows == made | {"made": False}
    assert shown(call, "status")["device_key"] == {"algorithm": "ed25519", "fingerprint": made["fingerprint"]}
    assert f"key       ed25519 {made['fingerprint']}" in call("status").stdout
    assert made["public"] == (data / "device-key.pub").read_text()
    said = call("device-key", "show")
    assert (said.stdout, said.stderr) == (made["public"], f"ed25519 {made['fingerprint']}\n")


@pytest.mark.root
def test_making_the_key_stands_in_the_journal_with_who_asked(call: Call) -> None:
    first, again = (call("device-key", "init", JOURNAL_STREAM="8:1").stderr for _ in range(2))
    assert "<6>the device's own key was made (fingerprint " in first
    assert "by cli" in first
    assert "was made" not in again


def test_before_it_is_made_the_way_to_make_it_is_shown(call: Call) -> None:
    said = call("device-key", "show")
    assert said.returncode == 6
    assert "twinslot device-key init" in said.stderr
    assert "Traceback" not in said.stderr


@pytest.mark.root
def test_a_public_part_that_was_lost_or_damaged_comes_back_from_the_key(call: Call, data: Path) -> None:
    first = shown(call, "device-key", "init")
    for damage in (b"", b"junk"):
        (data / "device-key.pub").chmod(0o644)
        (data / "device-key.pub").write_bytes(damage)
        assert call("device-key", "show").returncode == 6
        assert shown(call, "status")["device_key"] is None, "status goes on"
        assert shown(call, "device-key", "init") == first | {"made": False}


@pytest.mark.verifies("S22")
@pytest.mark.root
@pytest.mark.parametrize("kind", ["fetch", "read", "verify"])
def test_with_a_workers_privileges_the_key_cannot_be_read_and_its_public_part_can(
    call: Call, data: Path, kind: str
) -> None:
    shown(call, "device-key", "init")
    look = "import sys\nfor name in sys.argv[1:]:\n try: print(len(open(name).read()))\n"
    look += " except OSError as e: print(e.errno)"
    files = [str(data / "device-key.pem"), str(data / "device-key.pub")]
    argv = [*launch.without_privileges(kind), "/usr/bin/python3", "-I", "-c", look, *files]
    said = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["13", str(len((data / "device-key.pub").read_text()))], "EACCES, and the public part"


@pytest.mark.root
def test_only_root_makes_the_key_and_any_user_is_shown_it(call: Call, data: Path) -> None:
    user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    refused = call("device-key", "init", as_user=user)
    assert refused.returncode == 4
    assert "only root" in refused.stderr
    made = shown(call, "device-key", "init")
    assert json.loads(call("device-key", "show", "--json", as_user=user).stdout) == made | {"made": False}
    signature = open_device_key(DeviceKeyFiles(data, "")).sign("text/plain", b"what")
    assert verifies(DeviceKeyFiles(data, "").public(), "text/plain", b"what", signature)  # type: ignore[arg-type]
