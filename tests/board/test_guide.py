"""docs/testing-your-device.md, word for word: its files are written, its commands are run, on a board."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from twinslot_lab.command import ROOT
from twinslot_lab.device import RealDevice, find
from twinslot_lab.release import PRODUCT, ReleaseTeam

PAGE = ROOT / "docs" / "testing-your-device.md"
EXAMPLE = ROOT / "docs" / "example"
_BLOCK = re.compile(r"^```(\w*) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TIME = 1500  # seconds for any of the commands
OF_A_DEVICE = "config.toml"  # of docs/example: no file of this page, tests/unit/test_cli_manual.py loads it


def blocks() -> dict[str, tuple[str, str]]:
    """Name -> language and text of each block."""
    return {name: (language, text) for language, name, text in _BLOCK.findall(PAGE.read_text())}


def run_block(name: str, folder: Path, *, dry: bool = False) -> str:
    """A shell block, with this Python's programs on the path; returns its output. `dry`: pip only tells."""
    text = blocks()[name][1]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["sh", "-eu", "-c", text.replace("pip install", "pip install --dry-run --no-deps") if dry else text],
        cwd=folder,
        env=os.environ | {"PATH": path, "TWINSLOT": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIME,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A reader's directory with the files of the page."""
    for name, (language, text) in blocks().items():
        if language != "sh":
            (tmp_path / name).write_text(text)
    return tmp_path


def test_every_block_of_the_page_has_a_name_and_is_run_here() -> None:
    found = [(language, name) for language, name, _ in _BLOCK.findall(PAGE.read_text())]
    assert PAGE.read_text().count("```") == 2 * len(found)
    assert [name for language, name in found if language == "sh"] == ["install", "first", "cut"]
    assert {language for language, _ in found} == {"sh", "toml", "python"}
    files = {name: text for name, (language, text) in blocks().items() if language != "sh"}
    examples = {path.name: path.read_text() for path in EXAMPLE.iterdir() if path.name != OF_A_DEVICE}
    assert examples == files, "docs/example has the same files"
    for name in (name for name in files if name.startswith("test_")):
        assert any(name in text for language, text in blocks().values() if language == "sh"), f"{name} is run"


def test_the_description_of_a_real_board_is_understood(project: Path) -> None:
    from twinslot_lab import serial_board

    found = find(str(project / "desk.toml"))
    assert isinstance(found, RealDevice)
    about = serial_board.parse(found.data)
    assert (about.power.on, about.power.cut) == ("./power on", "./power cut")
    assert found.host == "192.168.7.1"


@pytest.mark.slow
def test_what_the_page_installs_is_there(tmp_path: Path) -> None:
    """pip works out the checkout's distributions; it is told to fetch and install nothing."""
    said = run_block("install", tmp_path, dry=True)
    for name in ("twinslot", "twinslot-image", "twinslot-lab"):
        assert re.search(rf"Would install.* {name}-\d", said), said


@pytest.mark.board
@pytest.mark.long
def test_a_reader_gets_from_nothing_to_a_power_cut(project: Path) -> None:
    (project / "rootfs").symlink_to(ReleaseTeam()._product_tree())
    shutil.copytree(PRODUCT, project / "test-files", symlinks=True)
    (project / "test-files/usr/lib/product").mkdir()
    (project / "test-files/usr/lib/product/motor").write_text("ready\n")  # or its health check would end every trial
    assert "1 passed" in run_block("first", project)
    assert "1 passed" in run_block("cut", project)
