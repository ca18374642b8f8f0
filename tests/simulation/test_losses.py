"""Power goes at every storage call, and then something is lost as well: the environment or the data partition."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from simulation.board import SimulatedBoard, power_may_go
from simulation.image import SmallImage
from simulation.power import Power
from simulation.test_power_cuts import assert_at_rest, memory
from twinslot.core.errors import RefusedError
from twinslot.core.model import SlotName

FIRST = SmallImage("1.0", 10)
SECOND = SmallImage("2.0", 20)
THIRD = SmallImage("3.0", 30)
SICK = SmallImage("4.0", 40, well=False)


def cut_boards(image: SmallImage, seed: int = 0) -> Iterator[tuple[int, SimulatedBoard]]:
    """For each storage call of an update from slot b into slot a: the board whose power went there."""
    cut, finished = 0, False
    with TemporaryDirectory(dir=memory()) as before:
        ready = SimulatedBoard(Path(before), FIRST, SECOND, THIRD, SICK)
        ready.live()
        ready.install(SECOND)
        ready.live()
        assert ready.running is SlotName.B
        while not finished:
            cut += 1
            with TemporaryDirectory(dir=memory()) as directory:
                board = ready.twin(Path(directory))
                power = Power(cut, seed)
                board.set_power(power)
                with power_may_go(board):
                    board.install(image)
                    board.live()
                finished = not power.off
                if not finished:
                    yield cut, board
    assert cut > 20


def recorded_state(board: SimulatedBoard) -> str:
    """State of the open transaction, as the data partition has it."""
    with board.open_record() as record:
        transaction = record.current()
        newest = record.history(1)[0]
    return transaction.state if transaction else str(newest.outcome) + newest.release.name


@pytest.mark.verifies("S5", "S8")
@pytest.mark.slow
def test_both_environment_copies_lost_at_any_call_boots_the_complete_slot() -> None:
    seen = set()
    boards = itertools.chain.from_iterable(cut_boards(THIRD, seed) for seed in range(3))
    for cut, board in boards:
        state = recorded_state(board)
        seen.add(state)
        board.lose_environment(0, 1)
        board.live()
        # U-Boot's default starts slot a: still whole before the wipe, whole again and wanted once armed. In between
        # it does not load, or the client leaves it since nobody had armed it.
        expected = {"committed2.0": FIRST, "writing": SECOND, "written": SECOND}.get(state, THIRD)
        assert board.system() is expected, f"cut {cut} in state {state}"
        assert_at_rest(board)
        assert int(board.environment()["ts_sequence"]) >= SECOND.sequence, "the record kept the floor"
    assert {"writing", "written", "armed", "trial"} <= seen


@pytest.mark.verifies("S5")
@pytest.mark.slow
def test_with_the_environment_lost_a_torn_first_group_does_not_load() -> None:
    """Found by the crash states: then nothing but the superblock says whether slot a is whole (S5)."""
    for seed in range(8):
        for cut, board in cut_boards(THIRD, seed):
            board.lose_environment(0, 1)
            board.start()
            assert board.system() is not None, f"cut {cut}, seed {seed}: slot {board.running} starts, torn"


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_one_environment_copy_lost_at_any_call_still_ends_in_a_whole_system(lost: int) -> None:
    for cut, board in cut_boards(THIRD):
        board.lose_environment(lost)
        went_on = board.environment()["slot"] == "a"
        board.live()
        assert board.system() is (THIRD if went_on else SECOND), f"cut {cut}"
        assert_at_rest(board)


@pytest.mark.verifies("S25")
@pytest.mark.slow
def test_the_data_partition_lost_at_any_call_lowers_nothing_and_bricks_nothing() -> None:
    for cut, board in cut_boards(THIRD):
        went_on = board.environment()["slot"] == "a"
        board.lose_data()
        board.live()
        assert board.system() is (THIRD if went_on else SECOND), f"cut {cut}"
        with board.open_record() as record:
            told = [row.body["kind"] for row in record.audit_rows(1000) if row.event == "audit-broken"]
        assert told == ["begun-anew"], f"cut {cut}: the rows are gone, and that is told once"
        assert int(board.environment()["ts_sequence"]) == board.system().sequence  # type: ignore[union-attr]
        with pytest.raises(RefusedError, match="downgrade"):
            board.install(FIRST)


@pytest.mark.verifies("S13")
@pytest.mark.slow
def test_a_sick_release_is_remembered_although_the_data_partition_was_lost() -> None:
    for cut, board in cut_boards(SICK):
        was_armed = board.environment().get("ts_release") or board.environment().get("ts_failed")
        board.lose_data()
        board.live()
        assert board.system() is SECOND, f"cut {cut}"
        if was_armed:
            with pytest.raises(RefusedError, match="rolled back on this device before"):
                board.install(SICK)


@pytest.mark.verifies("S8")
def test_a_lost_environment_does_not_bring_back_a_slot_below_the_security_epoch(tmp_path: Path) -> None:
    fixed = SmallImage("5.0", 50, epoch=1)
    board = SimulatedBoard(tmp_path, FIRST, fixed)
    board.live()
    board.install(fixed)
    board.live()
    assert board.environment()["slot_a"] == "bad"
    board.lose_environment(0, 1)
    assert board.start() is SlotName.A, "U-Boot's default cannot know"
    board.run_units()
    assert board.wants_reboot
    board.live()
    assert board.system() is fixed
    assert board.environment()["slot_a"] == "bad"
    assert board.environment()["ts_epoch"] == "1"
