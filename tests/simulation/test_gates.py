"""The gates of the device's policy, on a board: the same for every caller, asked where nothing was decided yet."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import pytest

from simulation.board import SimulatedBoard
from simulation.bootloader import SimulatedBootloader
from simulation.image import SmallImage, SmallStream
from twinslot.core.errors import RefusedError
from twinslot.core.model import SlotName
from twinslot.core.requests import InstallOptions
from twinslot.core.stream import ImageHead
from twinslot.engine.engine import Engine

OLD = SmallImage("1.0", 10)
NEW = SmallImage("2.0", 20)


@pytest.fixture
def board(tmp_path: Path) -> SimulatedBoard:
    board = SimulatedBoard(tmp_path, OLD, NEW)
    board.live()
    return board


@pytest.mark.verifies("S7")
def test_an_environment_that_turned_into_a_trial_while_the_image_came_is_noticed_before_anything_is_written(
    board: SimulatedBoard,
) -> None:
    class Late(SmallStream):
        def head(self) -> ImageHead:
            changes = {"slot_a": "trial", "slot_b": "good", "upgrade_available": "1"}
            SimulatedBootloader(board.card).write(changes)
            SimulatedBootloader(board.card).settle()
            return super().head()

    before = board.disks[SlotName.B].content()
    with pytest.raises(RefusedError, match="slot 'a' is on trial and slot 'b' is the way back"):
        board.engine().install(Late(NEW), InstallOptions(reboot=True))
    assert board.disks[SlotName.B].content() == before
    assert board.environment()["slot_b"] == "good"
    assert not board.wants_reboot


@pytest.mark.parametrize("restarts", [True, False])
@pytest.mark.parametrize("wished", [True, False, None])
def test_who_restarts_into_a_trial_is_decided_in_one_place_for_install_and_activate(
    board: SimulatedBoard, restarts: bool, wished: bool | None
) -> None:
    engine = Engine(dataclasses.replace(board.device(), restarts=restarts))
    armed = engine.install(SmallStream(NEW), InstallOptions(reboot=wished))
    expected = restarts if wished is None else wished
    assert (armed.state, board.wants_reboot) == ("armed", expected)
    board.wants_reboot = False
    assert engine.activate(reboot=wished).state == "armed"
    assert board.wants_reboot is expected


def test_what_waits_says_so_in_the_journal(board: SimulatedBoard, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert board.engine().install(SmallStream(NEW), InstallOptions(activate=False)).state == "written"
    assert "the update waits: the update is written and not activated" in caplog.text
    assert board.engine().activate().state == "armed"
    assert "the update waits: the next restart starts the other slot" in caplog.text
    assert not board.wants_reboot


def test_a_trial_that_is_left_restarts_whatever_the_configuration_says(tmp_path: Path) -> None:
    sick = SmallImage("3.0", 30, well=False)
    (tmp_path / "sick").mkdir()
    board = SimulatedBoard(tmp_path / "sick", OLD, sick)
    board.live()
    board.install(sick)
    board.start()
    board.engine().boot()
    board.engine().check()
    assert not board.device().restarts
    assert board.wants_reboot
