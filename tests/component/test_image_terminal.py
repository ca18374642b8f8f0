"""`twinslot-image` on a terminal, and what images would like to write there."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Targets  # type: ignore[attr-defined]

from image_samples import ATTACHMENTS, make_sample
from twinslot.core.canonical import encode
from twinslot.image.wire import TrustDocuments
from twinslot_image.cli import main
from twinslot_image.compose import AttachedFile

pytestmark = pytest.mark.slow

PROGRAM = [sys.executable, "-m", "twinslot_image"]
# Progress is shown for what takes more than a second; here for everything, so that no machine is too fast for it.
AT_ONCE = """
import sys
from twinslot_image import cli, progress
progress.QUIET_SECONDS = progress.TTY_SECONDS = 0
sys.exit(cli.main())
"""
SHOWING = [sys.executable, "-c", AT_ONCE]
ESCAPES = "\x1b[31;1mVERIFIED\x1b[0m"


def on_terminal(*arguments: object, columns: int = 80, program: list[str] = PROGRAM) -> tuple[int, str]:
    """Exit status, and everything that a terminal of this width got."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    job = subprocess.Popen([*program, *map(str, arguments)], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # EIO: the program has ended
        while data := os.read(ours, 65536):
            shown += data
    os.close(ours)
    return job.wait(), shown.decode()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A description with a payload of several groups, each of which is a step of the progress."""
    large = tmp_path_factory.mktemp("large")
    assert main(["keys", "init", str(large / "keys"), "--roles", "engineering"]) == 0
    (large / "firmware.bin").write_bytes(b"".join(b"%d line\n" % n for n in range(300_000)))
    (large / "image.toml").write_text(
        'product = "Pump"\nrelease = "1"\nsequence = 1\ncompatible = ["acme"]\ntrust = "keys"\nlevel = 3\n'
        '[payloads.firmware]\nfile = "firmware.bin"\ncheck = "none"\n'
    )
    return large


def test_progress_stays_on_one_line_of_the_terminal(large: Path, tmp_path: Path) -> None:
    columns = 50
    status, shown = on_terminal(
        "build", large / "image.toml", "-o", tmp_path / "out.twin", columns=columns, program=SHOWING
    )
    assert status == 0
    drawn, last = shown.split("\r\x1b[K")[1:-1], shown.rpartition("\r\x1b[K")[2]
    assert drawn
    assert all("\n" not in line and len(line) < columns for line in drawn)
    assert drawn[0].startswith("packing firmware: ")
    assert last.splitlines()[0] == f"{tmp_path}/out.twin: {last.splitlines()[0].rpartition(': ')[2]}"


def test_a_log_gets_lines_and_quiet_gets_none(large: Path, tmp_path: Path) -> None:
    command = [*SHOWING, "build", str(large / "image.toml"), "-o", str(tmp_path / "out.twin")]
    log = subprocess.run(command, capture_output=True, text=True, check=True).stderr.splitlines()
    assert 1 <= len(log) <= 11
    assert all(re.fullmatch(r"packing firmware: \d+ %, [^#\r\x1b]*", line) for line in log)
    quiet = subprocess.run([*command, "--quiet"], capture_output=True, text=True, check=True)
    assert quiet.stderr == ""


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """An image whose unverified texts would steer a terminal and forge a line."""
    roles = {
        name: DelegatedRole(name, [], 1, True, paths=["*"])
        for name in (f"eng{ESCAPES}", "a\n  role \u202eb", "c\x9b2J")
    }
    targets = Metadata(Targets(1, "1.0.31", datetime(2099, 1, 1, tzinfo=UTC), {}, Delegations({}, roles)))
    document = encode(targets.to_dict())
    notes = AttachedFile("notes.md", "text/markdown", f"# {ESCAPES}\n\tcolumn\r\n\x9b2J\n".encode())
    (tmp_path / "evil.twin").write_bytes(
        make_sample(attachments=(*ATTACHMENTS, notes), trust=TrustDocuments((), document)).data
    )
    return tmp_path / "evil.twin"


def clean(text: str) -> bool:
    return all(line.isprintable() for line in text.replace("\r\n", "\n").split("\n"))


@pytest.mark.verifies("REQ-CLI-03")
def test_names_in_an_image_reach_no_terminal_raw(
    evil: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, shown = on_terminal("inspect", evil)
    assert (status, clean(shown)) == (0, True)
    assert "eng\N{REPLACEMENT CHARACTER}[31;1mVERIFIED" in shown
    assert len([line for line in shown.splitlines() if line.startswith("  role")]) == 1, "its head, and no name"
    for arguments in (
        ("verify", evil, "--root", tmp_path / "absent", "--roles", ESCAPES),
        ("sign", evil, "--role", ESCAPES, "--key", f"env:{ESCAPES}"),
        ("sign", evil, "--role", "a", "--key", evil),
        ("inspect", tmp_path / f"{ESCAPES}\nfile"),
        ("build", tmp_path / ESCAPES, "-o", tmp_path / ESCAPES),
        ("extract-attachment", evil, ESCAPES),
        (ESCAPES,),
        ("inspect", f"--{ESCAPES}"),
    ):
        assert main([str(argument) for argument in arguments]) in (2, 3, 4, 6), arguments
        shown = "".join(capsys.readouterr())
        assert shown
        assert clean(shown), arguments


@pytest.mark.parametrize("to", [(), ("-o", "-"), ("-o", "/dev/stdout")])
def test_an_attachment_steers_no_terminal_and_goes_elsewhere_as_it_is(evil: Path, to: tuple[str, ...]) -> None:
    status, shown = on_terminal("extract-attachment", evil, "notes.md", *to)
    assert (status, clean(shown)) == (0, True)
    assert "        column" in shown
    raw = subprocess.run([*PROGRAM, "extract-attachment", str(evil), "notes.md", *to], capture_output=True, check=True)
    assert b"\x1b[31;1mVERIFIED" in raw.stdout
