"""A data partition without room, without a right to write, or a process without descriptors, at any call of a trial.

The record only explains (S12): a healthy trial is committed and a sick one goes back, whichever call of boot, checks,
commit or rollback meets the fault, once or from there on.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from simulation.board import SimulatedBoard
from simulation.faults import EDGES, ERRNOS, KINDS, Faults, Shortages
from simulation.image import SmallImage

pytestmark = pytest.mark.slow

OLD = SmallImage("1.0", 10)
NEW = SmallImage("2.0", 20)
SICK = SmallImage("3.0", 30, well=False)
LOCKS = 4  # that a healthy trial takes up to its commit: boot, before and after the checks, commit
LIVES = 6 * int(os.environ.get("TWINSLOT_SEEDS", "1"))  # of each kind; lasting faults and single ones take turns


def trial(directory: Path, image: SmallImage) -> SimulatedBoard:
    """A board whose next start tries this release."""
    board = SimulatedBoard(directory, OLD, NEW, SICK)
    board.live()
    board.install(image)
    return board


def calls_of(directory: Path, kind: str, image: SmallImage) -> int:
    """How many calls of a whole trial this kind of fault can meet."""
    directory.mkdir()
    board = trial(directory, image)
    board.faults = Faults(kind)
    board.live()
    return board.faults.met


@pytest.mark.verifies("S12")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("image", [NEW, SICK], ids=["healthy", "sick"])
def test_a_trial_ends_as_it_should_whatever_call_on_the_record_fails(
    tmp_path: Path, kind: str, image: SmallImage
) -> None:
    calls = calls_of(tmp_path / "count", kind, image)
    for number, at in enumerate(range(1, calls + 1, max(1, calls // LIVES))):
        directory = tmp_path / "board"
        directory.mkdir()
        board = trial(directory, image)
        board.faults = Faults(kind, at, lasting=number % 2 == 0)
        board.live()
        where = f"{kind} at call {at}"
        assert board.faults.fired, where
        assert board.system() is (NEW if image is NEW else OLD), where
        assert board.environment()["slot_b"] == ("good" if image is NEW else "bad"), where
        if image is SICK:
            assert board.environment()["ts_reason"] == "unhealthy", where
        assert not list(board.data.glob("*damaged*")), f"{where}: a good record was set aside"
        board.faults = Faults()
        board.live()  # with the medium back, the record catches up
        with board.open_record() as record:
            assert record.current() is None, where
            assert record.first_broken_link() is None, where
        shutil.rmtree(directory)


@pytest.mark.verifies("S12")
def test_an_operators_commit_lands_whichever_call_on_the_record_fails_and_needs_no_second_try(tmp_path: Path) -> None:
    at, fired = 0, True
    while fired:
        at += 1
        board = trial(_made(tmp_path / "board"), NEW)
        board.start()
        board.verb("boot")
        board.faults = Faults("EIO", at)
        board.engine().commit()
        fired = bool(board.faults.fired)
        assert board.environment()["slot_b"] == "good", f"call {at}"
        shutil.rmtree(tmp_path / "board")
    assert at > 20


@pytest.mark.verifies("S6")
@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("image", [NEW, SICK], ids=["healthy", "sick"])
def test_a_trial_ends_as_it_should_whatever_call_of_lock_environment_or_checks_fails_once(
    tmp_path: Path, edge: str, image: SmallImage
) -> None:
    counting = trial(_made(tmp_path / "count"), image)
    counting.shortages = Shortages("EIO", edge)
    counting.live()
    calls = counting.shortages.met
    for at in range(1, calls + 1, max(1, calls // LIVES)):
        kind = ERRNOS[at % len(ERRNOS)]
        board = trial(_made(tmp_path / "board"), image)
        board.shortages = Shortages(kind, edge, at)
        board.live()
        where = f"{kind} at call {at} of {edge}"
        assert board.shortages.fired == 1, where
        if image is NEW:
            assert not board.gave_up, where
            assert (board.system(), board.environment()["slot_b"]) == (NEW, "good"), where
        else:  # where going back failed after the failed check, the unit that gives up starts, and then the next try
            board.live()
            assert board.system() is OLD, where
            assert board.environment()["ts_reason"] == "unhealthy", where
        shutil.rmtree(tmp_path / "board")


@pytest.mark.verifies("S6")
@pytest.mark.parametrize("edge", EDGES)
def test_a_fault_that_lasts_leaves_a_healthy_trial_to_the_deadline_and_the_next_start_goes_on(
    tmp_path: Path, edge: str
) -> None:
    for number, kind in enumerate(ERRNOS, 1):
        board = trial(_made(tmp_path / kind), NEW)
        met = {"lock": LOCKS, "environment read": len(ERRNOS)}.get(edge, 1)  # before the commit
        at = min(number, met)
        board.shortages = Shortages(kind, edge, at, lasting=True)
        board.live()
        where = f"{kind} from call {at} of {edge} on"
        assert board.shortages.fired, where
        assert not board.gave_up, f"{where}: our own lack became a verdict"
        assert board.environment()["slot_b"] == "trial", where
        assert not board.environment().get("ts_reason"), where
        board.shortages = Shortages()
        board.live()
        assert (board.system(), board.environment()["slot_b"]) == (NEW, "good"), where


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory
