"""The device's own key in a token: the device shows its public part and signs with it, and never has it."""

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

from device_token import PROVIDER, DeviceToken, needs_provider
from twinslot.core.device_key import PublicPart
from twinslot.storage.device_key import DeviceKeyFiles
from twinslot.trust.device_key import open_device_key, verifies

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DeviceToken:
    (tmp_path / "token").mkdir()
    return DeviceToken.make(tmp_path / "token", monkeypatch)


@pytest.fixture
def call(tmp_path: Path) -> Call:
    """The command on a device whose configuration names this key."""

    def run(uri: str, *argv: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "etc/twinslot").mkdir(parents=True, exist_ok=True)
        text = CONFIG.format(directory=tmp_path).replace("[device]", f'[device]\nkey = "{uri}"')
        (tmp_path / "etc/twinslot/config.toml").write_text(text)
        command = [sys.executable, "-m", "twinslot", *argv, "--config-root", str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, env=os.environ)

    return run


def finding(said: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What `doctor` says of the key."""
    found = [json.loads(line) for line in said.stdout.splitlines()]
    (one,) = [each for every in found for each in every.get("findings", [every]) if each.get("name") == "device-key"]
    return dict(one)


@needs_provider
@pytest.mark.root
@pytest.mark.verifies("S22")
@pytest.mark.parametrize(("kind", "algorithm"), [("EC:prime256v1", "ecdsa-p256"), ("EC:edwards25519", "ed25519")])
def test_a_device_signs_with_a_key_in_a_token_and_its_directory_has_the_public_part_alone(
    token: DeviceToken, call: Call, tmp_path: Path, kind: str, algorithm: str
) -> None:
    uri, data = token.key("me", kind), tmp_path / "data"
    made = call(uri, "device-key", "init", "--json")
    assert made.returncode == 0, made.stderr
    shown = json.loads(made.stdout)
    public = PublicPart.from_der(token.public("me"))
    assert (shown["public"], shown["algorithm"], shown["made"]) == (public.pem, algorithm, False)
    assert [path.name for path in data.iterdir() if "key" in path.name] == ["device-key.pub"]
    signature = open_device_key(DeviceKeyFiles(data, uri)).sign("text/plain", b"what")
    assert verifies(public, "text/plain", b"what", signature)
    assert not verifies(public, "text/other", b"what", signature)
    assert finding(call(uri, "doctor", "--json"))["severity"] == "fine"


@needs_provider
@pytest.mark.root
def test_another_key_in_the_token_and_a_token_that_is_gone_are_found_by_doctor(token: DeviceToken, call: Call) -> None:
    uri = token.key("me")
    assert call(uri, "device-key", "init").returncode == 0
    other = finding(call(token.key("other"), "doctor", "--json"))
    assert other["severity"] == "fault"
    assert "is the public part of another key" in other["text"]
    gone = finding(call(uri.replace("token=device", "token=lost"), "doctor", "--json"))
    assert gone["severity"] == "fault"
    assert "no such token or key" in gone["text"]


@needs_provider
@pytest.mark.root
def test_a_module_that_is_none_and_a_key_that_no_device_has_are_told_apart(token: DeviceToken, call: Call) -> None:
    uri = token.key("large", "rsa:3072")
    said = call(uri, "device-key", "init", "--json")
    assert json.loads(said.stdout)["code"] == "device.device-key"
    said = call(uri.replace("libsofthsm2", "libnone"), "device-key", "init", "--json")
    assert json.loads(said.stdout)["code"] == "device.pkcs11-module"


@pytest.mark.root
@pytest.mark.skipif(PROVIDER, reason="the provider is installed here")
def test_without_openssls_provider_the_packages_that_are_missing_are_named(token: DeviceToken, call: Call) -> None:
    said = call(token.uri("me"), "device-key", "init", "--json")
    error = json.loads(said.stdout)
    assert error["code"] == "device.pkcs11-provider"
    assert "'pkcs11-provider'" in error["hint"]


@pytest.mark.parametrize("uri", ["/var/lib/key.pem", "pkcs11:object=me", "pkcs11:object=me?pin-value=1234"])
def test_a_configuration_that_names_no_key_in_a_token_is_refused_with_the_name_of_the_option(
    call: Call, uri: str
) -> None:
    said = call(uri, "device-key", "show", "--json")
    error = json.loads(said.stdout)
    assert error["code"] == "device.config-value"
    assert "'device.key' is wrong" in error["message"]
    assert "1234" not in said.stdout
