"""Keys that are born in a token and never leave it: SoftHSM is the module, as any maker's would be."""

from __future__ import annotations

import importlib.metadata
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from host_device import HostDevice
from release_bench import ReleaseBench

from twinslot_image import pkcs11_token
from twinslot_image.cli import main

pytest.importorskip("pkcs11", reason="the library is an extra of the image tool, and not in Debian's packages")
MODULE = "/usr/lib/softhsm/libsofthsm2.so"
PIN = "864209"
KINDS = {"ed25519": "EC:edwards25519", "p256": "EC:prime256v1", "p384": "EC:secp384r1", "rsa": "rsa:3072"}
CONTENT = b"superblock".ljust(4096, b"\1") + bytes(100_000)


@dataclass(frozen=True)
class Tokens:
    """SoftHSM's tokens in a directory of our own."""

    folder: Path

    def make(self, label: str) -> str:
        """A new token; its serial number."""
        before = self._serials()
        self._run("softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "13579")
        (serial,) = self._serials() - before
        return serial

    def _serials(self) -> set[str]:
        shown = self._run("softhsm2-util", "--show-slots").splitlines()
        return {line.split(":")[1].strip() for line in shown if "Serial number" in line} - {""}

    def key(self, token: str, label: str, kind: str, *options: str) -> None:
        """A key that is born in it."""
        self.tool(token, "--keypairgen", "--key-type", kind, "--label", label, *options)

    def tool(self, token: str, *arguments: str) -> str:
        """OpenSC's tool on a token."""
        return self._run("pkcs11-tool", "--module", MODULE, "--login", "--pin", PIN, "--token-label", token, *arguments)

    def _run(self, *command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tokens]:
    """One token, `release`, with a key of each kind and three of `root`."""
    folder = tmp_path_factory.mktemp("tokens")
    (folder / "store").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/store\nobjectstore.backend = file\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(folder / "softhsm2.conf"))
        tokens = Tokens(folder)
        tokens.make("release")
        for label, kind in KINDS.items():
            tokens.key("release", label, kind)
        yield tokens


@pytest.fixture
def pin(monkeypatch: pytest.MonkeyPatch) -> None:
    """The PIN in its variable."""
    monkeypatch.setenv("TWINSLOT_KEY_PIN", PIN)


def uri(key: str, token: str = "release", query: str = f"module-path={MODULE}") -> str:
    return f"pkcs11:token={token};object={key}?{query}"


def error_of(capsys: pytest.CaptureFixture[str], *words: str, status: int = 6) -> str:
    capsys.readouterr()
    assert main([*words]) == status
    said = capsys.readouterr()
    assert PIN not in said.out + said.err
    return said.err


@pytest.fixture
def bench(tmp_path: Path) -> ReleaseBench:
    """Keys in files; clinical has one, and an image is signed by engineering."""
    return ReleaseBench.make(tmp_path / "team")


@pytest.mark.slow
@pytest.mark.usefixtures("pin")
@pytest.mark.parametrize("kind", KINDS)
def test_a_key_that_was_born_in_a_token_signs_a_release_that_a_device_takes(
    tokens: Tokens, tmp_path: Path, kind: str
) -> None:
    keys, key = tmp_path / "team/keys", uri(kind)
    assert main(["keys", "init", str(keys), "--roles", "engineering,clinical", "--public", f"clinical={key}"]) == 0
    team = ReleaseBench(tmp_path / "team")
    image = team.image("2.0", 20, CONTENT, roles=("engineering",))
    assert main(["sign", str(image), "--role", "clinical", "--key", key]) == 0
    assert main(["verify", str(image), "--root", str(team.root), "--roles", "engineering,clinical"]) == 0
    (tmp_path / "device").mkdir()
    device = HostDevice(tmp_path / "device", team)
    device.install(image)
    assert device.environment()["slot_b"] == "trial"


@pytest.mark.slow
@pytest.mark.usefixtures("pin")
def test_root_and_targets_can_be_born_in_tokens_and_change_a_role_from_there(
    tokens: Tokens, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label in ("r1", "r2", "r3", "t1", "t2"):
        tokens.key("release", label, KINDS["p256"])
    keys, change = tmp_path / "keys", tmp_path / "change.json"
    born = [word for role in ("r1", "r2") for word in ("--public", f"root={uri(role)}")]
    plans = ["--roles", "engineering", "--root", "2/2", "--targets", "1/1", "--public", f"targets={uri('t1')}"]
    assert main(["keys", "init", str(keys), *plans, *born]) == 0
    assert not list((keys / "private").glob("root.*")) + list((keys / "private").glob("targets.*"))
    assert main(["keys", "propose", str(keys), "engineering", "--add", uri("p384"), "-o", str(change)]) == 0
    assert main(["keys", "sign", str(keys), str(change), "--yes", "--key", uri("t1")]) == 0
    assert main(["keys", "finish", str(keys), str(change)]) == 0
    change.unlink()
    assert main(["keys", "propose", str(keys), "root", "--add", uri("r3"), "--remove", "r1", "-o", str(change)]) == 0
    signers = [word for key in ("r1", "r2", "r3") for word in ("--key", uri(key))]
    assert main(["keys", "sign", str(keys), str(change), "--yes", *signers]) == 0
    assert main(["keys", "finish", str(keys), str(change)]) == 0
    assert (keys / "2.root.json").exists()
    words = ["--roles", "engineering", "--public", f"root={uri('r1')}", "--public", f"targets={uri('t1')}"]
    capsys.readouterr()
    assert main(["keys", "init", str(tmp_path / "all"), *words, "--public", f"engineering={uri('p384')}"]) == 0
    assert "private" not in capsys.readouterr().out, "none was made"
    assert not (tmp_path / "all/private").exists()


@pytest.mark.usefixtures("pin", "tokens")
def test_a_key_is_enrolled_under_its_name_in_the_token(bench: ReleaseBench, capsys: pytest.CaptureFixture[str]) -> None:
    keys = str(bench.directory / "keys")
    assert main(["keys", "enrol", keys, "clinical", uri("ed25519")]) == 0
    assert "ed25519" in capsys.readouterr().out
    assert "has this key already" in error_of(capsys, "keys", "enrol", keys, "clinical", uri("ed25519"), status=4)


# Where the PIN comes from


def test_the_pin_comes_from_a_file_or_a_terminal(
    tokens: Tokens, bench: ReleaseBench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = str(bench.directory / "keys")
    (tmp_path / "pin").write_text(f"{PIN}\n")
    where = uri("p256", query=f"module-path={MODULE}&pin-source={tmp_path}/pin")
    assert main(["keys", "enrol", keys, "clinical", where]) == 0
    said = error_of(capsys, "keys", "enrol", keys, "clinical", uri("p384"))
    assert "set TWINSLOT_KEY_PIN" in said
    command = [sys.executable, "-m", "twinslot_image", "keys", "enrol", keys, "clinical", uri("p384")]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    shown = b""
    try:
        while b"PIN of the token" not in shown:
            shown += os.read(ours, 1000)
        os.write(ours, f"{PIN}\n".encode())
        while b"added" not in shown:
            shown += os.read(ours, 1000)
    finally:
        os.close(ours)
    process.wait()
    assert PIN.encode() not in shown, "it is not echoed"


def test_a_pin_in_the_arguments_is_refused(bench: ReleaseBench, capsys: pytest.CaptureFixture[str]) -> None:
    where = uri("p256", query=f"pin-value={PIN}")
    said = error_of(capsys, "keys", "enrol", str(bench.directory / "keys"), "clinical", where, status=4)
    assert "must not hold a PIN" in said
    assert "pin-source=file:" in said


def test_no_process_is_given_the_pin_in_its_arguments_or_its_environment(
    tokens: Tokens, bench: ReleaseBench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A module that shows what the process around it was given."""
    shown, source = tmp_path / "shown", tmp_path / "tell.c"
    source.write_text(
        f"""
        #include <stdlib.h>
        int C_GetFunctionList(void **list) {{
            system("cat /proc/$PPID/environ /proc/$PPID/cmdline > {shown}");
            return 5;  /* CKR_GENERAL_ERROR */
        }}
        """
    )
    module = compiled(source)
    monkeypatch.setenv("TWINSLOT_KEY_PIN", PIN)
    where = uri("p256", query=f"module-path={module}")
    assert main(["keys", "enrol", str(bench.directory / "keys"), "clinical", where]) == 6
    assert b"pkcs11_worker" in shown.read_bytes()
    assert PIN.encode() not in shown.read_bytes()


def compiled(source: Path) -> Path:
    module = source.with_suffix(".so")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(module), str(source)], check=True)
    return module


# What goes wrong with a token


def test_a_wrong_pin_is_tried_once_and_said(
    tokens: Tokens, bench: ReleaseBench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TWINSLOT_KEY_PIN", "111111")
    said = error_of(capsys, "keys", "enrol", str(bench.directory / "keys"), "clinical", uri("p256"), uri("p384"))
    assert "the PIN is not that of the token with label 'release'" in said
    assert "locks itself" in said
    assert "111111" not in said


@pytest.mark.usefixtures("pin")
@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (uri("p256", token="absent"), "the token is not there"),
        (uri("absent"), "there is no such private key in the token 'release'"),
        (uri("p256", query="x=1"), "it is not said which PKCS #11 module"),
        (
            uri("p256", query="module-path=/absent.so"),
            "the PKCS #11 module '/absent.so' cannot be used",
        ),
        (uri("p256", query="module-path=/etc/hostname"), "the PKCS #11 module '/etc/hostname' cannot be used"),
        (f"pkcs11:slot-id=7777;object=p256?module-path={MODULE}", "the token is not there"),
        (f"pkcs11:serial=no;object=p256?module-path={MODULE}", "the token is not there"),
    ],
)
def test_what_is_not_there_is_named(
    tokens: Tokens, bench: ReleaseBench, capsys: pytest.CaptureFixture[str], where: str, expected: str
) -> None:
    assert expected in error_of(capsys, "keys", "enrol", str(bench.directory / "keys"), "clinical", where)


@pytest.mark.usefixtures("pin")
def test_of_two_tokens_with_one_label_the_serial_number_says_which(
    tokens: Tokens, bench: ReleaseBench, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = str(bench.directory / "keys")
    tokens.make("twin")
    tokens.key("twin", "one", KINDS["p256"])
    serial = tokens.make("twin")
    said = error_of(capsys, "keys", "enrol", keys, "clinical", uri("one", token="twin"))
    assert "several tokens are meant" in said
    assert serial in said
    where = f"pkcs11:serial={serial};object=one?module-path={MODULE}"
    assert "there is no such private key" in error_of(capsys, "keys", "enrol", keys, "clinical", where)


@pytest.mark.usefixtures("pin")
def test_of_two_keys_with_one_label_the_id_says_which(
    tokens: Tokens, bench: ReleaseBench, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = str(bench.directory / "keys")
    for number in ("a1", "a2"):
        tokens.key("release", "both", KINDS["p256"], "--id", number)
    said = error_of(capsys, "keys", "enrol", keys, "clinical", uri("both"))
    assert "several private keys are meant" in said
    assert "a1" in said
    where = f"pkcs11:token=release;object=both;id=%A2?module-path={MODULE}"
    assert main(["keys", "enrol", keys, "clinical", where]) == 0


@pytest.mark.usefixtures("pin")
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("rsa:2048", "3072"),
        ("EC:secp521r1", "no device takes this key"),
        ("EC:secp256k1", "no device takes this key"),
    ],
)
def test_a_key_that_is_too_weak_or_odd_is_refused(
    tokens: Tokens,
    bench: ReleaseBench,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    expected: str,
) -> None:
    label = f"odd-{kind.replace(':', '-')}"
    tokens.key("release", label, kind)
    before = (bench.directory / "keys/targets.json").read_bytes()
    assert expected in error_of(capsys, "keys", "enrol", str(bench.directory / "keys"), "clinical", uri(label))
    assert (bench.directory / "keys/targets.json").read_bytes() == before


@pytest.mark.usefixtures("pin")
def test_a_key_that_may_not_sign_is_refused(
    tokens: Tokens, bench: ReleaseBench, capsys: pytest.CaptureFixture[str]
) -> None:
    """Made in a process of its own, since the module remembers the tokens that it has seen."""
    make = (
        "import pkcs11, sys; session = pkcs11.lib(sys.argv[1]).get_token(token_label='release').open(rw=True, "
        "user_pin=sys.argv[2]); session.generate_keypair(pkcs11.KeyType.RSA, 3072, label='mute', store=True, "
        "capabilities=pkcs11.MechanismFlag.DECRYPT)"
    )
    subprocess.run([sys.executable, "-c", make, MODULE, PIN], check=True)
    said = error_of(capsys, "keys", "enrol", str(bench.directory / "keys"), "clinical", uri("mute"))
    assert "the key may not sign in the token 'release'" in said


@pytest.mark.usefixtures("pin")
def test_a_token_that_is_gone_when_it_should_sign_leaves_the_image_as_it_was(
    tokens: Tokens, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens.make("stick")
    tokens.key("stick", "mine", KINDS["ed25519"])
    where = uri("mine", token="stick")
    keys = tmp_path / "team/keys"
    assert main(["keys", "init", str(keys), "--roles", "engineering,clinical", "--public", f"clinical={where}"]) == 0
    image = ReleaseBench(tmp_path / "team").image("2.0", 20, CONTENT, roles=("engineering",))
    before = image.read_bytes()
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "empty.conf").write_text(f"directories.tokendir = {empty}\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(tmp_path / "empty.conf"))
    assert "the token is not there" in error_of(capsys, "sign", str(image), "--role", "clinical", "--key", where)
    assert image.read_bytes() == before


@pytest.mark.usefixtures("pin")
@pytest.mark.parametrize(
    ("body", "expected"),
    [("abort();", "signal SIGABRT"), ("_exit(3);", "exit status 3"), ('puts("{}"); abort();', "SIGABRT")],
)
def test_a_module_that_crashes_ends_with_a_message(
    bench: ReleaseBench, tmp_path: Path, capsys: pytest.CaptureFixture[str], body: str, expected: str
) -> None:
    source = tmp_path / "crash.c"
    head = "#include <stdio.h>\n#include <stdlib.h>\n#include <unistd.h>\n"
    source.write_text(head + f"int C_GetFunctionList(void **list) {{ {body} return 0; }}\n")
    where = uri("p256", query=f"module-path={compiled(source)}")
    said = error_of(capsys, "keys", "enrol", str(bench.directory / "keys"), "clinical", where)
    assert "crashed" in said
    assert expected in said


@pytest.mark.slow
@pytest.mark.usefixtures("pin")
def test_a_module_that_hangs_is_ended(
    bench: ReleaseBench, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "hang.c"
    source.write_text("#include <unistd.h>\nint C_GetFunctionList(void **list) { for (;;) pause(); }\n")
    monkeypatch.setattr(pkcs11_token, "LONGEST", 3.0)
    where = uri("p256", query=f"module-path={compiled(source)}")
    assert "hangs" in error_of(capsys, "keys", "enrol", str(bench.directory / "keys"), "clinical", where)


@pytest.mark.usefixtures("pin")
def test_without_the_library_it_is_said_what_to_install(
    bench: ReleaseBench, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    said = error_of(capsys, "keys", "enrol", str(bench.directory / "keys"), "clinical", uri("p256"))
    assert "python-pkcs11" in said
    assert "install twinslot-image's extra 'pkcs11'" in said


def test_the_programs_that_these_tests_need_are_installed() -> None:
    assert all(map(shutil.which, ("softhsm2-util", "pkcs11-tool", "gcc")))
    assert Path(MODULE).exists()
