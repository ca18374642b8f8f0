"""More of what a hostile reading found: losses that nobody had thought of, and bits that flip in the record."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import sqlite3
from pathlib import Path

import pytest

from simulation.board import SimulatedBoard
from simulation.image import SmallImage, SmallStream
from twinslot.core.errors import RefusedError, TwinslotError
from twinslot.core.model import SlotName
from twinslot.core.requests import InstallOptions
from twinslot.core.transaction import Outcome

OLD, NEW, SICK, NEWER = (
    SmallImage("1.0", 10),
    SmallImage("2.0", 20),
    SmallImage("3.0", 30, well=False),
    SmallImage("4.0", 40),
)


@pytest.fixture
def board(tmp_path: Path) -> SimulatedBoard:
    board = SimulatedBoard(tmp_path, OLD, NEW, SICK, NEWER)
    board.live()
    return board


def test_a_lost_environment_does_not_keep_a_release_that_rolled_back(board: SimulatedBoard) -> None:
    board.install(NEW)
    board.live()
    board.install(SICK)  # into slot a, and back again
    board.live()
    assert (board.system(), board.environment()["slot_a"]) == (NEW, "bad")
    board.lose_environment(0, 1)
    board.live()  # U-Boot's default starts slot a, which is whole, and which the record does not vouch for
    assert board.system() is NEW
    assert board.environment()["slot_a"] == "bad"


def test_a_lost_environment_does_not_keep_a_release_that_was_cancelled(board: SimulatedBoard) -> None:
    board.install(NEW)
    board.live()
    board.install(NEWER, reboot=False)
    board.engine().cancel()
    board.lose_environment(0, 1)
    board.live()
    assert board.system() is NEW, "never tried, never checked, never committed"


def test_a_flipped_top_bit_in_the_record(board: SimulatedBoard) -> None:
    board.install(NEW, activate=False)
    path = board.data / "record.sqlite"
    whole = bytearray(path.read_bytes())
    at = whole.index(b'"state": "written"')
    whole[at + 3] ^= 0x80
    path.write_bytes(whole)
    board.engine().boot()


@pytest.mark.slow
def test_any_single_bit_flip_in_the_record_ends_in_a_sentence(board: SimulatedBoard) -> None:
    board.install(NEW)
    board.live()
    path = board.data / "record.sqlite"
    whole = path.read_bytes()
    r = random.Random(1)
    wrong: dict[str, list[tuple[int, int]]] = {}
    for _ in range(400):
        at, bit = r.randrange(len(whole)), r.randrange(8)
        data = bytearray(whole)
        data[at] ^= 1 << bit
        for f in board.data.iterdir():
            if f.is_file():
                f.unlink()
        path.write_bytes(data)
        try:
            board.engine().boot()
            with contextlib.suppress(TwinslotError):
                board.engine().rollback(reboot=False)
                board.engine().cancel()
            with contextlib.suppress(TwinslotError):
                board.engine().install(SmallStream(NEWER), InstallOptions(activate=False))
                board.engine().cancel()
        except TwinslotError:
            pass
        except Exception as e:  # noqa: BLE001 - that is what is asked
            wrong.setdefault(f"{type(e).__name__}: {str(e)[:60]}", []).append((at, bit))
        finally:
            for d in board.disks.values():
                d.opened = False
    assert not wrong, {k: len(v) for k, v in wrong.items()}


def test_a_record_without_tables(board: SimulatedBoard) -> None:
    path = board.data / "record.sqlite"
    path.unlink()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 1")
    db.commit()
    db.close()
    board.engine().boot()


def test_a_slot_below_the_epoch_that_was_left_blames_no_release(tmp_path: Path) -> None:
    first, sick, fixed = SmallImage("1.0", 10), SmallImage("3.0", 30, well=False), SmallImage("5.0", 50, epoch=1)
    board = SimulatedBoard(tmp_path, first, sick, fixed)
    board.live()
    board.install(sick)
    board.live()
    board.install(fixed)
    board.live()
    board.lose_environment(0, 1)
    board.start()
    board.engine().boot()
    board.engine().boot()
    board.live()
    with board.open_record() as record:
        assert record.failed() == {30: "unhealthy"}
        assert [t.release.name for t in record.history()] == ["5.0", "3.0"], [
            (t.release.name, t.outcome, t.reason) for t in record.history()
        ]


def test_a_busy_slot_is_not_told_as_cancelled(board: SimulatedBoard) -> None:
    board.install(NEW)
    board.live()
    board.disks[SlotName.A].opened = True
    with pytest.raises(RefusedError):
        board.engine().rollback()
    with board.open_record() as record:
        assert record.history(1)[0].reason == "failed"


def test_a_trial_whose_record_shows_it_closed_is_adopted_once(board: SimulatedBoard) -> None:
    board.install(NEW)
    with board.open_record() as record:
        t = record.current()
        assert t is not None
        record.save(dataclasses.replace(t, outcome=Outcome.ABANDONED, reason="failed"), "by hand")
    board.live()
    assert board.system() is NEW
    with board.open_record() as record:
        assert len(record.history()) <= 2, [(t.outcome, t.reason) for t in record.history()]
