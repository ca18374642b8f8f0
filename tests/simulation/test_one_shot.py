"""Updates on boards whose boot loader tries a slot once and says nothing of it: good, sick, and with power cuts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from simulation.board import SimulatedBoard, power_may_go
from simulation.image import SmallImage
from simulation.one_shot import LeavingBoard, MovingBoard, OneShotBoard
from simulation.power import Power
from simulation.test_power_cuts import assert_at_rest, memory
from twinslot.core.errors import RefusedError
from twinslot.core.model import Reason, SlotName
from twinslot.core.transaction import Outcome

OLD, NEW, SICK = SmallImage("1.0", 10), SmallImage("2.0", 20), SmallImage("3.0", 30, well=False)
KINDS = pytest.mark.parametrize("kind", [LeavingBoard, MovingBoard])
Kind = type[OneShotBoard]


@contextmanager
def board_of(kind: Kind) -> Iterator[OneShotBoard]:
    with TemporaryDirectory(dir=memory()) as directory:
        board = kind(Path(directory), OLD, NEW, SICK)
        board.live()
        yield board


def last(board: SimulatedBoard) -> tuple[Outcome | None, str]:
    with board.open_record() as record:
        assert record.current() is None
        told = next(iter(record.history()))
        return told.outcome, told.reason


def assert_failed(board: SimulatedBoard, image: SmallImage, reason: str) -> None:
    """The old system runs and says why; the release is refused, though the loader has said nothing (S13)."""
    assert board.running is SlotName.A
    assert last(board) == (Outcome.ROLLED_BACK, reason)
    environment = board.environment()
    assert (environment["slot_b"], environment["ts_failed"]) == ("bad", str(image.sequence))
    assert environment["ts_reason"] == reason
    assert (environment["slot"], environment["slot_a"], environment["upgrade_available"]) == ("a", "good", "0")
    with pytest.raises(RefusedError, match="rolled back"):
        board.install(image)


@KINDS
def test_a_good_update_is_tried_once_and_committed(kind: Kind) -> None:
    with board_of(kind) as board:
        board.install(NEW)
        board.live()
        assert board.system() is NEW
        assert last(board) == (Outcome.COMMITTED, "")
        assert_at_rest(board)


@KINDS
def test_a_sick_update_is_left_with_its_own_reason(kind: Kind) -> None:
    with board_of(kind) as board:
        board.install(SICK)
        board.live()
        assert_failed(board, SICK, Reason.UNHEALTHY)


@pytest.mark.verifies("S13")
@KINDS
def test_a_trial_that_never_reaches_the_client_is_not_booted_and_no_longer_armed(kind: Kind) -> None:
    with board_of(kind) as board:
        board.install(NEW)
        assert board.start() is SlotName.B  # the kernel panics or hangs, and the watchdog resets
        assert board.start() is SlotName.A
        board.run_units()
        assert_failed(board, NEW, Reason.NOT_BOOTED)


@KINDS
def test_a_slot_that_does_not_load_is_not_booted(kind: Kind) -> None:
    with board_of(kind) as board:
        board.install(NEW)
        board.disks[SlotName.B].fill(bytes(len(NEW.content)))
        assert board.start() is SlotName.A, "in the same start"
        board.run_units()
        assert_failed(board, NEW, Reason.NOT_BOOTED)


@KINDS
def test_a_reset_in_a_trial_that_came_up_is_a_reset(kind: Kind) -> None:
    with board_of(kind) as board:
        board.install(NEW)
        assert board.start() is SlotName.B
        board.verb("boot")
        assert board.start() is SlotName.A
        board.run_units()
        assert_failed(board, NEW, Reason.RESETS)


@KINDS
def test_armed_and_not_yet_reset_it_is_still_to_come_whatever_is_asked_meanwhile(kind: Kind) -> None:
    with board_of(kind) as board:
        board.install(NEW)
        for _ in range(2):
            board.verb("boot")
            with board.open_record() as record:
                current = record.current()
                assert current is not None
                assert current.state == "armed"
        board.live()
        assert board.system() is NEW


@pytest.mark.verifies("S7")
@KINDS
def test_the_way_back_is_not_overwritten_in_a_trial_although_the_loader_has_moved_back(kind: Kind) -> None:
    with board_of(kind) as board:
        board.install(NEW)
        assert board.start() is SlotName.B
        board.verb("boot")
        with pytest.raises(RefusedError, match="is the way back"):
            board.install(SICK)


@KINDS
def test_a_record_that_is_lost_after_arming_leaves_nothing_waiting(kind: Kind) -> None:
    with board_of(kind) as board:
        board.install(NEW)
        assert board.start() is SlotName.B
        board.lose_data()
        assert board.start() is SlotName.A
        board.run_units()
        assert_failed(board, NEW, Reason.NOT_BOOTED)


@KINDS
def test_a_lost_record_in_a_trial_that_is_well_is_still_committed(kind: Kind) -> None:
    with board_of(kind) as board:
        board.install(NEW)
        board.lose_data()
        board.live()
        assert board.system() is NEW
        assert board.environment()["slot_b"] == "good"


@pytest.mark.verifies("S13")
@pytest.mark.slow
@KINDS
@pytest.mark.parametrize("image", [NEW, SICK], ids=["good", "sick"])
def test_a_cut_at_any_call_ends_at_rest_in_a_system_that_was_kept(kind: Kind, image: SmallImage) -> None:
    """A cut in a trial is a rollback here: there is one try. None waits, none is forgotten, none brings up the sick."""
    cut, finished, outcomes = 0, False, set()
    while not finished:
        cut += 1
        with board_of(kind) as board:
            power = Power(cut, seed=cut)
            board.set_power(power)
            with power_may_go(board):
                board.install(image)
                board.live()
            finished = not power.off
            board.set_power(Power())
            armed = board.environment().get("slot_b") == "trial"
            board.live()
            assert board.system() in ((OLD, image) if image is NEW else (OLD,)), f"cut {cut}"
            assert_at_rest(board)
            with board.open_record() as record:
                told = record.current() or next(iter(record.history()), None)
                failed = image.sequence in record.failed()
            outcomes.add((told.outcome, told.reason) if told else None)
            if armed and board.system() is OLD:
                assert failed, f"cut {cut}: S13"
                assert board.environment()["ts_failed"] == str(image.sequence)
            if board.system() is OLD and image is NEW:  # and it can still be updated
                newer = replace(SICK, name="4.0", sequence=40, well=True) if failed else NEW
                board.releases[newer.content.ljust(len(board.disks[SlotName.A].content()), b"\0")] = newer
                board.install(newer)
                board.live()
                assert board.system() is newer, f"cut {cut}: the next install"
                assert_at_rest(board)
    reasons = {reason for outcome, reason in filter(None, outcomes) if outcome is Outcome.ROLLED_BACK}
    assert Reason.NOT_BOOTED in reasons
    assert reasons <= {Reason.NOT_BOOTED, Reason.RESETS, Reason.UNHEALTHY}
