"""The tool as a release engineer uses it: keys, build, sign by two people, inspect, verify, and all that is refused."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from independent_reader import read_image
from rootfs_samples import elf_header, make_ext4, make_tree
from twinslot.core.canonical import encode, parse_document
from twinslot.core.model import SlotName
from twinslot.storage.record.record import Record
from twinslot_image import pack
from twinslot_image.cli import main
from twinslot_image.cli_parser import make_parser
from twinslot_image.compose import read_front, replace_manifest

TOML = """
product = "Pump"
release = "2026.11"
sequence = 7
type = "security"
compatible = ["acme,pump-3"]
hardware = ["rev-c"]
checks = ["pump-motor"]
architecture = "arm64"
trust = "keys"
expires = 2099-01-01T00:00:00Z
[payloads.rootfs]
file = "rootfs.ext4"
[payloads.firmware]
file = "firmware.bin"
check = "none"
[attachments."release-notes.md"]
file = "notes.md"
"""
ROLES = "engineering,clinical"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with keys, inputs and a signed image."""
    bench = tmp_path_factory.mktemp("bench")
    make_ext4(make_tree(bench / "tree"), bench / "rootfs.ext4")
    (bench / "firmware.bin").write_bytes(bytes(range(256)) * 40)
    (bench / "notes.md").write_text("# 2026.11\n\nThe alarm is louder.\n")
    (bench / "image.toml").write_text(TOML)
    assert main(["keys", "init", str(bench / "keys"), "--roles", "engineering,clinical=2/3", "--root", "2/3"]) == 0
    assert main(["build", str(bench / "image.toml"), "-o", str(bench / "signed.twin")]) == 0
    sign(bench, "signed.twin", "engineering", 1)
    sign(bench, "signed.twin", "clinical", 2)
    return bench


def private_keys(bench: Path, role: str) -> list[Path]:
    return sorted((bench / "keys/private").glob(f"{role}.*.pem"))


def sign(bench: Path, image: str, role: str, count: int) -> None:
    for key in private_keys(bench, role)[:count]:
        assert main(["sign", str(bench / image), "--role", role, "--key", str(key)]) == 0


def verify(bench: Path, image: str = "signed.twin", roles: str = ROLES, *more: str) -> int:
    return main(["verify", str(bench / image), "--root", str(bench / "keys/1.root.json"), "--roles", roles, *more])


def test_a_signed_image_verifies_and_says_who_signed(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(bench) == 0
    text = capsys.readouterr().out
    assert text.startswith("good: Pump 2026.11, ")
    assert "role 'clinical': 2 valid signatures, 2 needed" in text
    assert verify(bench, "signed.twin", ROLES, "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert [role["role"] for role in data["roles"]] == ["engineering", "clinical"]


@pytest.mark.verifies("REQ-IMG-08")
def test_a_reader_written_from_the_document_alone_reads_it(bench: Path) -> None:
    contents = read_image((bench / "signed.twin").read_bytes())
    assert contents.payloads["rootfs"] == (bench / "rootfs.ext4").read_bytes()
    assert contents.payloads["firmware"] == (bench / "firmware.bin").read_bytes()
    assert contents.attachments == {"release-notes.md": (bench / "notes.md").read_bytes()}
    assert len(contents.signatures) == 3
    assert contents.signed["x-twinslot"]["checks"] == ["pump-motor"]


@pytest.mark.verifies("REQ-IMG-07")
def test_building_and_signing_twice_gives_the_same_bytes(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1790000000")
    images = []
    for name in ("first.twin", "second.twin"):
        assert main(["build", str(bench / "image.toml"), "-o", str(bench / name)]) == 0
        sign(bench, name, "engineering", 1)
        images.append((bench / name).read_bytes())
    assert images[0] == images[1]
    os.utime(bench / "rootfs.ext4")
    assert (
        main(["build", str(bench / "image.toml"), "-o", str(bench / "second.twin"), "--sequence", "8", "--force"]) == 0
    )
    assert (bench / "second.twin").read_bytes() != images[0]


@pytest.mark.parametrize(("line", "expected"), [("", [65536, 262144]), ("group_size = 8192", [8192, 8192])])
def test_groups_grow_with_the_payload_unless_their_size_is_said(
    tmp_path: Path, bench: Path, monkeypatch: pytest.MonkeyPatch, line: str, expected: list[int]
) -> None:
    monkeypatch.setattr(pack, "GROUPS_AIM", 16)
    (tmp_path / "keys").symlink_to(bench / "keys")
    for name, groups in (("a-small", 16), ("b-large", 33)):
        (tmp_path / name).write_bytes(bytes(groups * 65536))
    payloads = "".join(f'[payloads.{name}]\nfile = "{name}"\ncheck = "none"\n' for name in ("a-small", "b-large"))
    head = TOML.split("[payloads", maxsplit=1)[0]
    (tmp_path / "image.toml").write_text(f"{head}{line}\n{payloads}")
    assert main(["build", str(tmp_path / "image.toml"), "-o", str(tmp_path / "out.twin")]) == 0
    targets = read_image((tmp_path / "out.twin").read_bytes()).signed["targets"]
    assert [targets[name]["custom"]["group_size"] for name in ("a-small", "b-large")] == expected


def test_inspect_shows_people_and_programs_the_same(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(bench / "signed.twin")]) == 0
    text = capsys.readouterr().out
    for part in (
        "Pump 2026.11  (security)",
        "acme,pump-3",
        "hardware     rev-c",
        "rootfs",
        "release-notes.md",
        "2 of 2",
        "Nothing above is verified",
    ):
        assert part in text
    assert main(["inspect", str(bench / "signed.twin"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["type"] == "inspect"
    data = told["image"]
    assert data["size"] == (bench / "signed.twin").stat().st_size == sum(data["sections"].values())
    assert {r["role"]: (r["threshold"], r["keys"], len(r["signatures"])) for r in data["roles"]} == {
        "engineering": (1, 1, 1),
        "clinical": (2, 3, 2),
    }


def test_an_attachment_comes_out_as_it_went_in(bench: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = bench / "out.md"
    assert main(["extract-attachment", str(bench / "signed.twin"), "release-notes.md", "-o", str(out)]) == 0
    assert out.read_bytes() == (bench / "notes.md").read_bytes()
    assert main(["extract-attachment", str(bench / "signed.twin"), "release-notes.md"]) == 0
    assert capfd.readouterr().out == (bench / "notes.md").read_text()
    assert main(["extract-attachment", str(bench / "signed.twin"), "sbom.json"]) == 4
    assert "expected 'release-notes.md', found 'sbom.json'" in capfd.readouterr().err


def test_an_image_short_of_a_signature_is_refused_with_the_counts(
    bench: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", str(bench / "image.toml"), "-o", str(bench / "half.twin")]) == 0
    assert verify(bench, "half.twin", "engineering") == 4
    sign(bench, "half.twin", "clinical", 1)
    capsys.readouterr()
    assert verify(bench, "half.twin") == 4
    assert capsys.readouterr().err == (
        "twinslot-image: role 'engineering': expected '1 valid signature', found '0'\n"
        "twinslot-image: role 'clinical': expected '2 valid signatures', found '1'\n"
    )
    assert verify(bench, "half.twin", ROLES, "--json") == 4
    reasons = json.loads(capsys.readouterr().out)["reasons"]
    assert [reason["code"] for reason in reasons] == ["refused.signatures"] * 2


@pytest.mark.verifies("REQ-IMG-02")
def test_a_damaged_image_is_refused_by_section(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = (bench / "signed.twin").read_bytes()
    for damaged, part in (
        (data[:-1], "ends inside the 'groups' section"),
        (data + b"x", "bytes follow the 'groups' section"),
        (data[:40], "ends inside the 'header' section"),
        (b"#!/bin/sh\n" * 100, "damaged.twin' is no .twin image (it begins with 23 21 2f 62)"),
        (data[:-1] + bytes([data[-1] ^ 1]), "the 'groups' section: payload 'rootfs'"),
    ):
        (bench / "damaged.twin").write_bytes(damaged)
        assert verify(bench, "damaged.twin") == 3
        assert part in capsys.readouterr().err


def test_signing_elsewhere_gives_the_same_image_as_signing_here(bench: Path) -> None:
    key = private_keys(bench, "engineering")[0]
    for name in ("here.twin", "elsewhere.twin"):
        (bench / name).write_bytes((bench / "signed.twin").read_bytes())
        strip_signatures(bench / name)
    assert main(["sign", str(bench / "here.twin"), "--role", "engineering", "--key", str(key)]) == 0
    payload, signature = bench / "to-sign", bench / "signature"
    assert main(["sign", str(bench / "elsewhere.twin"), "--detached-payload", str(payload)]) == 0
    command = ["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", str(key), "-in", str(payload), "-out", str(signature)]
    subprocess.run(command, check=True)
    attach = ["sign", str(bench / "elsewhere.twin"), "--role", "engineering", "--attach"]
    assert main([*attach, str(signature)]) == 0
    assert (bench / "here.twin").read_bytes() == (bench / "elsewhere.twin").read_bytes()
    (bench / "hex").write_text(signature.read_bytes().hex() + "\n")
    assert main([*attach, str(bench / "hex")]) == 0
    assert (bench / "here.twin").read_bytes() == (bench / "elsewhere.twin").read_bytes()
    signature.write_bytes(bytes(64))
    assert main([*attach, str(signature)]) == 4


def strip_signatures(path: Path) -> None:
    replace_manifest(path, lambda _: encode({**read_manifest(path), "signatures": []}))


def read_manifest(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return parse_document(read_front(file).manifest, "manifest")


def test_a_whole_that_is_not_the_sum_of_its_groups_is_found_by_verify(
    bench: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only a builder with a fault makes such an image; a device finds it when it reads the partition back."""
    (bench / "whole.twin").write_bytes((bench / "signed.twin").read_bytes())
    manifest = read_manifest(bench / "whole.twin")
    manifest["signed"]["targets"]["rootfs"]["hashes"]["sha256"] = "0" * 64
    replace_manifest(bench / "whole.twin", lambda _: encode({**manifest, "signatures": []}))
    sign(bench, "whole.twin", "engineering", 1)
    assert verify(bench, "whole.twin", "engineering") == 3
    assert "payload 'rootfs': digest of the whole" in capsys.readouterr().err


def test_a_key_of_another_role_does_not_sign(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (bench / "signed.twin").read_bytes()
    key = str(private_keys(bench, "clinical")[0])
    assert main(["sign", str(bench / "signed.twin"), "--role", "engineering", "--key", key]) == 4
    assert "this key does not belong to role 'engineering'" in capsys.readouterr().err
    assert main(["sign", str(bench / "signed.twin"), "--role", "regulatory", "--key", key]) == 4
    assert main(["sign", str(bench / "signed.twin"), "--key", key]) == 4
    assert (bench / "signed.twin").read_bytes() == before


def test_a_key_may_come_from_the_environment_and_be_encrypted(
    bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TWINSLOT_KEY_PASSPHRASE", "correct horse")
    assert main(["keys", "init", str(tmp_path / "keys"), "--roles", "engineering"]) == 0
    (key,) = (tmp_path / "keys/private").glob("engineering.*.pem")
    assert b"ENCRYPTED" in key.read_bytes()
    toml = TOML.replace('file = "', f'file = "{bench}/')
    (tmp_path / "image.toml").write_text(toml)
    image = tmp_path / "image.twin"
    assert main(["build", str(tmp_path / "image.toml"), "-o", str(image)]) == 0
    monkeypatch.setenv("SIGNING_KEY", key.read_text())
    command = ["sign", str(image), "--role", "engineering", "--key", "env:SIGNING_KEY"]
    assert main(command) == 0
    monkeypatch.setenv("TWINSLOT_KEY_PASSPHRASE", "wrong")
    assert main(command) == 6
    monkeypatch.delenv("SIGNING_KEY")
    assert main(command) == 6
    assert "env:SIGNING_KEY" in capsys.readouterr().err


@pytest.mark.verifies("REQ-KEY-05")
def test_private_keys_are_for_their_owner_only_and_never_overwritten(
    bench: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for key in (bench / "keys/private").iterdir():
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert main(["keys", "init", str(bench / "keys")]) == 4
    assert "holds keys already" in capsys.readouterr().err


@pytest.mark.verifies("CVE-2021-41131")
@pytest.mark.parametrize("roles", ["", "root", "a,a", "A", "../x", "a=0/1", "a=2/1", "a=x"])
def test_role_names_and_thresholds_that_make_no_sense_are_refused(tmp_path: Path, roles: str) -> None:
    assert main(["keys", "init", str(tmp_path / "keys"), "--roles", roles]) == 4
    assert not (tmp_path / "keys").exists()


def test_rotated_keys_reach_a_device_inside_the_next_image(tmp_path: Path, bench: Path) -> None:
    assert main(["keys", "init", str(tmp_path / "keys"), "--roles", "engineering"]) == 0
    (old,) = (tmp_path / "keys/private").glob("engineering.*.pem")
    (tmp_path / "image.toml").write_text(TOML.replace('file = "', f'file = "{bench}/'))
    image = str(tmp_path / "image.twin")
    assert main(["build", str(tmp_path / "image.toml"), "-o", image]) == 0
    assert main(["sign", image, "--role", "engineering", "--key", str(old)]) == 0
    assert verify(tmp_path, "image.twin", "engineering") == 0
    for role in ("engineering", "targets", "root"):
        assert main(["keys", "rotate", str(tmp_path / "keys"), role]) == 0
    assert main(["keys", "rotate", str(tmp_path / "keys"), "nobody"]) == 4
    assert main(["build", str(tmp_path / "image.toml"), "-o", image, "--force"]) == 0
    assert main(["sign", image, "--role", "engineering", "--key", str(old)]) == 4
    (new,) = set((tmp_path / "keys/private").glob("engineering.*.pem")) - {old}
    assert main(["sign", image, "--role", "engineering", "--key", str(new)]) == 0
    assert verify(tmp_path, "image.twin", "engineering") == 0
    old.unlink()
    next((tmp_path / "keys/private").glob("root.*.pem")).unlink()
    next((tmp_path / "keys/private").glob("root.*.pem")).unlink()
    assert main(["keys", "rotate", str(tmp_path / "keys"), "root"]) == 6


def test_a_root_file_system_for_another_machine_and_without_a_unit_is_refused_at_once(
    bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = make_tree(tmp_path / "tree")
    (tree / "usr/bin/busybox").write_bytes(elf_header("amd64"))
    (tree / "usr/lib/systemd/system/twinslot-deadline.service").unlink()
    make_ext4(tree, tmp_path / "rootfs.ext4")
    for name in ("firmware.bin", "notes.md"):
        (tmp_path / name).write_bytes((bench / name).read_bytes())
    (tmp_path / "image.toml").write_text(TOML.replace('trust = "keys"', f'trust = "{bench}/keys"'))
    assert main(["build", str(tmp_path / "image.toml"), "-o", str(tmp_path / "image.twin")]) == 4
    error = capsys.readouterr().err
    assert "usr/bin/busybox (EM_X86_64, 64 bit, little endian)" in error
    assert "'twinslot-deadline.service'" in error
    assert not (tmp_path / "image.twin").exists()


@pytest.mark.parametrize(
    ("old", "new", "status", "part"),
    [
        ("compatible =", "compatable =", 3, "compatible"),
        ("sequence = 7", "sequence = 0", 3, "'sequence' is wrong"),
        ('"pump-motor"', '"../../sh"', 3, "checks"),
        ('"release-notes.md"', '"../notes"', 3, "'attachments' is wrong"),
        ('"firmware.bin"', '"absent.bin"', 3, "absent.bin"),
        ('"notes.md"', '"absent.md"', 3, "absent.md"),
        ("2099-01-01T00:00:00Z", "1999-01-01T00:00:00Z", 3, "built"),
        ('trust = "keys"', 'trust = "nowhere"', 6, "keys init"),
    ],
)
def test_a_mistake_in_the_description_leaves_no_image(
    bench: Path, capsys: pytest.CaptureFixture[str], old: str, new: str, status: int, part: str
) -> None:
    toml, image = bench / "wrong.toml", bench / "wrong.twin"
    toml.write_text(TOML.replace(old, new))
    assert main(["build", str(toml), "-o", str(image)]) == status
    assert part in capsys.readouterr().err
    assert not image.exists()
    assert not list(bench.glob(".*"))


def test_missing_files_and_directories_are_named_and_no_traceback(
    bench: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = str(bench / "absent")
    for command in (
        ["inspect", absent],
        ["inspect", str(bench)],
        ["verify", absent, "--root", absent, "--roles", "a"],
        ["sign", absent, "--role", "a", "--key", absent],
        ["build", str(bench / "image.toml"), "-o", f"{absent}/x.twin"],
    ):
        assert main(command) == 6
        assert str(bench) in capsys.readouterr().err


def test_a_new_device_knows_the_release_that_it_left_the_factory_with(
    bench: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["provision", str(bench / "signed.twin"), "--slot", "b", "--record", str(tmp_path / "record.sqlite")]) == 0
    )
    printed = dict(line.split("=", 1) for line in capsys.readouterr().out.splitlines())
    assert {name: printed[name] for name in ("slot", "slot_a", "slot_b", "ts_sequence")} == {
        "slot": "b",
        "slot_a": "bad",
        "slot_b": "good",
        "ts_sequence": "7",
    }
    with Record(tmp_path, lambda: "", read_only=True) as record:
        known = record.slot(SlotName.B)
        assert known is not None
        assert known.release.name == "2026.11"
        assert set(known.payloads) == {"rootfs", "firmware"}
        assert record.first_broken_link() is None


def test_the_command_runs_as_a_program_and_minds_a_closed_pipe(bench: Path) -> None:
    program = [sys.executable, "-m", "twinslot_image"]
    done = subprocess.run([*program, "inspect", bench / "signed.twin"], capture_output=True, text=True, check=True)
    assert "Pump 2026.11" in done.stdout
    reader, writer = os.pipe()
    os.close(reader)
    closed = subprocess.run(
        [*program, "inspect", bench / "signed.twin"], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert (closed.returncode, closed.stderr) == (141, b"")
    assert subprocess.run(program, capture_output=True, check=False).returncode == 2


def test_the_man_page_names_every_command_and_option() -> None:
    page = (Path(__file__).parents[2] / "docs/man/twinslot-image.1").read_text()
    pending, options = [make_parser()], set[str]()
    while pending:
        for action in pending.pop()._actions:
            options |= {option for option in action.option_strings if option.startswith("--")}
            if isinstance(action.choices, dict):
                options |= set(action.choices)
                pending += action.choices.values()
    written = page.replace("Fl -", "--")  # mdoc's way of a long option
    missing = {option for option in options - {"--help", "--output"} if option not in written}
    assert not missing
