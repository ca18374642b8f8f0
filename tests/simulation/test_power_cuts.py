"""Power goes at every storage call of an update, and again during the recovery (S3).

A cut point is one storage call: a write, a flush or a read of a slot, a card write of the environment (by the client
or by U-Boot), a commit of the record. Inside it, unflushed disk writes are each kept, dropped or torn, a card write is
torn after some sector, and a record commit happens or does not.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from simulation import rawcopy
from simulation.board import SimulatedBoard, power_may_go
from simulation.image import SmallImage
from simulation.power import Power
from twinslot.core.audit_chain import ChainEnd
from twinslot.core.model import SlotName
from twinslot.core.transaction import Outcome
from twinslot.engine.anchor import break_of

OLD = SmallImage("1.0", 10)
NEW = SmallImage("2.0", 20)
SICK = SmallImage("3.0", 30, well=False)
SEEDS = range(int(os.environ.get("TWINSLOT_SEEDS", "2")))


@dataclass
class Story:
    """One update without a cut: how many storage calls it has, and where its decisions land."""

    calls: int = 0
    armed: int = 0  # the call inside which the arming write lands
    committed: int = 0  # the call inside which the commit write lands
    trace: list[str] = field(default_factory=list)


def memory() -> str | None:
    """The record's fsyncs prove nothing here; keep them off the disk where possible."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def run(board: SimulatedBoard, image: SmallImage) -> None:
    """The whole update: install, trial, and whatever follows."""
    board.install(image)
    board.live()


def watched(image: SmallImage) -> Story:
    """Run without a cut and note after which call the environment says what."""
    story = Story()
    with TemporaryDirectory(dir=memory()) as directory:
        board = SimulatedBoard(Path(directory), OLD, NEW, SICK)
        board.live()

        class Watch(Power):
            def call(self, name: str) -> bool:
                state = board.environment().get("slot_b")
                if state == "trial" and not story.armed:
                    story.armed = self.calls
                if state == "good" and not story.committed:
                    story.committed = self.calls
                return super().call(name)

        board.set_power(Watch())
        run(board, image)
        story.calls, story.trace = board.power.calls, board.power.trace
    return story


@pytest.fixture(scope="module")
def good_story() -> Story:
    return watched(NEW)


@pytest.fixture(scope="module")
def sick_story() -> Story:
    return watched(SICK)


def boards(image: SmallImage, cut: int, seed: int) -> Iterator[SimulatedBoard]:
    """A board whose power went at that call of the update, off and plugged in again."""
    with TemporaryDirectory(dir=memory()) as directory:
        board = SimulatedBoard(Path(directory), OLD, NEW, SICK)
        board.live()
        board.set_power(Power(cut, seed))
        with power_may_go(board):
            run(board, image)
        yield board


def expected_after(board: SimulatedBoard, story: Story, cut: int) -> SmallImage:
    """Which system must run in the end. Inside the arming write itself, what reached the card decides."""
    if cut < story.armed:
        return OLD
    if cut > story.armed:
        return NEW
    return NEW if board.environment().get("slot_b") == "trial" else OLD


def assert_at_rest(board: SimulatedBoard) -> None:
    """Record, environment and slots say the same, and no story is left half told."""
    environment = board.environment()
    assert board.running is not None
    assert environment["slot"] == board.running
    assert environment[f"slot_{board.running}"] == "good"
    assert environment["upgrade_available"] == "0"
    with board.open_record() as record:
        waiting = record.current()
        assert waiting is None or waiting.state == "written"
        assert record.first_broken_link() is None
        known = record.slot(board.running)
        system = board.system()
        assert known is not None
        assert system is not None
        assert known.release.name == system.name
        anchor = ChainEnd.parse(environment.get("ts_audit", ""))
        assert anchor or "ts_txn" not in environment, "each decision carries one"
        assert not anchor or not break_of(record, anchor) or record.told_break() == anchor.text, (
            "a break is told, not hidden (S25)"
        )
        assert record.floors().sequence == max(system.sequence, int(environment["ts_sequence"]))


def events(board: SimulatedBoard) -> list[str]:
    """Of every row, the newest first."""
    with board.open_record() as record:
        return [row.event for row in record.audit_rows(1000)]


def test_the_story_has_its_decisions_where_the_table_says(good_story: Story, sick_story: Story) -> None:
    assert 0 < good_story.armed < good_story.committed < good_story.calls
    assert sick_story.armed > 0
    assert sick_story.committed == 0
    last_target_write = max(n for n, name in enumerate(good_story.trace, 1) if name.startswith("write slot_b"))
    assert last_target_write < good_story.armed


@pytest.mark.verifies("S3", "S5", "REQ-BOOT-01")
@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_cut_at_any_call_leaves_old_before_arming_and_new_after(good_story: Story, seed: int) -> None:
    for cut in range(1, good_story.calls + 1):
        for board in boards(NEW, cut, seed):
            expected = expected_after(board, good_story, cut)
            board.live()
            assert board.system() is expected, f"cut {cut} of {good_story.calls}, seed {seed}"
            assert_at_rest(board)
            assert "audit-broken" not in events(board), f"cut {cut}: the rows of a decision are there when it is"
            if expected is OLD:  # and the next install works
                board.install(NEW)
                board.live()
                assert board.system() is NEW, f"cut {cut}: the next install"
                assert_at_rest(board)


@pytest.mark.verifies("S12")
@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_once_the_commit_landed_no_cut_brings_the_old_system_back(good_story: Story, seed: int) -> None:
    for cut in range(good_story.committed + 1, good_story.calls + 1):
        for board in boards(NEW, cut, seed):
            board.fails_every_check = True  # whatever happens to the device now, the decision has been taken (S12)
            assert board.start() is SlotName.B, f"cut {cut}"
            assert board.system() is NEW
            board.run_units()
            assert not board.wants_reboot, f"cut {cut}"
            assert_at_rest(board)


@pytest.mark.verifies("S4")
def test_both_copies_call_the_target_bad_before_its_first_byte_changes() -> None:
    with TemporaryDirectory(dir=memory()) as directory:
        newer = SmallImage("4.0", 40)
        board = SimulatedBoard(Path(directory), OLD, NEW, newer)
        board.live()
        run(board, NEW)
        assert board.environment()["slot_a"] == "good"
        said: list[list[str]] = []

        class Watch(Power):
            def call(self, name: str) -> bool:
                if name.startswith("write slot_a"):
                    said.append([copy[1]["slot_a"] for copy in rawcopy.copies(board.card) if copy])
                return super().call(name)

        board.set_power(Watch())
        board.install(newer)
        assert said
        assert all(copies == ["bad", "bad"] for copies in said)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_cut_at_any_call_of_a_sick_update_ends_in_the_old_system(sick_story: Story, seed: int) -> None:
    for cut in range(1, sick_story.calls + 1):
        for board in boards(SICK, cut, seed):
            was_armed = cut > sick_story.armed or board.environment().get("slot_b") == "trial"
            board.live()
            assert board.system() is OLD, f"cut {cut} of {sick_story.calls}, seed {seed}"
            assert_at_rest(board)
            with board.open_record() as record:
                assert (SICK.sequence in record.failed()) == was_armed, f"cut {cut}"
                told = next(iter(record.history()), None)
            if was_armed:
                assert told is not None
                assert (told.outcome, bool(told.reason)) == (Outcome.ROLLED_BACK, True), f"cut {cut}"
                assert board.environment()["ts_failed"] == str(SICK.sequence)


@pytest.mark.verifies("S3")
@pytest.mark.slow
def test_a_second_cut_during_the_recovery_changes_nothing(good_story: Story) -> None:
    checked = 0
    for cut in range(1, good_story.calls + 1):
        second, finished = 0, False
        while not finished:
            second += 1
            for board in boards(NEW, cut, seed=second):
                expected = expected_after(board, good_story, cut)
                power = Power(second, seed=cut)
                board.set_power(power)
                with power_may_go(board):
                    board.live()
                finished = not power.off
                board.set_power(Power())
                board.live()
                assert board.system() is expected, f"cut {cut}, then {second} calls later"
                assert_at_rest(board)
            checked += 1
    assert checked > 2 * good_story.calls
    print(f"{good_story.calls} cut points, {checked} pairs of cuts")
