"""Sentences of the manual pages and guides that no other test holds, each through the command that it is about."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fakes.command_line import write_config
from twinslot.cli.main import main as twinslot
from twinslot_image.cli import main as twinslot_image

TOML = """
product = "Pump"
release = "1"
sequence = 1
compatible = ["acme,pump-3"]
trust = "keys"
expires = {expires}
[payloads.rootfs]
file = "content"
check = "none"
[attachments."release-notes.md"]
file = "notes.md"
"""


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A release team's directory with keys and an unsigned image."""
    monkeypatch.chdir(tmp_path)
    assert twinslot_image(["keys", "init", "keys", "--roles", "engineering"]) == 0
    (tmp_path / "content").write_bytes(b"pump" * 30_000)
    (tmp_path / "notes.md").write_text("louder\n")
    build("pump.twin")
    return tmp_path


def build(name: str, expires: str = "2099-01-01T00:00:00Z") -> None:
    Path("image.toml").write_text(TOML.format(expires=expires))
    assert twinslot_image(["build", "image.toml", "-o", name]) == 0


def signed(path: str) -> dict[str, Any]:
    """The signed part of a document of the key directory."""
    part: dict[str, Any] = json.loads(Path("keys", path).read_text())["signed"]
    return part


def test_the_root_is_good_for_five_years_and_the_targets_document_for_two(desk: Path) -> None:
    for path, years in (("1.root.json", 5), ("targets.json", 2)):
        left = datetime.fromisoformat(signed(path)["expires"]) - datetime.now(UTC)
        assert timedelta(days=365 * years - 2) < left < timedelta(days=365 * years + 3), path


@pytest.mark.parametrize(
    ("role", "root", "targets"),
    [("engineering", 1, 2), ("targets", 2, 2), ("root", 2, 1)],
    ids=str,
)
def test_a_rotation_renews_the_documents_that_the_manual_names(desk: Path, role: str, root: int, targets: int) -> None:
    """`root` and `targets` get a new root version; every role but `root` gets a new targets document."""
    assert twinslot_image(["keys", "rotate", "keys", role]) == 0
    roots = sorted(path.name for path in Path("keys").glob("*.root.json"))
    assert roots == [f"{number}.root.json" for number in range(1, root + 1)]
    assert signed("targets.json")["version"] == targets


def test_a_directory_that_holds_keys_is_refused(desk: Path) -> None:
    assert twinslot_image(["keys", "init", "keys"]) == 4


def test_inspect_verifies_nothing_and_verify_does(desk: Path) -> None:
    data = bytearray(Path("pump.twin").read_bytes())
    data[-1] ^= 1
    Path("pump.twin").write_bytes(data)
    assert twinslot_image(["inspect", "pump.twin"]) == 0
    [key] = Path("keys/private").glob("engineering.*.pem")
    assert twinslot_image(["sign", "pump.twin", "--role", "engineering", "--key", str(key)]) == 0
    assert twinslot_image(["verify", "pump.twin", "--root", "keys/1.root.json", "--roles", "engineering"]) == 3


def test_an_attachment_is_held_to_its_digest_and_not_to_a_signature(
    desk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert twinslot_image(["extract-attachment", "pump.twin", "release-notes.md", "-o", "out"]) == 0
    assert Path("out").read_text() == "louder\n"
    data = Path("pump.twin").read_bytes()
    Path("pump.twin").write_bytes(data.replace(b"louder\n", b"softer\n"))
    assert twinslot_image(["extract-attachment", "pump.twin", "release-notes.md"]) == 3
    assert "softer" not in capfd.readouterr().out


def test_verify_lets_expired_documents_pass_when_asked_and_names_them(
    desk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "946684800")  # 2000-01-01
    build("old.twin", "2001-01-01T00:00:00Z")
    [key] = Path("keys/private").glob("engineering.*.pem")
    assert twinslot_image(["sign", "old.twin", "--role", "engineering", "--key", str(key)]) == 0
    verify = ["verify", "old.twin", "--root", "keys/1.root.json", "--roles", "engineering"]
    assert twinslot_image(verify) == 4
    assert "expired" in capsys.readouterr().err
    assert twinslot_image([*verify, "--ignore-expiry"]) == 0
    told = capsys.readouterr()
    assert [line for line in told.out.splitlines() if "manifest" in line and "EXPIRED" in line]


def test_a_patch_and_a_block_list_survive_another_signature(desk: Path) -> None:
    """Neither is signed, and signing does not touch it: they belong to the content, not to the signatures."""
    assert twinslot_image(["blocks", "pump.twin"]) == 0
    before = Path("pump.twinblocks").read_bytes()
    [key] = Path("keys/private").glob("engineering.*.pem")
    assert twinslot_image(["sign", "pump.twin", "--role", "engineering", "--key", str(key)]) == 0
    assert twinslot_image(["blocks", "pump.twin", "-o", "again.twinblocks"]) == 0
    assert Path("again.twinblocks").read_bytes() == before


def test_a_system_that_is_neither_slot_installs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--no-service` is not for a rescue or factory system: its root is on neither slot."""
    write_config(tmp_path)
    image = tmp_path / "pump.twin"
    image.write_bytes(b"")
    argv = ["--config-root", str(tmp_path), "--no-service", "--json", "install", str(image)]
    assert twinslot(argv) == 6
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["code"] == "device.running-slot"


def test_a_build_is_whole_or_not_at_all(desk: Path) -> None:
    Path("image.toml").write_text(TOML.format(expires="2099-01-01T00:00:00Z").replace('"content"', '"nothing"'))
    assert twinslot_image(["build", "image.toml", "-o", "new.twin"]) == 3
    assert not [path for path in desk.iterdir() if "new.twin" in path.name]


def test_release_and_sequence_of_the_command_line_stand_for_the_descriptions(desk: Path) -> None:
    assert twinslot_image(["build", "image.toml", "-o", "b.twin", "--release", "7", "--sequence", "70"]) == 0
    assert b'"release":"7"' in Path("b.twin").read_bytes()
    assert b'"version":70' in Path("b.twin").read_bytes()
