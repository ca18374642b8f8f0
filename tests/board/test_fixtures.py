"""The fixtures on a real board: up in seconds, evidence of what failed, and the first cause of a board that is dead."""

from __future__ import annotations

from pathlib import Path

import pytest

from twinslot_lab.board import Board
from twinslot_lab.boot_log import BootLog
from twinslot_lab.device import Device, EmulatedDevice, open_board
from twinslot_lab.power import Power
from twinslot_lab.present_console import PresentConsole
from twinslot_lab.product import Product

pytestmark = pytest.mark.board
pytest_plugins = ["pytester"]
WITH_THE_LAB = ("-p", "twinslot_lab.plugin")


def test_two_boards_of_a_session_go_on_from_the_same_start(device: Device, board: Board, artifacts: Path) -> None:
    again = open_board(device, artifacts / "again", running=True)
    boots = {one.check("cat", "/proc/sys/kernel/random/boot_id") for one in (board, again)}
    again.cut()
    assert len(boots) == 1, "neither was started anew: that takes many times as long"
    assert board.slot() == "a"


def test_the_boot_log_has_the_firmware_and_follows_a_power_cut(
    board: Board, boot_log: BootLog, console: PresentConsole, power: Power, product: Product
) -> None:
    assert product.status()["running"] == "a"
    first = boot_log.text
    assert first.startswith("U-Boot")
    assert "Starting kernel" in first
    power.cut_after(0.1)
    power.up(slot="a")
    assert boot_log.everything.count("Starting kernel") == 2
    assert boot_log.text.count("Starting kernel") == 1
    assert console.text() in boot_log.everything


FAILS = """
    def test_answers(board):
        assert board.slot() == "z"

    def test_hangs(board, power):
        board.check("sync")  # or there may be no journal yet on the disk of a board that is so young
        board.agent.start("sh", "-c", "kill -STOP $PPID")  # no more answers
        power.cut_after(1)
        assert board.slot() == "z"
"""


def test_a_failed_test_names_console_journal_and_disk(pytester: pytest.Pytester, device: Device) -> None:
    assert isinstance(device, EmulatedDevice)
    pytester.makepyfile(FAILS)
    result = pytester.runpytest(*WITH_THE_LAB, "--board", device.team.board.name)
    result.assert_outcomes(failed=2)
    paths = [line.split(": ", 1) for line in result.outlines if line.startswith(("console: ", "journal: ", "disk: "))]
    kinds = [kind for kind, _ in paths]
    assert sorted(set(kinds)) == ["console", "disk", "journal"]
    assert kinds.count("journal") == 2
    for kind, path in paths:
        file = Path(path.removesuffix(" (from the disk)"))
        if kind == "journal":
            assert "systemd" in file.read_text()
        assert file.stat().st_size > 0
    result.stdout.fnmatch_lines(["*journal.txt (from the disk)", "*cut after 1.000 s", "repeat with --power-seed=*"])


DEAD = """
import pytest
from twinslot.core.model import Floors, SlotName
from twinslot_image.factory.disk import assemble
from twinslot_image.factory.record import first_variables
from twinslot_lab import uboot
from twinslot_lab.build import BoardFiles
from twinslot_lab.description import load
from twinslot_lab.device import EmulatedDevice

@pytest.fixture(scope="session")
def device(tmp_path_factory):
    board, folder = load(), tmp_path_factory.mktemp("dead")
    (folder / board.firmware.image).write_bytes(uboot.build(board).read_bytes())
    variables = first_variables(SlotName.A, Floors(1, 0, 1))
    assemble(board.layout, folder / "disk.img", folder / "card.img", {}, variables)

    class Dead:
        factory = lambda self, release: BoardFiles(board, folder)
    return EmulatedDevice("dead", Dead())
"""


def test_a_board_without_a_system_fails_the_session_with_its_first_cause(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(DEAD)
    pytester.makepyfile("\n".join(f"def test_{n}(board): pass" for n in range(4)))
    result = pytester.runpytest(*WITH_THE_LAB)
    result.assert_outcomes(errors=4)
    said = [line for line in result.outlines if line.startswith("E ") and "no slot can be started" in line]
    assert "BoardError: Twinslot: no slot can be started" in said[0]
    broken = [line for line in result.outlines if "this board is broken: Twinslot: no slot can be started" in line]
    assert len([line for line in broken if line.startswith("E ")]) == 3
    result.stdout.fnmatch_lines(["console: *console.log"])
