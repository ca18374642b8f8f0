"""What the build host's tool is given and cannot use: files without end, odd names, a Python without its libraries."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rootfs_samples import make_ext4, make_tree
from twinslot_image.cli import main
from twinslot_image.named_file import SMALL_MAX

TOML = """
product = "Pump"
release = "1.0"
sequence = 1
compatible = ["acme,pump-3"]
trust = "keys"
[payloads.rootfs]
file = "rootfs.img"
check = "none"
[attachments."notes.md"]
file = "notes.md"
"""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bench = tmp_path_factory.mktemp("bench")
    make_ext4(make_tree(bench / "tree"), bench / "rootfs.img")
    (bench / "notes.md").write_text("The alarm is louder.\n")
    (bench / "image.toml").write_text(TOML)
    (bench / "fw_env.config").write_text("card 0x0 0x4000\ncard 0x400000 0x4000\n")
    with (bench / "endless").open("wb") as file:
        file.truncate(SMALL_MAX + 1)
    assert main(["keys", "init", str(bench / "keys"), "--roles", "engineering"]) == 0
    assert main(["build", str(bench / "image.toml"), "-o", str(bench / "pump.twin")]) == 0
    return bench


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("verify pump.twin --root endless --roles engineering", 6),
        ("sign pump.twin --role engineering --key endless", 6),
        ("keys add keys engineering endless", 6),
        ("provision pump.twin --record r --environment card --fw-env-config endless", 6),
        ("build endless -o x.twin", 3),
        ("build attached.toml -o x.twin", 3),
    ],
)
def test_a_small_file_that_does_not_end_is_refused_before_it_fills_the_memory(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, status: int
) -> None:
    monkeypatch.chdir(bench)
    Path("attached.toml").write_text(TOML.replace('"notes.md"\n', '"endless"\n'))
    assert main(command.split()) == status
    error = capsys.readouterr().err
    assert "'endless'" in error
    assert "File too large" in error


def test_a_date_before_the_build_is_called_by_its_key(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bench / "odd.toml").write_text(TOML.replace("trust", "expires = 2020-01-01T00:00:00Z\ntrust"))
    assert main(["build", str(bench / "odd.toml"), "-o", str(bench / "x.twin")]) == 3
    error = capsys.readouterr().err
    assert "the image would be stale when it is built: expected \"'expires' after" in error


def test_an_attachment_of_no_bytes_is_named_by_its_file(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bench / "empty").touch()
    (bench / "odd.toml").write_text(TOML.replace('"notes.md"\n', '"empty"\n'))
    assert main(["build", str(bench / "odd.toml"), "-o", str(bench / "x.twin")]) == 3
    error = capsys.readouterr().err
    assert f"'{bench / 'empty'}', which the description names, cannot be attached" in error
    assert "1 to 4194304 bytes" in error


@pytest.mark.parametrize(("payload", "found"), [("/dev/zero", "a device, pipe or socket"), ("keys", "a directory")])
def test_a_payload_that_is_no_regular_file_is_not_called_missing(
    bench: Path, capsys: pytest.CaptureFixture[str], payload: str, found: str
) -> None:
    (bench / "odd.toml").write_text(TOML.replace("rootfs.img", payload))
    assert main(["build", str(bench / "odd.toml"), "-o", str(bench / "x.twin")]) == 3
    error = capsys.readouterr().err
    assert "which the description names, is no regular file" in error
    assert found in error


def test_a_variable_whose_name_is_no_utf8_is_one_that_is_not_set(
    bench: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sign", str(bench / "pump.twin"), "--role", "engineering", "--key", "env:K\udcff"]) == 6
    assert "is not set" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["sign pump.twin --detached-payload", "patch pump.twin pump.twin -o"])
def test_an_empty_name_is_no_place_for_an_output(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.chdir(bench)
    assert main([*command.split(), ""]) == 6
    assert "cannot write to ''" in capsys.readouterr().err


READ_TWICE = [
    "inspect PIPE",
    "blocks PIPE -o x.twinblocks",
    "extract-attachment PIPE notes.md",
    "provision PIPE --record r",
    "patch PIPE pump.twin -o x.twinpatch",
    "patch pump.twin PIPE -o x.twinpatch",
]


@pytest.mark.parametrize("command", READ_TWICE)
def test_an_image_from_a_pipe_is_not_called_damaged_where_it_is_read_twice(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.chdir(bench)
    reader, writer = os.pipe()
    os.write(writer, Path("pump.twin").read_bytes()[:4096])
    os.close(writer)
    try:
        assert main(command.replace("PIPE", f"/dev/fd/{reader}").split()) == 6
    finally:
        os.close(reader)
    assert "cannot be read more than once" in capsys.readouterr().err
    assert not [path for path in bench.iterdir() if path.name in ("r", "x.twinblocks", "x.twinpatch")]


def test_an_image_from_a_pipe_can_be_verified(bench: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(bench)
    Path("piped.twin").write_bytes(Path("pump.twin").read_bytes())
    key = next(Path("keys/private").glob("engineering.*"))
    assert main(["sign", "piped.twin", "--role", "engineering", "--key", str(key)]) == 0
    with subprocess.Popen(["cat", "piped.twin"], stdout=subprocess.PIPE) as cat:
        assert cat.stdout
        pipe = f"/dev/fd/{cat.stdout.fileno()}"
        assert main(["verify", pipe, "--root", "keys/1.root.json", "--roles", "engineering"]) == 0


@pytest.mark.root
def test_an_output_that_cannot_be_had_is_called_as_it_was_given(
    bench: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with full_directory(bench / "full") as full:
        for command in ("build image.toml -o full/x.twin", "provision pump.twin --record full/r"):
            assert main([str(bench / word) if "." in word or "/" in word else word for word in command.split()]) == 6
            error = capsys.readouterr().err
            assert f"'{full}'" in error
            assert "tmp" not in error.replace(str(bench), "")
            assert ".twinslot-" not in error
        assert not list(full.iterdir())
    assert main(["build", str(bench / "image.toml"), "-o", "/dev/fd/987"]) == 6
    assert "cannot write to '/dev/fd/987'" in capsys.readouterr().err


@contextmanager
def full_directory(path: Path) -> Iterator[Path]:
    """A file system without a free inode, in which no file can be made."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=1,size=64k", "none", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


@pytest.mark.parametrize(
    ("command", "closed"),
    [("build image.toml -o closed.twin --force", "<&- >&- 2>&-"), ("blocks pump.twin --force", "2>&-")],
)
def test_work_is_done_without_streams_for_people(bench: Path, closed: str, command: str) -> None:
    """And nothing that is said goes into a file that got the number of a closed stream."""
    script = f"'{sys.executable}' -m twinslot_image {command} {closed}"
    assert subprocess.run(["sh", "-c", script], cwd=bench).returncode == 0
    done = main(["inspect", str(bench / ("closed.twin" if "closed" in command else "pump.twinblocks"))])
    assert done == 0


WITHOUT = """
import sys
for name in ("elftools", "numpy"):
    sys.modules[name] = None  # as if it were not installed
from twinslot_image.cli import main
for command in sys.argv[1:]:
    print(main(command.split()), flush=True)
"""


def test_without_the_extra_only_what_needs_it_fails_and_says_what_to_install(bench: Path) -> None:
    (bench / "checked.toml").write_text(
        TOML.replace('check = "none"', "").replace("trust", 'architecture = "arm64"\ntrust')
    )
    key = next((bench / "keys/private").glob("engineering.*"))
    commands = (
        ("--version", 0),
        ("--help", 0),
        ("keys list keys", 0),
        ("build image.toml -o plain.twin", 0),
        (f"sign plain.twin --role engineering --key {key}", 0),
        ("verify plain.twin --root keys/1.root.json --roles engineering", 0),
        ("build checked.toml -o checked.twin", 6),
        ("patch pump.twin plain.twin -o x.twinpatch", 6),
    )
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, *(command for command, _ in commands)],
        cwd=bench,
        capture_output=True,
        text=True,
        check=True,
    )
    assert [int(line) for line in done.stdout.splitlines() if line.isdigit()] == [status for _, status in commands]
    problems = [line for line in done.stderr.splitlines() if line.startswith(("twinslot-image: ", "  hint: "))]
    hint = "  hint: install 'twinslot-image' with all that it depends on, for example with 'pip install'"
    assert problems == [
        "twinslot-image: the library 'elftools' is missing or cannot be loaded",
        hint,
        "twinslot-image: 'patch' needs NumPy",
        hint,
    ]
    assert not (bench / "checked.twin").exists()


OTHERS = {
    "empty": b"",
    "text": b"# Notes\n",
    "junk": b"\xb5\x69\xff\x00" * 25,
    "deep": b"[" * 100_000,
    "fields": b'{"payload": "e30=", "payloadType": "x", "signatures": [{"keyid": "", "sig": ""}]}',
    "number": b"NaN",
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize(
    "command",
    [
        "audit verify FILE --key key.pem",
        "audit verify audit --key FILE",
        "explain FILE last --key key.pem",
        "verify-attestation FILE --key key.pem",
        "inventory FILE --key key.pem",
        "reports FILE",
        "keys finish keys FILE",
        "dossier make FILE --key key.pem -o out",
        "factory pump.twin --board FILE --root keys/1.root.json -o out",
        "sbom FILE",
        "diff FILE pump.twin",
        "approve pump.twin --attach FILE --statement FILE",
        "provenance pump.twin --role engineering --attach FILE --statement FILE",
        "verify pump.twin --root FILE --roles engineering",
        "build FILE -o out",
    ],
)
def test_a_file_of_another_kind_is_told_of_without_words_of_python(
    bench: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, name: str
) -> None:
    monkeypatch.chdir(bench)
    (bench / "other").write_bytes(OTHERS[name])
    for sample, file in (("audit/pump.pem", "key.pem"), ("audit/pump.audit", "audit")):
        shutil.copy(Path(__file__).parents[1] / "data/0.1.0" / sample, bench / file)
    status = main(command.replace("FILE", "other").split())
    printed = capsys.readouterr()
    assert status in ((0,) if command == "reports FILE" else (3, 4, 6))
    said = printed.out + printed.err
    assert not re.search(r"codec|Expecting|Extra data|[a-z]Error\b|object at|NoneType|\bdict\b|Errno", said), said


def test_only_a_build_is_told_how_to_leave_a_payload_unread(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bench / "other").write_bytes(b"firmware")
    assert main(["sbom", str(bench / "other")]) == 3
    assert "check = " not in capsys.readouterr().err
