"""Encrypted images for keys that stay in a token, and keys that want their PIN for each signature."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from release_bench import ReleaseBench

from device_token import PIN, DeviceToken
from twinslot_image.cli import main
from twinslot_image.encryption import read_envelope

pytestmark = pytest.mark.slow

pytest.importorskip("pkcs11", reason="the library is an extra of the image tool, and not in Debian's packages")
CONTENT = b"superblock".ljust(4096, b"\1") + bytes(100_000) + b"text\n" * 30_000


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DeviceToken:
    (tmp_path / "token").mkdir()
    monkeypatch.setenv("TWINSLOT_KEY_PIN", PIN)
    return DeviceToken.make(tmp_path / "token", monkeypatch)


@pytest.fixture
def bench(tmp_path: Path) -> ReleaseBench:
    return ReleaseBench.make(tmp_path / "team")


def said(capsys: pytest.CaptureFixture[str], *words: str, status: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*words, "--json"]) == status
    shown = capsys.readouterr()
    assert PIN not in shown.out + shown.err
    return dict(json.loads(shown.out))


def manifest_of(image: Path) -> bytes:
    with image.open("rb") as file:
        return read_envelope(file)[0].manifest


def test_an_image_is_encrypted_for_a_key_in_a_token_and_opens_with_it_alone(
    token: DeviceToken, bench: ReleaseBench, capsys: pytest.CaptureFixture[str]
) -> None:
    uri, image = token.key("fleet"), bench.image("2.0", 20, CONTENT, roles=())
    assert main(["encrypt", str(image), "--recipient", uri]) == 0
    bench.sign(image)
    verify = ("verify", str(image), "--root", str(bench.root), "--roles", "engineering,clinical")
    assert said(capsys, *verify, "--identity", uri)["type"] != "error"
    for identity in (token.key("other"), str(bench.recipient("stranger"))):
        assert said(capsys, *verify, "--identity", identity, status=4)["code"] == "refused.recipient"


def test_an_image_is_built_for_a_token_and_others_are_let_in_by_who_has_that_token(
    token: DeviceToken, bench: ReleaseBench, capsys: pytest.CaptureFixture[str]
) -> None:
    uri, device = token.key("fleet"), bench.recipient("device")
    image = bench.image("2.0", 20, CONTENT, recipients=(uri,))
    signed, [first] = manifest_of(image), said(capsys, "recipients", "list", str(image))["recipients"]
    public = str(device.with_suffix(".pub.pem"))
    listed = said(capsys, "recipients", "add", str(image), public, token.key("spare"), "--identity", uri)
    assert sorted(each["kind"] for each in listed["recipients"]) == ["p256", "p256", "x25519"]
    verify = ("verify", str(image), "--root", str(bench.root), "--roles", "engineering,clinical")
    for identity in (uri, str(device), token.uri("spare")):
        assert main([*verify, "--identity", identity]) == 0
    left = said(capsys, "recipients", "remove", str(image), first["key"][:16])
    assert sorted(each["kind"] for each in left["recipients"]) == ["p256", "x25519"]
    assert said(capsys, *verify, "--identity", uri, status=4)["code"] == "refused.recipient"
    assert main([*verify, "--identity", str(device)]) == 0
    assert manifest_of(image) == signed, "nobody signed anew"


@pytest.mark.parametrize("kind", ["EC:secp384r1", "EC:edwards25519", "rsa:3072"])
def test_a_key_of_another_kind_in_a_token_is_no_recipient(
    token: DeviceToken, bench: ReleaseBench, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    uri, image = token.key("fleet", kind), bench.image("2.0", 20, CONTENT, roles=())
    error = said(capsys, "encrypt", str(image), "--recipient", uri, status=3)
    assert error["code"] == "image.recipient-key"
    assert error["expected"] == "a key on P-256"


def test_a_key_that_may_only_sign_opens_nothing_and_what_it_may_do_is_named(
    token: DeviceToken, bench: ReleaseBench, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = token.key("signs", "EC:prime256v1", "--usage-sign")
    image = bench.image("2.0", 20, CONTENT, recipients=(uri,))
    verify = ("verify", str(image), "--root", str(bench.root), "--roles", "engineering,clinical")
    error = said(capsys, *verify, "--identity", uri, status=6)
    assert error["code"] == "device.pkcs11-key"
    assert "CKA_DERIVE" in error["hint"]


def test_the_public_half_of_a_token_is_read_without_its_pin(
    token: DeviceToken, bench: ReleaseBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, image = token.key("fleet"), bench.image("2.0", 20, CONTENT, roles=())
    monkeypatch.setenv("TWINSLOT_KEY_PIN", "000000")
    assert main(["encrypt", str(image), "--recipient", uri.partition("&pin-source")[0]]) == 0


@pytest.mark.parametrize("kind", ["EC:prime256v1", "EC:edwards25519", "rsa:3072"])
def test_a_key_that_wants_its_pin_for_each_signature_gets_it(
    token: DeviceToken, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the signature slot of a PIV card does: CKA_ALWAYS_AUTHENTICATE."""
    uri = token.key("clinical", kind, "--always-auth")
    assert "always" in token.tool("--list-objects", "--type", "privkey", "--label", "clinical").lower()
    keys = tmp_path / "team/keys"
    assert main(["keys", "init", str(keys), "--roles", "engineering,clinical", "--public", f"clinical={uri}"]) == 0
    team = ReleaseBench(tmp_path / "team")
    image = team.image("2.0", 20, CONTENT, roles=("engineering",))
    assert main(["sign", str(image), "--role", "clinical", "--key", uri]) == 0
    assert main(["verify", str(image), "--root", str(team.root), "--roles", "engineering,clinical"]) == 0
