"""Keys as a team has them: some lost, some offline, some in a hardware module; and nothing is made by halves."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
)

from twinslot_image import PASSPHRASE
from twinslot_image.cli import main
from twinslot_image.key_files import load_signer

pytestmark = pytest.mark.slow

ROLES = ["--roles", "engineering,clinical=2/3", "--root", "2/3"]
TOML = """
product = "Pump"
release = "2026.11"
sequence = 7
compatible = "acme,pump-3"
trust = "{keys}"
[payloads.firmware]
file = "firmware.bin"
check = "none"
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key directory: root and targets 2 of 3, engineering 1 of 1, clinical 2 of 3."""
    folder = tmp_path_factory.mktemp("made")
    assert main(["keys", "init", str(folder / "keys"), *ROLES]) == 0
    return folder / "keys"


@pytest.fixture
def keys(made: Path, tmp_path: Path) -> Path:
    """A copy for one test."""
    shutil.copytree(made, tmp_path / "keys")
    return tmp_path / "keys"


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Everything below a directory, with modes."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
    }


def private(keys: Path, role: str) -> list[Path]:
    return sorted((keys / "private").glob(f"{role}.*.pem"))


def listed(keys: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["keys", "list", str(keys), "--json"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def role(told: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in told["roles"] if each["role"] == name)
    return found


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def module(folder: Path, name: str, *kind: str) -> tuple[Path, Path]:
    """A hardware module: openssl holds the private key; what comes out of it is the public one."""
    secret, public = folder / f"{name}.secret", folder / f"{name}.pem"
    openssl("genpkey", *kind, "-out", secret)
    openssl("pkey", "-in", secret, "-pubout", "-out", public)
    return secret, public


def build(folder: Path, keys: Path, name: str = "pump.twin") -> Path:
    (folder / "firmware.bin").write_bytes(bytes(range(256)) * 40)
    (folder / "image.toml").write_text(TOML.format(keys=keys))
    assert main(["build", str(folder / "image.toml"), "-o", str(folder / name)]) == 0
    return folder / name


RSA3072 = ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072")
RSA4096 = ("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:4096")
P256 = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
P384 = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384")
ED25519 = ("-algorithm", "ed25519")


@pytest.mark.parametrize(
    ("kind", "digest"),
    [(P256, "sha256"), (P384, "sha384"), (ED25519, ""), (RSA3072, "sha256"), (RSA4096, "sha256")],
    ids=["256", "384", "ed", "rsa-3072", "rsa-4096"],
)
def test_a_hardware_module_is_enrolled_and_signs_a_release_that_verifies(
    keys: Path, tmp_path: Path, kind: tuple[str, ...], digest: str
) -> None:
    secret, public = module(tmp_path, "hsm-ward-3", *kind)
    assert main(["keys", "add", str(keys), "engineering", str(public), "--threshold", "2"]) == 0
    image, to_sign, signature = build(tmp_path, keys), tmp_path / "to-sign.bin", tmp_path / "signature.bin"
    verify = ["verify", str(image), "--root", str(keys / "1.root.json"), "--role", "engineering"]
    assert main(["sign", str(image), "--role", "engineering", "--key", str(private(keys, "engineering")[0])]) == 0
    assert main(verify) == 4
    assert main(["sign", str(image), "--detached-payload", str(to_sign)]) == 0
    how = ["-digest", digest] if digest else []
    how += ["-pkeyopt", "rsa_padding_mode:pss"] if "RSA" in kind else []
    openssl("pkeyutl", "-sign", "-rawin", *how, "-inkey", secret, "-in", to_sign, "-out", signature)
    assert main(["sign", str(image), "--role", "engineering", "--attach", str(signature)]) == 0
    assert main(verify) == 0
    again = build(tmp_path, keys, "again.twin")
    for key in (secret, private(keys, "engineering")[0]):
        assert main(["sign", str(again), "--role", "engineering", "--key", str(key)]) == 0
    assert main(["verify", str(again), *verify[2:]]) == 0


ODD = {
    "P-521": ("EC", "ec_paramgen_curve:P-521"),
    "secp256k1": ("EC", "ec_paramgen_curve:secp256k1"),
    "RSA-2048": ("RSA", "rsa_keygen_bits:2048"),
    "exponent 3": ("RSA", "rsa_keygen_bits:3072", "rsa_keygen_pubexp:3"),
    "X25519": ("X25519",),
}
POINTS = {  # of Ed25519, as a document has them
    "small order": "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "no point": "02" + "00" * 31,
    "not reduced": "f0" + "ff" * 30 + "7f",
    "minus zero": "01" + "00" * 30 + "80",
}


def odd_key(folder: Path, name: str) -> Path:
    """A public key in PEM that no device takes, or that nothing can be signed by."""
    if name in POINTS:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(POINTS[name]))
        (folder / "odd.pem").write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        return folder / "odd.pem"
    algorithm, *options = ODD[name]
    return module(folder, "odd", "-algorithm", algorithm, *(word for each in options for word in ("-pkeyopt", each)))[1]


@pytest.mark.parametrize("name", [*ODD, *POINTS])
@pytest.mark.parametrize("verb", ["enrol", "propose"])
def test_a_weak_or_odd_key_gets_into_no_document(
    keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, verb: str
) -> None:
    public, before = odd_key(tmp_path, name), snapshot(keys)
    words = {
        "enrol": ["enrol", str(keys), "clinical", str(public)],
        "propose": ["propose", str(keys), "clinical", "--add", str(public), "-o", str(tmp_path / "change.json")],
    }
    assert main(["keys", *words[verb]]) == 6
    assert "keys are Ed25519, ECDSA on P-256 or P-384, or RSA of 3072 to 4096 bits" in capsys.readouterr().err
    assert snapshot(keys) == before
    assert not (tmp_path / "change.json").exists()


def test_a_module_that_is_there_from_the_first_day_is_one_of_the_roles_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret, public = module(tmp_path, "hsm", *P256)
    keys = tmp_path / "keys"
    init = ["keys", "init", str(keys), "--role", "engineering", "--role", "clinical=1/1"]
    assert main([*init, "--public", f"clinical={public}"]) == 0
    assert private(keys, "clinical") == []
    (key,) = role(listed(keys, capsys), "clinical")["keys"]
    assert (key["private"], key["label"], key["state"]) == (False, "hsm", "current")
    image, to_sign, signature = build(tmp_path, keys), tmp_path / "to-sign.bin", tmp_path / "signature.bin"
    assert main(["sign", str(image), "--detached-payload", str(to_sign)]) == 0
    openssl("pkeyutl", "-sign", "-rawin", "-digest", "sha256", "-inkey", secret, "-in", to_sign, "-out", signature)
    assert main(["sign", str(image), "--role", "clinical", "--attach", str(signature)]) == 0
    assert main(["verify", str(image), "--root", str(keys / "1.root.json"), "--roles", "clinical"]) == 0


def test_repeated_roles_are_all_made_and_all_demanded(keys: Path, tmp_path: Path) -> None:
    image = build(tmp_path, keys)
    for key in private(keys, "clinical")[:2]:
        assert main(["sign", str(image), "--role", "clinical", "--key", str(key)]) == 0
    verify = ["verify", str(image), "--root", str(keys / "1.root.json")]
    for first, second in (("--roles", "--roles"), ("--role", "--role"), ("--role", "--roles")):
        assert main([*verify, first, "engineering", second, "clinical"]) == 4
        assert main([*verify, first, "clinical", second, "engineering"]) == 4
    assert main([*verify, "--roles", "clinical", "--roles", "clinical"]) == 0
    assert main([*verify, "--roles", "clinical,"]) == 4


@pytest.mark.verifies("REQ-KEY-02")
def test_one_lost_root_key_of_three_does_not_end_rotation(
    keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = private(keys, "root")[0]
    lost.unlink()
    private(keys, "targets")[0].unlink()
    for each in ("clinical", "targets", "root"):
        capsys.readouterr()
        assert main(["keys", "rotate", str(keys), each]) == 0
        out = capsys.readouterr().out
        assert (str(lost) in out) is (each != "clinical")
        assert "NOT encrypted" in out
    image = build(tmp_path, keys)
    assert main(["sign", str(image), "--role", "engineering", "--key", str(private(keys, "engineering")[0])]) == 0
    assert main(["verify", str(image), "--root", str(keys / "1.root.json"), "--roles", "engineering"]) == 0


def test_the_list_says_which_of_many_keys_are_current_and_which_are_here(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    away = private(keys, "root")[0]
    away.unlink()
    before = {key["id"] for key in role(listed(keys, capsys), "clinical")["keys"]}
    assert main(["keys", "rotate", str(keys), "clinical"]) == 0
    told = listed(keys, capsys)
    clinical = role(told, "clinical")
    assert clinical["threshold"] == 2
    current = {key["id"] for key in clinical["keys"] if key["state"] == "current"}
    old = {key["id"] for key in clinical["keys"] if key["state"] == "old"}
    assert (len(current), old) == (3, {key[:16] for key in before})
    absent = [key for key in role(told, "root")["keys"] if not key["private"]]
    assert [away.name.split(".")[1]] == [key["id"][:16] for key in absent]
    assert main(["keys", "list", str(keys)]) == 0
    text = capsys.readouterr().out
    assert "clinical: 2 of 3 must sign\n" in text
    assert "private key not here" in text
    assert "root 1 until " in text


def test_a_person_leaves_a_role_and_the_rest_goes_on(
    keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = private(keys, "clinical")[0]
    name = gone.name.split(".")[1]
    assert main(["keys", "remove", str(keys), "clinical", name]) == 0
    assert len([key for key in role(listed(keys, capsys), "clinical")["keys"] if key["state"] == "current"]) == 2
    image = build(tmp_path, keys)
    assert main(["sign", str(image), "--role", "clinical", "--key", str(gone)]) == 4
    error = capsys.readouterr().err
    assert "this key does not belong to role 'clinical'" in error
    assert name in error
    assert main(["keys", "remove", str(keys), "clinical", private(keys, "clinical")[1].name.split(".")[1]]) == 4, (
        "1 < 2"
    )


def test_the_keys_that_say_who_may_sign_are_as_many_as_those_of_the_root_unless_said(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = listed(made, capsys)
    assert (role(told, "targets")["threshold"], len(role(told, "targets")["keys"])) == (2, 3)
    assert main(["keys", "init", str(tmp_path / "k"), "--root", "2/3", "--targets", "1/2"]) == 0
    told = listed(tmp_path / "k", capsys)
    assert (role(told, "targets")["threshold"], len(role(told, "targets")["keys"])) == (1, 2)


def test_encrypted_keys_take_time_to_guess_and_open_with_openssl_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSPHRASE, "correct horse")
    assert main(["keys", "init", str(tmp_path / "keys"), "--roles", "engineering"]) == 0
    (key,) = private(tmp_path / "keys", "engineering")
    shown = subprocess.run(["openssl", "asn1parse", "-in", key], capture_output=True, text=True, check=True).stdout
    assert ":scrypt" in shown
    openssl("pkey", "-in", key, "-passin", "pass:correct horse", "-noout")
    assert main(["keys", "rotate", str(tmp_path / "keys"), "engineering"]) == 0
    older = Ed25519PrivateKey.generate()
    pem = older.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"old horse"))
    assert (
        load_signer(pem, "older", b"old horse").public_key.keyval["public"]
        == older.public_key().public_bytes_raw().hex()
    )


def test_programs_that_the_tool_starts_do_not_inherit_the_passphrase(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command waits for a pipe; what is started meanwhile in its environment says what it was given."""
    monkeypatch.setenv(PASSPHRASE, "correct horse")
    os.mkfifo(tmp_path / "pump.twin")
    seen: list[str] = []

    def look() -> None:
        with (tmp_path / "pump.twin").open("wb"):  # opens when the command reads
            seen.append(subprocess.run(["env"], capture_output=True, text=True, check=True).stdout)

    looking = threading.Thread(target=look)
    looking.start()
    command = ["verify", str(tmp_path / "pump.twin"), "--root", str(made / "1.root.json"), "--roles", "engineering"]
    assert main(command) == 3
    looking.join()
    assert "PATH=" in seen[0]
    assert PASSPHRASE not in seen[0]
    assert os.environ[PASSPHRASE] == "correct horse"


def lose(*roles: str) -> Callable[[Path], None]:
    """Two of three private keys are somewhere else."""

    def change(keys: Path) -> None:
        for each in roles:
            for path in private(keys, each)[:2]:
                path.unlink()

    return change


def remove(name: str) -> Callable[[Path], None]:
    return lambda keys: (keys / name).unlink()


def damage(name: str) -> Callable[[Path], None]:
    def change(keys: Path) -> None:
        (keys / name).write_bytes(b"{")

    return change


def damage_keys(keys: Path) -> None:
    for path in private(keys, "root")[:2] + private(keys, "targets")[:2]:
        path.write_text("-----BEGIN PRIVATE KEY-----\nnonsense\n-----END PRIVATE KEY-----\n")


def swap_keys(keys: Path) -> None:
    """A key under the name of another one must not sign for it."""
    for each in ("root", "targets"):
        first, *others = private(keys, each)
        for path in others:
            path.write_bytes(first.read_bytes())


def open_private(keys: Path) -> None:
    (keys / "private").chmod(0o755)


ROTATIONS = [["keys", "rotate", "{keys}", role] for role in ("root", "targets", "clinical")]
CHANGES = [
    ["keys", "add", "{keys}", "clinical", "{public}"],
    ["keys", "add", "{keys}", "root", "{public}"],
    ["keys", "remove", "{keys}", "clinical", "{known}"],
]
LOSSES = [
    lose("root", "targets"),
    remove("targets.json"),
    remove("1.root.json"),
    damage("targets.json"),
    damage("1.root.json"),
    damage_keys,
    swap_keys,
]


@pytest.mark.parametrize(
    ("command", "loss"),
    [*itertools.product(ROTATIONS + CHANGES, LOSSES), *((command, open_private) for command in ROTATIONS)],
    ids=lambda value: " ".join(value) if isinstance(value, list) else getattr(value, "__name__", ""),
)
def test_a_change_of_keys_that_cannot_be_finished_leaves_everything_as_it_was(
    keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str], loss: Callable[[Path], None]
) -> None:
    public = module(tmp_path, "hsm", *P256)[1]
    known = private(keys, "clinical")[0].name.split(".")[1]
    loss(keys)
    before = snapshot(keys)
    assert main([part.format(keys=keys, public=public, known=known) for part in command]) in (3, 4, 6)
    assert snapshot(keys) == before
    assert capsys.readouterr().err.startswith("twinslot-image: ")


@pytest.mark.parametrize("each", ["root", "targets", "clinical"])
@pytest.mark.parametrize("passphrase", [None, "wrong"])
def test_no_key_without_passphrase_comes_to_stand_beside_encrypted_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passphrase: str | None, each: str
) -> None:
    keys = tmp_path / "keys"
    monkeypatch.setenv(PASSPHRASE, "correct horse")
    assert main(["keys", "init", str(keys), "--roles", "clinical"]) == 0
    monkeypatch.delenv(PASSPHRASE)
    if passphrase:
        monkeypatch.setenv(PASSPHRASE, passphrase)
    before = snapshot(keys)
    assert main(["keys", "rotate", str(keys), each]) in (4, 6)
    assert snapshot(keys) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["--roles", "clinical=2/1"],
        ["--roles", "clinical", "--role", "clinical"],
        ["--roles", "clinical", "--public", "clinical={absent}"],
        ["--roles", "clinical", "--public", "clinical={secret}"],
        ["--roles", "clinical", "--public", "engineering={public}"],
        ["--roles", "clinical=1/2", "--public", "clinical={public}", "--public", "clinical={public}"],
        ["--roles", "a,b", "--public", "a={public}", "--public", "b={public}"],
        ["--root", "1/1", "--public", "root={public}"],
        ["--root", "40/40"],
        ["--roles", "clinical", "--public", "{public}"],
    ],
    ids=" ".join,
)
def test_keys_that_cannot_be_made_as_asked_are_not_made_at_all(tmp_path: Path, arguments: list[str]) -> None:
    secret, public = module(tmp_path, "hsm", *P256)
    filled = [part.format(public=public, secret=secret, absent=tmp_path / "absent") for part in arguments]
    before = snapshot(tmp_path)
    assert main(["keys", "init", str(tmp_path / "new/keys"), *filled]) in (2, 4, 6)
    assert snapshot(tmp_path) == before


@pytest.mark.root
@pytest.mark.parametrize("command", [["rotate", "clinical"], ["rotate", "targets"], ["rotate", "root"], ["init"]])
def test_on_a_full_disk_a_change_is_whole_or_nothing(made: Path, tmp_path: Path, command: list[str]) -> None:
    """With no page free, with one, two, ... until the change fits."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "disk", disk], check=True)
    try:
        verb, *role = command
        folder = disk / ("new" if verb == "init" else "keys")
        shutil.copytree(made, disk / "keys")
        before, ended = snapshot(disk), list[int]()
        while not ended or ended[-1]:
            fill(disk, spare=len(ended))
            ended.append(main(["keys", verb, str(folder), *role]))
            (disk / "fill").unlink()
            if ended[-1]:
                assert snapshot(disk) == before
        assert ended[0] == 6
        assert main(["keys", "list", str(folder)]) == 0
    finally:
        subprocess.run(["umount", disk], check=True)


def fill(disk: Path, spare: int) -> None:
    """Take all pages but `spare` ones."""
    pages = os.statvfs(disk).f_bfree - spare
    (disk / "fill").write_bytes(bytes(4096 * pages))


def test_changes_at_the_same_time_follow_each_other(keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended: list[int] = []
    people = [
        threading.Thread(target=lambda: ended.append(main(["keys", "rotate", str(keys), "clinical"]))) for _ in range(4)
    ]
    for person in people:
        person.start()
    for person in people:
        person.join()
    assert ended == [0] * 4
    told = listed(keys, capsys)
    assert [d["version"] for d in told["documents"] if d["type"] == "targets"] == [5]
    assert len(private(keys, "clinical")) == 3 * 5


@pytest.mark.parametrize("mode", [0o777, 0o750, 0o701])
def test_private_keys_are_not_put_where_others_may_look(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: int
) -> None:
    folder = tmp_path / "keys/private"
    folder.mkdir(parents=True)
    folder.chmod(mode)
    assert main(["keys", "init", str(tmp_path / "keys")]) == 4
    error = capsys.readouterr().err
    assert f"expected 'mode 700', found 'mode {mode:o}'" in error
    assert f"chmod 700 {folder}" in error
    assert list(folder.iterdir()) == []
    folder.chmod(0o700)
    assert main(["keys", "init", str(tmp_path / "keys")]) == 0
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def rsa(bits: int, exponent: int = 65537, algorithm: str = "RSA") -> tuple[str, ...]:
    return ("-algorithm", algorithm, "-pkeyopt", f"rsa_keygen_bits:{bits}", "-pkeyopt", f"rsa_keygen_pubexp:{exponent}")


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        (rsa(2048), "found '2048 bits with exponent 65537'"),
        (rsa(3064), "found '3064 bits with exponent 65537'"),
        (rsa(3072, 3), "found '3072 bits with exponent 3'"),
        (("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"), "found 'ecdsa-sha2-nistp521'"),
        (("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"), ""),
        (("-algorithm", "ed448"), ""),
        (("-algorithm", "x25519"), ""),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else "",
)
def test_a_key_of_a_kind_that_no_device_takes_is_refused_at_once(
    keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: tuple[str, ...], found: str
) -> None:
    public = module(tmp_path, "hsm", *kind)[1]
    before = snapshot(keys)
    assert main(["keys", "add", str(keys), "clinical", str(public)]) == 6
    error = capsys.readouterr().err
    assert "Ed25519, ECDSA on P-256 or P-384, or RSA of 3072 to 4096 bits" in error
    assert found in error
    assert snapshot(keys) == before


def test_one_key_is_not_put_into_two_roles(keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    public = module(tmp_path, "hsm", *P256)[1]
    assert main(["keys", "add", str(keys), "clinical", str(public)]) == 0
    before = snapshot(keys)
    assert main(["keys", "add", str(keys), "engineering", str(public)]) == 4
    assert "the key belongs to role 'clinical'" in capsys.readouterr().err
    assert main(["keys", "add", str(keys), "clinical", str(public)]) == 4
    assert main(["keys", "remove", str(keys), "clinical", "nobody"]) == 4
    assert snapshot(keys) == before
    assert main(["keys", "remove", str(keys), "clinical", "hsm"]) == 0, "by its label"


@pytest.mark.parametrize("role", ["clinical", "root"])
def test_one_key_in_two_files_does_not_count_twice(
    keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], role: str
) -> None:
    """Else four of three would have to sign from then on."""
    files = [module(tmp_path, "one", *P256)[1], tmp_path / "other.pem"]
    shutil.copy(files[0], files[1])
    before = snapshot(keys)
    assert main(["keys", "add", str(keys), role, *map(str, files), "--threshold", "5"]) == 4
    assert "one key is given twice" in capsys.readouterr().err
    assert snapshot(keys) == before


def test_no_more_keys_are_put_into_a_document_than_a_device_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full, public = tmp_path / "full", module(tmp_path, "one", *P256)[1]
    assert main(["keys", "init", str(full), "--roles", "a=1/32,b=1/31,c"]) == 0
    before = snapshot(full)
    assert main(["keys", "add", str(full), "c", str(public)]) == 4
    assert "too many keys for one document" in capsys.readouterr().err
    assert snapshot(full) == before


def test_a_second_signature_by_one_key_is_said_to_be_there_already(
    keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = build(tmp_path, keys)
    first, second, third = private(keys, "clinical")
    for key, told in (
        (first, "clinical 1 of 2, engineering 0 of 1\n"),
        (first, "clinical 1 of 2, engineering 0 of 1\nthis key had already signed\n"),
        (second, "clinical 2 of 2, "),
        (third, "clinical 2 of 2 and 1 more, "),
    ):
        capsys.readouterr()
        assert main(["sign", str(image), "--role", "clinical", "--key", str(key)]) == 0
        assert told in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "above", "below"),
    [
        (["--roles", "engineering,clinical=2/3", "--targets", "1/3"], "targets", "clinical"),
        (["--roles", "engineering,clinical=2/3", "--root", "1/1"], "targets", "clinical"),
        (["--roles", "engineering,clinical=2/3", "--root", "1/1", "--targets", "2/3"], "root", "targets"),
        (["--roles", "engineering", "--root", "1/2", "--targets", "2/2"], "root", "targets"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else each,
)
def test_no_keys_are_made_of_which_fewer_outrank_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], above: str, below: str
) -> None:
    assert main(["keys", "init", str(tmp_path / "keys"), *arguments]) == 4
    assert f"role '{above}' would outrank role '{below}'" in capsys.readouterr().err
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize(
    ("roles", "plan"), [("a", (1, 1)), ("a,b=1/3", (1, 1)), ("a,b=2/2", (2, 3)), ("a=2/3,b=4/5", (4, 5))]
)
def test_root_and_targets_are_as_many_as_the_roles_below_them_ask_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], roles: str, plan: tuple[int, int]
) -> None:
    assert main(["keys", "init", str(tmp_path / "keys"), "--roles", roles]) == 0
    told = listed(tmp_path / "keys", capsys)
    for name in ("root", "targets"):
        assert (role(told, name)["threshold"], len(role(told, name)["keys"])) == plan


@pytest.mark.verifies("S24")
@pytest.mark.parametrize(
    ("change", "above", "below"),
    [
        (["clinical", "--threshold", "3"], "targets", "clinical"),
        (["targets", "--threshold", "1"], "targets", "clinical"),
        (["targets", "--threshold", "3"], "root", "targets"),
        (["root", "--threshold", "1"], "root", "targets"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else each,
)
def test_no_threshold_is_set_that_a_lower_one_could_change(
    keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: list[str], above: str, below: str
) -> None:
    _, public = module(tmp_path, "hsm", *ED25519)
    before = snapshot(keys)
    assert main(["keys", "add", str(keys), change[0], str(public), *change[1:]]) == 4
    assert f"role '{above}' would outrank role '{below}'" in capsys.readouterr().err
    assert snapshot(keys) == before


def test_a_key_directory_holds_public_parts_only_when_the_private_ones_have_a_place_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys, safe = tmp_path / "keys", tmp_path / "stick/safe"
    place = ["--private", str(safe)]
    assert main(["keys", "init", str(keys), "--roles", "engineering,clinical=2/3", *place]) == 0
    assert f"private keys in '{safe}'" in capsys.readouterr().out
    assert stat.S_IMODE(safe.stat().st_mode) == 0o700
    assert {path.name for path in keys.iterdir()} == {"1.root.json", "targets.json"}
    _, public = module(tmp_path, "hsm", *P256)
    assert main(["keys", "enrol", str(keys), "clinical", str(public)]) == 6, "no private key is in reach"
    assert main(["keys", "enrol", str(keys), "clinical", str(public), *place]) == 0
    assert main(["keys", "rotate", str(keys), "engineering", *place]) == 0
    assert main(["keys", "remove", str(keys), "clinical", "hsm", *place]) == 0
    change = tmp_path / "change.json"
    assert main(["keys", "propose", str(keys), "root", "-o", str(change)]) == 0
    assert main(["keys", "sign", str(keys), str(change), "--yes", *place]) == 0
    assert main(["keys", "finish", str(keys), str(change)]) == 0
    capsys.readouterr()
    assert main(["keys", "list", str(keys), "--json", *place]) == 0
    told = json.loads(capsys.readouterr().out)
    assert all(key["private"] for each in told["roles"] for key in each["keys"] if key["state"] == "current")
    assert not any(b"PRIVATE" in path.read_bytes() for path in keys.rglob("*"))


@pytest.mark.parametrize("command", [["keys", "init"], ["repository", "init"]], ids=" ".join)
def test_of_those_who_make_one_directory_at_once_one_does(command: list[str], tmp_path: Path) -> None:
    started = threading.Barrier(3)

    def make(ended: list[int]) -> None:
        started.wait()
        ended.append(main([*command, str(tmp_path / "new/keys")]))

    ended: list[int] = []
    people = [threading.Thread(target=make, args=(ended,)) for _ in range(3)]
    for each in people:
        each.start()
    for each in people:
        each.join()
    assert sorted(ended) == [0, 4, 4]
