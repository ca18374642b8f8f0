"""`decryption-key`: a device makes the key that opens its images, and shows for whom to encrypt."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_device_key_command import CONFIG

from device_token import DeviceToken, needs_provider
from twinslot.crypto.keys import load_private, load_public

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def call(tmp_path: Path) -> Call:
    """The command on a device whose configuration names this key."""

    def run(key: str, *argv: str, as_user: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        (tmp_path / "etc/twinslot").mkdir(parents=True, exist_ok=True)
        table = f'[decryption]\nkey = "{key}"\n' if key else ""
        (tmp_path / "etc/twinslot/config.toml").write_text(CONFIG.format(directory=tmp_path) + table)
        command = [*as_user, sys.executable, "-m", "twinslot", *argv, "--config-root", str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, env=os.environ)

    return run


def shown(said: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert "Traceback" not in said.stderr
    return dict(json.loads(said.stdout))


@pytest.mark.root
@pytest.mark.verifies("S22")
def test_a_device_makes_its_key_once_for_root_alone_and_shows_its_public_half(call: Call, tmp_path: Path) -> None:
    key = tmp_path / "keys/images.pem"
    made = shown(call(str(key), "decryption-key", "init", "--json"))
    assert (made["type"], made["kind"], made["made"]) == ("decryption-key", "x25519", True)
    assert key.stat().st_mode & 0o7777 == 0o400
    assert [path.name for path in key.parent.iterdir()] == ["images.pem"]
    before = key.read_bytes()
    public = load_private(before).public_key
    assert (made["key"], made["public"]) == (public.key_id.hex(), public.pem().decode())
    for action in ("init", "show"):
        assert shown(call(str(key), "decryption-key", action, "--json")) == made | {"made": False}
    assert key.read_bytes() == before
    said = call(str(key), "decryption-key", "show")
    assert (said.stdout, said.stderr) == (made["public"], f"x25519 {made['key']}\n")


@pytest.mark.root
def test_a_key_that_is_none_or_is_open_to_others_is_left_alone_and_said(call: Call, tmp_path: Path) -> None:
    key = tmp_path / "images.pem"
    assert call(str(key), "decryption-key", "init").returncode == 0
    key.chmod(0o444)
    assert "is not kept secret" in shown(call(str(key), "decryption-key", "init", "--json"))["message"]
    key.unlink()
    key.write_text("junk")
    key.chmod(0o400)
    error = shown(call(str(key), "decryption-key", "init", "--json"))
    assert error["code"] == "device.decryption-key"
    assert key.read_text() == "junk"


@pytest.mark.root
@pytest.mark.parametrize("action", ["show", "init"])
def test_without_a_place_for_it_and_without_root_it_is_said_what_is_missing(
    call: Call, tmp_path: Path, action: str
) -> None:
    assert "[decryption] key" in shown(call("", "decryption-key", action, "--json"))["hint"]
    missing = shown(call(str(tmp_path / "none/x.pem"), "decryption-key", "show", "--json"))
    assert missing["code"] == "device.decryption-key"
    tmp_path.chmod(0o755)
    user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    refused = call(str(tmp_path / "x.pem"), "decryption-key", action, as_user=user)
    assert refused.returncode != 0
    assert "Traceback" not in refused.stderr


@pytest.mark.root
@needs_provider
def test_the_public_half_of_a_key_in_a_token_is_shown_and_the_key_is_tried_by_doctor(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").mkdir()
    token = DeviceToken.make(tmp_path / "token", monkeypatch)
    uri = token.key("images")
    for action in ("init", "show"):
        found = shown(call(uri, "decryption-key", action, "--json"))
        assert (found["kind"], found["made"]) == ("p256", False)
        assert load_public(found["public"].encode()).key_id.hex() == found["key"]
    assert judged(call(uri, "doctor", "--json"))["severity"] == "fine"
    for other in (token.key("large", "rsa:3072"), uri.replace("images", "none")):
        assert judged(call(other, "doctor", "--json"))["severity"] == "fault"


def judged(said: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What `doctor` says of the key."""
    (one,) = [each for each in shown(said)["findings"] if each["name"] == "decryption-key"]
    return dict(one)
