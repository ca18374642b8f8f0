"""A change of keys that travels as a file: proposed in one directory, signed in others, finished in all."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from twinslot.core.canonical import encode
from twinslot.image.wire import TrustDocuments
from twinslot.trust.verify import check_documents
from twinslot_image.cli import main

Object = dict[str, Any]
ROLES = ["--roles", "engineering,clinical=2/3", "--root", "2/3"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root and targets 2 of 3, engineering 1 of 1, clinical 2 of 3."""
    folder = tmp_path_factory.mktemp("made")
    assert main(["keys", "init", str(folder / "keys"), *ROLES]) == 0
    return folder / "keys"


@pytest.fixture
def keys(made: Path, tmp_path: Path) -> Path:
    """Public parts only; the private keys are in `secrets`."""
    shutil.copytree(made, tmp_path / "keys")
    (tmp_path / "keys/private").rename(tmp_path / "secrets")
    return tmp_path / "keys"


def secret(keys: Path, role: str, index: int) -> str:
    return str(sorted((keys.parent / "secrets").glob(f"{role}.*.pem"))[index])


def all_of(keys: Path, role: str) -> list[str]:
    return [secret(keys, role, index) for index in range(3)]


def newcomer(folder: Path, name: str) -> tuple[str, str]:
    """A key that was born elsewhere: its private half, its public one."""
    key = Ed25519PrivateKey.generate()
    (folder / f"{name}.secret").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{name}.pem").write_bytes(public)
    return str(folder / f"{name}.secret"), str(folder / f"{name}.pem")


def propose(keys: Path, *arguments: str, to: str = "change.json") -> Path:
    path = keys.parent / to
    assert main(["keys", "propose", str(keys), *arguments, "-o", str(path)]) == 0
    return path


def sign(keys: Path, change: Path, *secrets: str) -> int:
    for each in secrets:
        if status := main(["keys", "sign", str(keys), str(change), "--yes", "--key", each]):
            return status
    return 0


def finish(keys: Path, *changes: Path) -> int:
    return main(["keys", "finish", str(keys), *map(str, changes)])


def files(keys: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in keys.iterdir() if path.is_file()}


def role(keys: Path, name: str, capsys: pytest.CaptureFixture[str]) -> Object:
    capsys.readouterr()
    assert main(["keys", "list", str(keys), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    return next(each for each in told["roles"] if each["role"] == name)


@pytest.mark.verifies("REQ-KEY-02")
def test_a_directory_without_private_keys_changes_a_role_with_exactly_the_threshold(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, public = newcomer(keys.parent, "eve")
    change = propose(keys, "clinical", "--add", public, "--threshold", "2")
    said = capsys.readouterr().out
    assert "role 'clinical': 2 of 3 must sign; afterwards 2 of 4\n  joins: " in said
    assert "(eve), ed25519" in said
    assert sign(keys, change, secret(keys, "targets", 0), secret(keys, "targets", 2)) == 0
    assert finish(keys, change) == 0
    clinical = role(keys, "clinical", capsys)
    assert (clinical["threshold"], len(clinical["keys"]), clinical["keys"][-1]["label"]) == (2, 4, "eve")


def test_with_a_signature_missing_nothing_changes_and_whoever_could_give_it_is_named(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(keys)
    change = propose(keys, "root")
    assert sign(keys, change, secret(keys, "root", 0)) == 0
    assert finish(keys, change) == 4
    error = capsys.readouterr().err
    assert "expected '2 signatures', found '1'" in error
    assert Path(secret(keys, "root", 1)).name.split(".")[1] in error
    assert Path(secret(keys, "root", 0)).name.split(".")[1] not in error
    assert files(keys) == before


def test_all_keys_of_targets_are_lost_and_root_names_others(keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, kept = (keys / "1.root.json").read_bytes(), (keys / "targets.json").read_bytes()
    old = [key["id"] for key in role(keys, "targets", capsys)["keys"]]
    new = [newcomer(keys.parent, f"new-{index}") for index in range(3)]
    arguments = [word for _, public in new for word in ("--add", public)]
    change = propose(keys, "targets", *arguments, *(word for key in old for word in ("--remove", key)))
    assert sign(keys, change, secret(keys, "root", 1), secret(keys, "root", 2)) == 0
    assert finish(keys, change) == 4, "the new keys of targets have not signed their document"
    assert sign(keys, change, new[0][0], new[2][0]) == 0
    assert finish(keys, change) == 0
    now = TrustDocuments(((keys / "2.root.json").read_bytes(),), (keys / "targets.json").read_bytes())
    check_documents(first, now, kept)


def test_thresholds_rise_from_the_root_downwards_and_a_device_follows(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, kept = (keys / "1.root.json").read_bytes(), (keys / "targets.json").read_bytes()
    assert main(["keys", "propose", str(keys), "clinical", "--threshold", "3", "-o", str(keys / "no.json")]) == 4
    assert "role 'targets' would outrank role 'clinical'" in capsys.readouterr().err
    for name, signers in (("root", ("root",)), ("targets", ("root", "targets")), ("clinical", ("targets",))):
        change = propose(keys, name, "--threshold", "3", to=f"{name}.json")
        everybody = [secret(keys, each, index) for each in signers for index in range(3)]
        assert sign(keys, change, *everybody) == 0
        assert finish(keys, change) == 0
    roots = tuple((keys / f"{version}.root.json").read_bytes() for version in (2, 3))
    check_documents(first, TrustDocuments(roots, (keys / "targets.json").read_bytes()), kept)


def test_a_lower_threshold_takes_as_many_as_the_one_that_it_replaces(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("root", "targets", "clinical"):
        change = propose(keys, name, "--threshold", "3", to=f"up-{name}.json")
        everybody = [secret(keys, each, index) for each in ("root", "targets") for index in range(3)]
        assert all(sign(keys, change, each) in (0, 4) for each in everybody)
        assert finish(keys, change) == 0
    change = propose(keys, "clinical", "--threshold", "2")
    assert sign(keys, change, secret(keys, "targets", 0), secret(keys, "targets", 1)) == 0
    capsys.readouterr()
    assert finish(keys, change) == 4
    assert "expected '3 signatures', found '2'" in capsys.readouterr().err


def test_those_who_sign_one_file_at_once_all_have_signed(keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change = propose(keys, "root")
    done: list[int] = []
    people = [
        threading.Thread(target=lambda index=index: done.append(sign(keys, change, secret(keys, "root", index))))
        for index in range(3)
    ]
    for each in people:
        each.start()
    for each in people:
        each.join()
    assert done == [0, 0, 0]
    assert len(json.loads(change.read_bytes())["root"]["signatures"]) == 3


@pytest.mark.verifies("REQ-KEY-02")
def test_without_a_yes_nothing_is_signed_and_what_would_change_is_shown(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change = propose(keys, "clinical", "--threshold", "1")
    before = change.read_bytes()
    capsys.readouterr()
    assert main(["keys", "sign", str(keys), str(change), "--key", secret(keys, "targets", 0)]) == 4
    shown = capsys.readouterr()
    assert "role 'clinical': 2 of 3 must sign; afterwards 1 of 3\nnew: targets version 2, until " in shown.out
    assert "nothing was signed" in shown.err
    assert change.read_bytes() == before
    words = [sys.executable, "-m", "twinslot_image", "keys", "sign", str(keys), str(change)]
    closed = subprocess.run(["sh", "-c", '"$@" <&-', "sh", *words], capture_output=True, text=True, check=False)
    assert (closed.returncode, change.read_bytes()) == (4, before), "nobody is there to be asked"


class Person:
    """At a terminal; does something before saying yes."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        self._meanwhile = meanwhile

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        self._meanwhile()
        return "yes\n"


def test_what_is_signed_is_what_was_shown(
    keys: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change = propose(keys, "clinical", "--threshold", "1")
    other = propose(keys, "engineering", to="other.json")
    command = ["keys", "sign", str(keys), str(change), "--key", secret(keys, "targets", 0)]
    monkeypatch.setattr("sys.stdin", Person(lambda: sign(keys, change, secret(keys, "targets", 1))))
    assert main(command) == 0
    assert len(json.loads(change.read_bytes())["targets"]["signatures"]) == 2, "others may sign meanwhile"
    monkeypatch.setattr("sys.stdin", Person(lambda: shutil.copy(other, change)))
    assert main(command) == 4
    assert "different changes of keys" in capsys.readouterr().err
    assert change.read_bytes() == other.read_bytes()


def test_programs_read_what_changes_and_what_is_missing(keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, public = newcomer(keys.parent, "eve")
    change = propose(keys, "engineering", "--add", public)
    capsys.readouterr()
    key = secret(keys, "targets", 0)
    assert main(["keys", "sign", str(keys), str(change), "--yes", "--key", key, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    (role_change,) = told["changes"]
    assert (role_change["role"], role_change["before"], role_change["after"]) == ("engineering", [1, 1], [1, 2])
    assert [(joins["label"], joins["scheme"]) for joins in role_change["joins"]] == [("eve", "ed25519")]
    (row,) = told["signatures"]
    assert (row["document"], row["needed"], row["given"], len(row["open"])) == ("targets", 2, 1, 2)
    assert (told["complete"], told["command"], len(told["signed"])) == (False, "keys sign", 1)


# Roles that come and go


def test_a_role_comes_and_goes_by_those_who_sign_for_targets_and_each_reads_it_in_plain_words(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, kept = (keys / "1.root.json").read_bytes(), (keys / "targets.json").read_bytes()
    publics = [word for name in ("ann", "ben", "cem") for word in ("--add", newcomer(keys.parent, name)[1])]
    change = propose(keys, "security", "--add-role", "2/3", *publics)
    words = "role 'security' is new: 2 of 3 must sign, on devices whose policy demands it\n  joins: "
    assert words in capsys.readouterr().out
    assert sign(keys, change, secret(keys, "targets", 0)) == 0
    assert words in capsys.readouterr().out, "whoever signs reads it"
    assert finish(keys, change) == 4
    assert sign(keys, change, secret(keys, "targets", 1)) == 0
    assert finish(keys, change) == 0
    security = role(keys, "security", capsys)
    assert (security["threshold"], sorted(key["label"] for key in security["keys"])) == (2, ["ann", "ben", "cem"])
    check_documents(first, TrustDocuments((), (keys / "targets.json").read_bytes()), kept)
    change.unlink()
    change = propose(keys, "security", "--remove-role")
    assert "role 'security' goes: devices whose policy demands it take no image" in capsys.readouterr().out
    assert sign(keys, change, secret(keys, "targets", 1), secret(keys, "targets", 2)) == 0
    assert finish(keys, change) == 0
    left = json.loads((keys / "targets.json").read_bytes())["signed"]["delegations"]["roles"]
    assert {each["name"] for each in left} == {"engineering", "clinical"}


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (["clinical", "--add-role", "1/1", "--add", "NEW"], 4, "there is a role 'clinical' already"),
        (["root", "--add-role", "1/1", "--add", "NEW"], 4, "cannot be the name of a role"),
        (["../x", "--add-role", "1/1", "--add", "NEW"], 4, "cannot be the name of a role"),
        (["security", "--add-role", "1/2", "--add", "NEW"], 2, "a new role needs its keys"),
        (["security", "--add-role", "3/3", "--add", "NEW", "--add", "B", "--add", "C"], 4, "would outrank"),
        (["security", "--add-role", "1/2", "--add", "NEW", "--add", "NEW"], 4, "one key is given twice"),
        (["security", "--add-role", "x"], 4, "how many keys of how many must sign"),
        (["targets", "--remove-role"], 4, "role 'targets' cannot go"),
        (["security", "--remove-role"], 4, "there is no role 'security'"),
        (["clinical", "--remove-role", "--threshold", "1"], 2, "a role that goes is not changed"),
    ],
)
def test_a_role_that_cannot_come_or_go_is_refused(
    keys: Path, capsys: pytest.CaptureFixture[str], words: list[str], status: int, code: str
) -> None:
    names = {
        "NEW": newcomer(keys.parent, "a")[1],
        "B": newcomer(keys.parent, "b")[1],
        "C": newcomer(keys.parent, "c")[1],
    }
    change = keys.parent / "change.json"
    assert main(["keys", "propose", str(keys), *(names.get(word, word) for word in words), "-o", str(change)]) == status
    assert code in capsys.readouterr().err
    assert not change.exists()


def test_the_last_role_does_not_go(keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change = propose(keys, "engineering", "--remove-role")
    assert sign(keys, change, *all_of(keys, "targets")) == 0
    assert finish(keys, change) == 0
    assert main(["keys", "propose", str(keys), "clinical", "--remove-role", "-o", str(change), "--force"]) == 4
    assert "role 'clinical' cannot go" in capsys.readouterr().err


def other_names(signed: Object) -> None:
    signed["delegations"]["roles"][0]["paths"] = ["*", "firmware"]


def another_role(signed: Object) -> None:
    signed["delegations"]["roles"].append({**signed["delegations"]["roles"][0], "name": "extra", "paths": ["firmware"]})


def another_key_under_an_id(signed: Object) -> None:
    key = next(iter(signed["delegations"]["keys"].values()))
    key["keyval"] = {"public": Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex()}


def far_version(signed: Object) -> None:
    signed["version"] = 2**53 - 1


@pytest.mark.parametrize("tamper", [other_names, another_role, another_key_under_an_id, far_version])
def test_what_the_words_would_not_say_is_refused_before_it_is_signed(
    keys: Path, capsys: pytest.CaptureFixture[str], tamper: Callable[[Object], None]
) -> None:
    change = propose(keys, "clinical", "--threshold", "2")
    document = json.loads(change.read_bytes())
    tamper(document["targets"]["signed"])
    change.write_bytes(encode(document))
    before = change.read_bytes()
    assert sign(keys, change, secret(keys, "targets", 0)) == 4
    assert "changes more than roles, keys, thresholds and its date" in capsys.readouterr().err
    assert change.read_bytes() == before


def test_a_role_of_root_that_is_not_used_is_not_changed_behind_the_words(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change = propose(keys, "root")
    document = json.loads(change.read_bytes())
    roles = document["root"]["signed"]["roles"]
    roles["timestamp"] = {"keyids": roles["root"]["keyids"], "threshold": 1}
    change.write_bytes(encode(document))
    assert sign(keys, change, secret(keys, "root", 0)) == 4
    assert "changes more than" in capsys.readouterr().err


def test_signatures_that_do_not_verify_are_not_counted_and_do_not_stay(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change = propose(keys, "targets")
    assert sign(keys, change, secret(keys, "targets", 0)) == 0
    document = json.loads(change.read_bytes())
    signature = document["targets"]["signatures"][0]
    ids = [key["id"] for key in role(keys, "targets", capsys)["keys"]]
    document["targets"]["signatures"] = sorted(
        [signature, *({"keyid": key, "sig": signature["sig"]} for key in ids if key != signature["keyid"])],
        key=lambda entry: str(entry["keyid"]),
    )
    change.write_bytes(encode(document))
    assert finish(keys, change) == 4
    assert "expected '2 signatures', found '1'" in capsys.readouterr().err
    signer = next(path for path in map(Path, all_of(keys, "targets")) if signature["keyid"][:16] not in path.name)
    assert sign(keys, change, str(signer)) == 0
    assert finish(keys, change) == 0
    assert len(json.loads((keys / "targets.json").read_bytes())["signatures"]) == 2


def test_a_change_from_other_documents_is_refused_and_so_is_one_that_was_finished(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = (
        propose(keys, "targets", to="first.json"),
        propose(keys, "clinical", "--threshold", "1", to="2.json"),
    )
    both = [secret(keys, "targets", index) for index in (0, 1)]
    assert sign(keys, first, *both) == 0
    assert sign(keys, second, *both) == 0
    assert finish(keys, first, second) == 4
    assert "different changes" in capsys.readouterr().err
    assert finish(keys, first) == 0
    for change in (first, second):
        assert finish(keys, change) == 4
        assert sign(keys, change, both[0]) == 4
        assert "starts from another targets document" in capsys.readouterr().err


def test_a_key_that_has_no_part_in_a_change_does_not_sign_it(keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change = propose(keys, "root")
    assert sign(keys, change, secret(keys, "clinical", 0)) == 4
    assert "needs no signature by this key" in capsys.readouterr().err
    assert main(["keys", "sign", str(keys), str(change), "--yes"]) == 6
    assert "holds no key that this change needs" in capsys.readouterr().err


@pytest.mark.parametrize(
    "damage",
    [b"", b"{}", b"[]", b"\xff", b'{"_type":"twinslot-key-change"}', b'{"root": 1}'],
)
def test_a_file_that_is_no_change_of_keys_is_said_to_be_none(
    keys: Path, capsys: pytest.CaptureFixture[str], damage: bytes
) -> None:
    change = keys.parent / "change.json"
    change.write_bytes(damage)
    assert sign(keys, change, secret(keys, "root", 0)) == 6
    assert finish(keys, change) == 6
    assert "is no change of keys" in capsys.readouterr().err


def test_a_signature_of_a_module_is_attached_to_the_document_that_it_is_of(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, public = newcomer(keys.parent, "eve")
    change, to_sign, signature = propose(keys, "targets", "--add", public), keys.parent / "payload", keys.parent / "sig"
    command = ["keys", "sign", str(keys), str(change)]
    assert main([*command, "--detached-payload", str(to_sign)]) == 2, "there are two"
    for name, role_name in (("root", "root"), ("targets", "targets")):
        assert main([*command, "--detached-payload", str(to_sign), "--document", name]) == 0
        assert json.loads(to_sign.read_bytes())["_type"] == name
        key = load_pem_private_key(Path(secret(keys, role_name, 0)).read_bytes(), None)
        assert isinstance(key, Ed25519PrivateKey)
        signature.write_bytes(key.sign(to_sign.read_bytes()))
        other = {"root": "targets", "targets": "root"}[name]
        capsys.readouterr()
        assert main([*command, "--attach", str(signature), "--document", other, "--yes"]) == 4
        assert "made by no key that the new" in capsys.readouterr().err
        assert main([*command, "--attach", str(signature), "--document", name, "--yes"]) == 0
        to_sign.unlink()
    assert sign(keys, change, secret(keys, "root", 1), secret(keys, "targets", 1)) == 0
    assert finish(keys, change) == 0


def test_whoever_takes_a_change_over_keeps_their_own_names_for_keys(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, public = newcomer(keys.parent, "eve")
    change = propose(keys, "clinical", "--add", public)
    (key_id,) = json.loads(change.read_bytes())["labels"]
    (keys / "labels.json").write_text(json.dumps({key_id: "Eve of ward 3"}))
    assert sign(keys, change, secret(keys, "targets", 0), secret(keys, "targets", 1)) == 0
    assert finish(keys, change) == 0
    assert role(keys, "clinical", capsys)["keys"][-1]["label"] == "Eve of ward 3"


def same_id(key_id: str) -> str:
    return key_id


def another_id(key_id: str) -> str:
    return hashlib.sha256(key_id.encode()).hexdigest()


@pytest.mark.verifies("S24")
@pytest.mark.parametrize(
    ("named", "holder"),
    [
        (same_id, "root"),
        (another_id, "root"),
        (same_id, "engineering"),
        (another_id, "engineering"),
        (another_id, "clinical"),
    ],
)
def test_a_change_edited_by_hand_in_which_one_person_would_sign_twice_is_refused(
    keys: Path, capsys: pytest.CaptureFixture[str], named: Callable[[str], str], holder: str
) -> None:
    change = propose(keys, "clinical", "--threshold", "2")
    document = json.loads(change.read_bytes())
    targets = document["targets"]["signed"]["delegations"]
    roles = {each["name"]: each for each in targets["roles"]}
    if holder == "root":
        root = json.loads((keys / "1.root.json").read_bytes())["signed"]
        key_id = root["roles"]["root"]["keyids"][0]
        key = root["keys"][key_id]
    else:
        key_id = roles[holder]["keyids"][0]
        key = targets["keys"][key_id]
    roles["clinical"]["keyids"].append(named(key_id))
    targets["keys"][named(key_id)] = key
    change.write_bytes(encode(document))
    before = change.read_bytes()
    assert sign(keys, change, secret(keys, "targets", 0)) == 4
    assert "one key stands in role 'clinical'" in capsys.readouterr().err
    assert change.read_bytes() == before
