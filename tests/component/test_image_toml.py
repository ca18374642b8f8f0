"""Each key of image.toml changes what is built, or whether it is built: none is accepted and read by nobody."""

from __future__ import annotations

from pathlib import Path

import pytest

from rootfs_samples import elf_header, make_ext4, make_tree
from twinslot_image.cli import main
from twinslot_image.description import ATTACHMENT_KEYS, CHANGE_KEYS, FROM_KEYS, PAYLOAD_KEYS, SOURCE_KEYS, TOP_KEYS

BASE = """
product = "Pump"
release = "1"
sequence = 7
compatible = "acme,pump-3"
trust = "keys"
[payloads.firmware]
file = "firmware.bin"
check = "none"
[attachments.notes]
file = "notes.md"
"""
ROOTFS = """
product = "Pump"
release = "1"
sequence = 7
compatible = "acme,pump-3"
trust = "keys"
architecture = "arm64"
[payloads.rootfs]
file = "rootfs.ext4"
"""
# Key -> what stands in the file, and what takes its place.
CHANGES = {
    "product": ('"Pump"', '"Monitor"'),
    "release": ('release = "1"', 'release = "2"'),
    "sequence": ("sequence = 7", "sequence = 8"),
    "epoch": ("sequence = 7", "sequence = 7\nepoch = 1"),
    "type": ("sequence = 7", 'sequence = 7\ntype = "security"'),
    "compatible": ('"acme,pump-3"', '["acme,pump-3", "acme,pump-4"]'),
    "hardware": ("sequence = 7", 'sequence = 7\nhardware = "rev-b"'),
    "variants": ("sequence = 7", 'sequence = 7\nvariants = ["ward"]'),
    "from": ("[payloads.firmware]", "[from]\nlowest = 3\n[payloads.firmware]"),
    "lowest": ("[payloads.firmware]", "[from]\nlowest = 4\n[payloads.firmware]"),
    "highest": ("[payloads.firmware]", "[from]\nhighest = 6\n[payloads.firmware]"),
    "source": ("[payloads.firmware]", '[source]\ntag = "v1"\n[payloads.firmware]'),
    "change": ("[payloads.firmware]", '[change]\nclass = "model"\n[payloads.firmware]'),
    "class": ("[payloads.firmware]", '[change]\nclass = "corrective"\n[payloads.firmware]'),
    "markets": ("[payloads.firmware]", '[change]\nmarkets = ["us", "eu"]\n[payloads.firmware]'),
    "regulatory": ("[payloads.firmware]", '[change]\nregulatory = { 510k = "K261234" }\n[payloads.firmware]'),
    "commit": ("[payloads.firmware]", f'[source]\ncommit = "{"c" * 40}"\n[payloads.firmware]'),
    "tag": ("[payloads.firmware]", '[source]\ntag = "v2"\n[payloads.firmware]'),
    "build": ("[payloads.firmware]", '[source]\nbuild = "job 17"\n[payloads.firmware]'),
    "builder": ("[payloads.firmware]", '[source]\nbuilder = "https://ci.example"\n[payloads.firmware]'),
    "checks": ("sequence = 7", 'sequence = 7\nchecks = ["10-motor"]'),
    "trust": ('"keys"', '"other"'),
    "valid_days": ("sequence = 7", "sequence = 7\nvalid_days = 30"),
    "expires": ("sequence = 7", "sequence = 7\nexpires = 2099-01-01T00:00:00Z"),
    "group_size": ("sequence = 7", "sequence = 7\ngroup_size = 4096"),
    "level": ("sequence = 7", "sequence = 7\nlevel = 1"),
    "payloads": ("[payloads.firmware]", "[payloads.bootloader]"),
    "attachments": ("[attachments.notes]", "[attachments.news]"),
    "file": ('"firmware.bin"', '"notes.md"'),
    "media_type": ('file = "notes.md"', 'file = "notes.md"\nmedia_type = "text/plain"'),
}
# Key -> as above, for a root file system with one program for another machine: refused, and built.
GATES = {
    "check": ('file = "rootfs.ext4"', 'file = "rootfs.ext4"\ncheck = "none"'),
    "kind": ('file = "rootfs.ext4"', 'file = "rootfs.ext4"\nkind = "raw"'),
    "foreign": ('file = "rootfs.ext4"', 'file = "rootfs.ext4"\nforeign = "usr/bin/*"'),
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two key directories, and a file for each payload and attachment."""
    bench = tmp_path_factory.mktemp("bench")
    for name in ("keys", "other"):
        assert main(["keys", "init", str(bench / name), "--roles", "engineering"]) == 0
    words = (f"line {number * 7919 % 1000} of {number}\n" for number in range(9000))
    (bench / "firmware.bin").write_text("".join(words))
    (bench / "notes.md").write_text("# 1\n")
    tree = make_tree(bench / "tree")
    (tree / "usr/bin/busybox").write_bytes(elf_header("amd64"))
    make_ext4(tree, bench / "rootfs.ext4")
    return bench


def build(bench: Path, text: str) -> tuple[int, bytes]:
    (bench / "image.toml").write_text(text)
    status = main(["build", str(bench / "image.toml"), "-o", str(bench / "out.twin")])
    data = (bench / "out.twin").read_bytes() if status == 0 else b""
    (bench / "out.twin").unlink(missing_ok=True)
    return status, data


def test_every_key_is_tried_here() -> None:
    # Below, in test_encrypted_install.py, in test_release_gate.py and in test_sbom.py.
    elsewhere = {"architecture", "encryption", "policy", "sbom", "spdx"}
    assert CHANGES.keys() | GATES.keys() | elsewhere == {
        *(*TOP_KEYS, *PAYLOAD_KEYS, *ATTACHMENT_KEYS, *FROM_KEYS, *SOURCE_KEYS, *CHANGE_KEYS)
    }


@pytest.mark.parametrize("key", CHANGES)
def test_each_key_changes_the_image(bench: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1790000000")
    old, new = CHANGES[key]
    assert old in BASE
    before, after = build(bench, BASE), build(bench, BASE.replace(old, new, 1))
    assert (before[0], after[0]) == (0, 0)
    assert before[1] != after[1]


@pytest.mark.parametrize("key", GATES)
def test_each_key_of_the_gate_decides_whether_there_is_an_image(bench: Path, key: str) -> None:
    old, new = GATES[key]
    assert old in ROOTFS
    assert build(bench, ROOTFS)[0] == 4
    assert build(bench, ROOTFS.replace(old, new, 1))[0] == 0


def test_the_architecture_decides_which_programs_are_for_another_machine(
    bench: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for architecture, offends in (("arm64", True), ("amd64", False)):
        assert build(bench, ROOTFS.replace('"arm64"', f'"{architecture}"'))[0] == 4, "programs of both kinds are in it"
        assert ("usr/bin/busybox (" in capsys.readouterr().err) is offends
