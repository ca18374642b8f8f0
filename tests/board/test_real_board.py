"""A board that is reached by a serial line and a power command, and by nothing else.

There is no real one here. Its place takes a QEMU that a program of its own switches on and off, with its console on a
TCP port: no monitor, no port for the agent, no look at its disks while it runs.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from twinslot_lab.build import BoardFiles
from twinslot_lab.command import run
from twinslot_lab.demo import FACTORY, GOOD
from twinslot_lab.errors import BoardError
from twinslot_lab.fileserver import FileServer
from twinslot_lab.product import Product
from twinslot_lab.release import ReleaseTeam
from twinslot_lab.serial_board import SerialBoard

pytestmark = pytest.mark.board
pytest_plugins = ["pytester"]
WITH_THE_LAB = ("-p", "twinslot_lab.plugin")
SCRIPT = Path(__file__).with_name("power_script.py")


def machine(folder: Path, port: int) -> list[str]:
    """QEMU's command line: what a desk has, as far as QEMU can."""
    raw = "format=raw,cache=writethrough"
    return [
        *("qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a53", "-smp", "2", "-m", "1024"),
        *("-nodefaults", "-display", "none", "-bios", f"{folder}/u-boot.bin"),
        *("-serial", f"tcp:127.0.0.1:{port},server=on,wait=on"),
        *("-drive", f"if=none,id=disk,file={folder}/disk.img,{raw}", "-device", "virtio-blk-pci,drive=disk"),
        *("-drive", f"if=none,id=card,file={folder}/card.img,{raw}"),
        *("-device", "sdhci-pci", "-device", "sd-card,drive=card"),
        *("-nic", "user,model=virtio-net-pci", "-device", "virtio-rng-pci", "-device", "i6300esb"),
        *("-action", "watchdog=reset"),
    ]


def on_a_desk(files: BoardFiles, folder: Path) -> dict[str, Any]:
    """Such a board in a folder, off; returns what its user would write in its TOML file."""
    folder.mkdir()
    for file in (files.firmware, files.disk, files.card):
        run("cp", "--sparse=always", file, folder / file.name)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "machine.json").write_text(json.dumps(machine(folder, port)))
    return {
        "name": "desk",
        "kind": "real",
        "host": "10.0.2.2",
        "listen": "127.0.0.1",
        "console": {"url": f"socket://127.0.0.1:{port}"},
        "power": {verb: f"{sys.executable} {SCRIPT} {folder} {verb}" for verb in ("on", "cut")},
    }


@pytest.fixture
def desk(team: ReleaseTeam, artifacts: Path) -> Iterator[dict[str, Any]]:
    data = on_a_desk(team.factory(FACTORY), artifacts / "desk")
    yield data
    subprocess.run(data["power"]["cut"].split(), check=True)
    (artifacts / "desk" / "disk.img").unlink()


@pytest.mark.long
def test_an_update_over_a_serial_line_commits_and_survives_a_power_cut(
    team: ReleaseTeam, desk: dict[str, Any], artifacts: Path
) -> None:
    image = team.image(GOOD)
    with SerialBoard.open(desk, artifacts) as board:
        board.power_on()
        first = board.wait_up(slot="a")
        board.put("/run/there-and-back", bytes(range(256)) * 200)
        assert board.get("/run/there-and-back") == bytes(range(256)) * 200
        with FileServer(image.path.parent) as server:
            Product(board).install(server.url(image.path.name))
        board.reboot()
        board.wait_up(slot="b", through_failures=True)
        assert Product(board).wait_idle()["slots"]["b"]["state"] == "good"

        board.cut()
        with pytest.raises(BoardError, match="the board is off"):
            board.run("true")
        board.power_on()
        assert board.wait_up(slot="b").boot != first.boot
        assert Product(board).digest_of_root(image.slot.stat().st_size) == image.digest
    said = board.log.read_text()
    assert said.count("Starting kernel") == 3
    assert "\x1e" not in said
    assert '"exit"' not in said, "what the agent says is no part of the log, unless the kernel spoke in between"


STORY = """
def test_a_board_comes_back_from_a_power_cut(board, power, console, boot_log):
    boot = board.check("cat", "/proc/sys/kernel/random/boot_id")
    board.check("sh", "-c", "echo kept > /var/lib/x; sync")
    power.cut()
    power.up(slot="a")
    assert board.check("cat", "/proc/sys/kernel/random/boot_id") != boot
    assert board.check("cat", "/var/lib/x") == "kept\\n"
    assert "Twinslot: start slot a" in boot_log
    assert "Starting kernel" in console.text()

def test_a_board_that_panics_resets_itself(board):
    board.agent.start("sh", "-c", "echo c > /proc/sysrq-trigger")
    board.wait_up(slot="a", through_failures=True)
"""


@pytest.mark.parametrize("kind", ["emulated", "real"])
def test_the_same_tests_run_on_an_emulated_and_on_a_real_board(
    pytester: pytest.Pytester, desk: dict[str, Any], kind: str
) -> None:
    lines = [f"{key} = {json.dumps(value)}" for key, value in desk.items() if isinstance(value, str)]
    for table in ("console", "power"):
        lines += [f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in desk[table].items())]
    file = pytester.path / "desk.toml"
    file.write_text("\n".join(lines) + "\n")
    pytester.makepyfile(STORY)
    result = pytester.runpytest(*WITH_THE_LAB, "--board", "virt-arm64" if kind == "emulated" else str(file))
    result.assert_outcomes(passed=2)
