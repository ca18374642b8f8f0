"""What happens to a change of keys on its way: power cuts, damaged copies, documents that no device reads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from twinslot_image.cli import main

Object = dict[str, Any]
REFUSED = {3, 4, 6}  # the family says who must act; 1 would be a fault of the program


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key directory with all private keys, and a public key that was born elsewhere."""
    folder = tmp_path_factory.mktemp("made")
    assert main(["keys", "init", str(folder / "keys"), "--roles", "engineering,clinical=2/3", "--root", "2/3"]) == 0
    public = Ed25519PrivateKey.generate().public_key()
    (folder / "new.pem").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (folder / "content").write_bytes(b"firmware")
    (folder / "image.toml").write_text(
        'product = "Pump"\nrelease = "1"\nsequence = 1\ncompatible = "acme,pump-3"\ntrust = "keys"\n'
        '[payloads.firmware]\nfile = "content"\ncheck = "none"\n'
    )
    return folder


@pytest.fixture
def bench(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def signed_change(*asked: str) -> Path:
    """A change that all who are here have signed."""
    assert main(["keys", "propose", "keys", *asked, "-o", "change.json"]) == 0
    assert main(["keys", "sign", "keys", "change.json", "--yes"]) == 0
    return Path("change.json")


def edit(path: str | Path, change: Callable[[Object], None]) -> None:
    document = json.loads(Path(path).read_bytes())
    change(document)
    Path(path).write_text(json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Power cuts and damaged copies


@pytest.mark.verifies("S24")
@pytest.mark.parametrize("labels", [True, False])
def test_a_change_that_lost_power_behind_the_new_root_is_finished_by_the_same_command(
    bench: Path, labels: bool
) -> None:
    key = json.loads(Path("keys/1.root.json").read_bytes())["signed"]["roles"]["targets"]["keyids"][0]
    change = signed_change("targets", "--add", "new.pem", "--remove", key)
    shutil.copytree("keys", "whole")
    assert main(["keys", "finish", "whole", str(change)]) == 0
    shutil.copy("whole/2.root.json", "keys")  # the first of the two that is put in its place
    if labels:
        shutil.copy("whole/labels.json", "keys")
    assert main(["keys", "finish", "keys", str(change)]) == 0
    assert all(
        Path("keys", name).read_bytes() == Path("whole", name).read_bytes()
        for name in ("1.root.json", "2.root.json", "targets.json", "labels.json")
    )
    assert main(["build", "image.toml", "-o", "pump.twin"]) == 0
    assert main(["keys", "finish", "keys", str(change)]) == 4  # once


@pytest.mark.verifies("S24")
def test_a_new_root_of_another_change_beside_the_old_targets_is_not_taken_for_a_power_cut(bench: Path) -> None:
    change = signed_change("targets", "--threshold", "2", "--add", "new.pem")
    assert main(["keys", "propose", "keys", "root", "-o", "date.json"]) == 0
    assert main(["keys", "sign", "keys", "date.json", "--yes"]) == 0
    assert main(["keys", "finish", "keys", "date.json"]) == 0
    before = files(Path("keys"))
    assert main(["keys", "finish", "keys", str(change)]) == 4
    assert files(Path("keys")) == before


@pytest.mark.parametrize("order", [("good.json", "bad.json"), ("bad.json", "good.json")])
def test_a_signature_that_was_damaged_in_one_copy_counts_from_the_other(bench: Path, order: tuple[str, str]) -> None:
    change = signed_change("root")
    shutil.copy(change, "good.json")
    shutil.copy(change, "bad.json")

    def damage(document: Object) -> None:
        for entry in document["root"]["signatures"]:
            entry["sig"] = "00" * 64

    edit("bad.json", damage)
    assert main(["keys", "finish", "keys", *order]) == 0


def test_a_change_names_only_the_keys_that_join(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever signs reads names: a key that was there bears the one that this directory knows, or none."""
    leaving, staying = json.loads(Path("keys/1.root.json").read_bytes())["signed"]["roles"]["root"]["keyids"][:2]
    assert main(["keys", "propose", "keys", "root", "--add", "new.pem", "--remove", leaving, "-o", "change.json"]) == 0
    edit("change.json", lambda document: document["labels"].update({leaving: "mallory", staying: "mallory"}))
    capsys.readouterr()
    assert main(["keys", "sign", "keys", "change.json", "--yes", "--json"]) == 0
    out = capsys.readouterr().out
    assert "mallory" not in out
    assert '"label": "new"' in out
    assert main(["keys", "finish", "keys", "change.json"]) == 0
    assert list(json.loads(Path("keys/labels.json").read_bytes()).values()) == ["new"]


# Documents that no device reads


def no_key(document: Object) -> None:
    document["signed"].get("delegations", document["signed"])["keys"].clear()


def strange_id(document: Object) -> None:
    roles = document["signed"].get("delegations", document["signed"])["roles"]
    (roles["root"] if isinstance(roles, dict) else roles[0])["keyids"] = [1]


def no_roles(document: Object) -> None:
    document["signed"].pop("delegations", None)
    document["signed"].pop("roles", None)


def no_number(document: Object) -> None:
    document["signed"]["x"] = float("nan")


def another_kind(document: Object) -> None:
    document["signed"] = {"_type": "timestamp", "meta": {"snapshot.json": {"version": 1}}, "version": 1} | {
        key: document["signed"][key] for key in ("expires", "spec_version")
    }


VERBS = (
    ("keys", "list", "keys"),
    ("keys", "rotate", "keys", "root"),
    ("keys", "rotate", "keys", "clinical"),
    ("keys", "add", "keys", "targets", "new.pem"),
    ("keys", "propose", "keys", "clinical", "-o", "other.json"),
    ("keys", "sign", "keys", "change.json", "--yes"),
    ("keys", "finish", "keys", "change.json"),
)


@pytest.mark.parametrize("name", ["1.root.json", "targets.json"])
@pytest.mark.parametrize("damage", [no_key, strange_id, no_roles, no_number, another_kind])
def test_a_document_of_the_key_directory_that_no_device_reads_is_named_and_nothing_changes(
    bench: Path, capsys: pytest.CaptureFixture[str], name: str, damage: Callable[[Object], None]
) -> None:
    signed_change("root")
    edit(f"keys/{name}", damage)
    before = files(bench)
    for verb in VERBS:
        capsys.readouterr()
        assert main(list(verb)) in REFUSED, verb
        message = capsys.readouterr().err
        assert name in message, verb
        assert "expected" in message, verb
        assert "hint" in message, verb
    assert files(bench) == before


@pytest.mark.parametrize("labels", ['{"a": "\\ud800"}', "[" * 100_000, "1", '{"a": NaN', "[]"])
def test_labels_that_are_none_stop_nothing_for_good(
    bench: Path, capsys: pytest.CaptureFixture[str], labels: str
) -> None:
    Path("keys/labels.json").write_text(labels)
    assert main(["keys", "list", "keys"]) == 6
    assert "remove it" in capsys.readouterr().err
    Path("keys/labels.json").unlink()
    assert main(["keys", "list", "keys"]) == 0


@pytest.mark.parametrize("damage", [no_key, strange_id, no_roles, another_kind])
@pytest.mark.parametrize("name", ["root", "targets"])
def test_a_change_with_a_document_that_no_device_reads_is_none(
    bench: Path, name: str, damage: Callable[[Object], None]
) -> None:
    change = signed_change(name)
    edit(change, lambda document: damage(document[name]))
    before = files(bench)
    assert main(["keys", "sign", "keys", str(change), "--yes"]) in REFUSED
    assert main(["keys", "finish", "keys", str(change)]) in REFUSED
    assert files(bench) == before
