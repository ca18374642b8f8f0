"""The two stories of the demo, on the simulated board."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulation.board import SimulatedBoard
from simulation.image import SmallImage
from twinslot.core.errors import RefusedError
from twinslot.core.model import SlotName
from twinslot.core.transaction import Outcome

OLD = SmallImage("1.0", 10)
NEW = SmallImage("2.0", 20)
SICK = SmallImage("3.0", 30, well=False)


@pytest.fixture
def board(tmp_path: Path) -> SimulatedBoard:
    board = SimulatedBoard(tmp_path, OLD, NEW, SICK)
    board.live()
    return board


def test_a_good_update_is_tried_and_committed(board: SimulatedBoard) -> None:
    board.install(NEW)
    assert board.wants_reboot
    board.live()
    assert board.system() is NEW
    assert board.environment()["slot_b"] == "good"
    assert board.environment()["ts_sequence"] == "20"
    with board.open_record() as record:
        (transaction,) = record.history()
    assert (transaction.outcome, transaction.reason) == (Outcome.COMMITTED, "")


def test_an_update_that_is_not_well_is_left_and_the_reason_is_kept(board: SimulatedBoard) -> None:
    board.install(SICK)
    board.live()
    assert board.system() is OLD
    assert board.environment()["slot_b"] == "bad"
    with board.open_record() as record:
        (transaction,) = record.history()
        assert (transaction.outcome, transaction.reason) == (Outcome.ROLLED_BACK, "unhealthy")
        assert record.failed() == {30: "unhealthy"}
        assert record.floors().sequence == 10


def test_a_release_that_rolled_back_is_refused_until_somebody_says_retry(board: SimulatedBoard) -> None:
    board.install(SICK)
    board.live()
    with pytest.raises(RefusedError, match="rolled back on this device before"):
        board.install(SICK)
    board.install(SICK, retry=True)
    assert board.wants_reboot


def test_back_and_forth_between_two_committed_slots(board: SimulatedBoard) -> None:
    board.install(NEW)
    board.live()
    board.engine().rollback(reason="try the old one")
    board.live()
    assert board.running is SlotName.A
    assert board.system() is OLD
    assert board.environment()["ts_sequence"] == "20"  # going back lowers nothing
