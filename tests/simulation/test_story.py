"""The two stories of the demo, on the simulated board."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulation import rawcopy
from simulation.board import SimulatedBoard
from simulation.image import SmallImage
from simulation.updater import board_host
from twinslot.cli.main import main
from twinslot.cli.trial import UNDECIDED
from twinslot.core.errors import DeviceError, RefusedError
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


@pytest.mark.verifies("S10")
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


def no_trial(board: SimulatedBoard) -> bool:
    """After the boot unit: what judges a trial does not start."""
    board.engine().boot()
    return board.no_trial


@pytest.mark.verifies("S6")
def test_a_start_says_that_nothing_is_on_trial_unless_it_is_one_also_when_the_record_is_lost(
    board: SimulatedBoard,
) -> None:
    assert no_trial(board)
    board.install(NEW)
    board.start()
    board.record_broken = True
    assert not no_trial(board)
    board.record_broken = False
    assert not no_trial(board)
    board.live()
    assert board.system() is NEW
    board.start()
    assert no_trial(board)


@pytest.mark.verifies("S6", "S8")
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


@pytest.mark.verifies("S13")
def test_a_release_that_rolled_back_is_refused_until_a_user_says_retry(board: SimulatedBoard) -> None:
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


@pytest.mark.verifies("S7")
def test_the_way_back_is_not_overwritten_while_a_system_is_on_trial(board: SimulatedBoard) -> None:
    board.install(NEW)
    board.start()
    board.engine().boot()
    with pytest.raises(RefusedError, match="slot 'b' is on trial and slot 'a' is the way back"):
        board.install(SICK, retry=True)
    assert board.holds(SlotName.A) is OLD


@pytest.mark.verifies("S10")
def test_nothing_is_called_a_success_before_the_commit(board: SimulatedBoard) -> None:
    board.install(NEW)
    board.start()
    board.engine().boot()
    board.engine().check()
    with board.open_record() as record:
        assert [transaction.outcome for transaction in record.history()] == [None]
    board.engine().commit(if_trial=True)
    with board.open_record() as record:
        assert [transaction.outcome for transaction in record.history()] == [Outcome.COMMITTED]


@pytest.mark.verifies("S14")
def test_an_installed_slot_may_wait_and_is_read_back_before_it_is_armed_in_a_later_boot(board: SimulatedBoard) -> None:
    board.install(NEW, activate=False)
    board.live()
    assert board.system() is OLD
    board.disks[SlotName.B].fill(b"rot")
    with pytest.raises(DeviceError, match="is not what was installed"):
        board.engine().activate()
    assert board.environment()["slot"] == "a"
    board.install(NEW, activate=False)
    board.live()
    board.engine().activate(reboot=True)
    board.live()
    assert board.system() is NEW


@pytest.mark.verifies("S8")
def test_an_armed_update_gives_way_to_a_newer_one_and_can_be_dropped(board: SimulatedBoard) -> None:
    board.install(SICK, reboot=False)
    board.install(NEW, reboot=False)
    dropped = board.engine().cancel()
    assert (dropped.outcome, dropped.reason) == (Outcome.ABANDONED, "cancelled")
    board.live()
    assert board.system() is OLD
    with board.open_record() as record:
        assert record.failed() == {}, "nothing is held against a release that was never tried"


@pytest.mark.parametrize("activate", [True, False], ids=["armed", "written"])
def test_an_update_that_a_newer_install_replaced_says_so(board: SimulatedBoard, activate: bool) -> None:
    board.install(SICK, reboot=False, activate=activate)
    board.install(NEW)
    board.live()
    assert board.system() is NEW
    with board.open_record() as record:
        replaced, reason = record.history()[1], "replaced"
        assert (replaced.release.name, replaced.outcome, replaced.reason) == ("3.0", Outcome.ABANDONED, reason)
        assert record.failed() == {}


def test_an_image_that_is_refused_replaces_nothing(board: SimulatedBoard) -> None:
    board.install(NEW, reboot=False)
    with pytest.raises(RefusedError, match="is a downgrade"):
        board.install(SmallImage("0.9", 9))
    board.live()
    assert board.system() is NEW


def test_each_boot_of_a_trial_leaves_one_row_whatever_is_asked_in_it(board: SimulatedBoard) -> None:
    board.install(NEW)
    for _ in range(2):
        board.start()
        board.engine().boot()
        board.engine().boot()
        board.engine().check()
    board.engine().commit(if_trial=True)
    board.start()
    board.engine().boot()
    with board.open_record() as record:
        rows = [row.event for row in reversed(record.audit_rows())]
    assert rows.count("booted-new") == 2


def test_an_update_that_waits_leaves_no_row_for_each_verb(board: SimulatedBoard) -> None:
    board.install(NEW, activate=False)
    with board.open_record() as record:
        before = [row.event for row in record.audit_rows()]
    board.engine().boot()
    board.engine().check()
    assert board.engine().commit(if_trial=True) is None
    with board.open_record() as record:
        assert [row.event for row in record.audit_rows()] == before


@pytest.mark.verifies("S1")
def test_what_the_kernels_command_line_says_otherwise_is_audited_once_in_each_boot(board: SimulatedBoard) -> None:
    board.running_notes = ("the kernel command line says slot 'b', but 'a' runs",)
    for _ in range(2):
        board.start()
        assert board.engine().boot().notes == board.running_notes
        assert board.engine().boot().notes == board.running_notes
    with board.open_record() as record:
        told = [row.boot for row in record.audit_rows() if row.event == "disagreement"]
        assert {row.body["note"] for row in record.audit_rows() if row.event == "disagreement"} == {
            *board.running_notes
        }
    assert len(told) == len(set(told)) == 2


@pytest.mark.verifies("S8")
def test_floors_that_sank_in_the_environment_are_restored_from_the_record(board: SimulatedBoard) -> None:
    board.install(NEW)
    board.live()
    older = board.environment() | {"ts_sequence": "10"}
    for copy, place in enumerate(rawcopy.PLACES):
        board.card.data[place : place + rawcopy.SIZE] = rawcopy.pack(older, copy + 1)
    board.live()
    assert board.environment()["ts_sequence"] == "20"
    board.lose_data()
    with pytest.raises(RefusedError, match="is a downgrade"):
        board.install(SmallImage("1.5", 15))


@pytest.mark.verifies("S12")
def test_a_disagreement_leaves_a_row_whatever_verb_finds_it(board: SimulatedBoard) -> None:
    board.lose_environment(0, 1)
    with pytest.raises(RefusedError):
        board.engine().activate()
    with board.open_record() as record:
        (row,) = [row for row in record.audit_rows() if row.event == "disagreement"]
        assert row.body["note"] == "both copies of the boot environment are lost"


def test_tries_that_run_out_although_the_client_came_up_have_a_reason_of_their_own(board: SimulatedBoard) -> None:
    board.install(NEW)
    for _ in range(3):
        assert board.start() is SlotName.B
        board.engine().boot()  # and then somebody pulls the plug
    board.live()
    assert board.system() is OLD
    with board.open_record() as record:
        assert record.history()[0].reason == "resets"


def test_tries_that_run_out_without_the_client_blame_the_release(board: SimulatedBoard) -> None:
    board.install(NEW)
    for _ in range(3):
        assert board.start() is SlotName.B
    board.live()
    with board.open_record() as record:
        assert record.history()[0].reason == "bootlimit"


def test_a_slot_that_does_not_load_hands_over_with_its_reason(board: SimulatedBoard) -> None:
    board.install(NEW)
    board.disks[SlotName.B].fill(bytes(4096))
    board.live()
    assert board.system() is OLD
    with board.open_record() as record:
        assert record.history()[0].reason == "load-failed"


def test_leaving_a_trial_by_hand_is_told_as_the_operators_wish(board: SimulatedBoard) -> None:
    board.install(NEW)
    board.start()
    board.engine().boot()
    board.engine().rollback(reason="the display flickers")
    board.live()
    assert board.system() is OLD
    with board.open_record() as record:
        assert record.history()[0].reason == "operator"
        assert any(row.body.get("why") == "the display flickers" for row in record.audit_rows())


@pytest.mark.verifies("S10")
def test_a_forced_commit_is_audited_with_its_reason(board: SimulatedBoard) -> None:
    board.install(SICK)
    board.start()
    board.engine().boot()
    kept = board.engine().commit(force="the sensor is known to be broken")
    assert kept is not None
    assert kept.forced
    with board.open_record() as record:
        assert any(row.body.get("force") == "the sensor is known to be broken" for row in record.audit_rows())
    board.live()
    assert board.system() is SICK


def test_going_back_to_a_slot_below_the_security_epoch_is_refused(board: SimulatedBoard) -> None:
    fixed = SmallImage("5.0", 50, epoch=1)
    board.releases[fixed.content.ljust(8 * 4096, b"\0")] = fixed
    board.install(fixed)
    board.live()
    with pytest.raises(RefusedError, match="holds no release that was committed"):
        board.engine().rollback()
    assert board.environment()["slot_a"] == "bad"


@pytest.mark.verifies("S12")
def test_a_trial_whose_data_partition_cannot_be_opened_is_still_committed(board: SimulatedBoard) -> None:
    board.install(NEW)
    board.record_broken = True
    board.live()
    assert board.system() is NEW
    assert board.environment()["slot_b"] == "good"
    assert board.environment()["ts_sequence"] == "20"
    board.record_broken = False
    board.live()
    with board.open_record() as record:
        assert record.history()[0].outcome == Outcome.COMMITTED
        assert record.floors().sequence == 20


@pytest.mark.verifies("S6")
def test_a_sick_system_whose_data_partition_cannot_be_opened_still_goes_back(board: SimulatedBoard) -> None:
    board.install(SICK)
    board.record_broken = True
    board.live()
    assert board.system() is OLD
    assert board.environment()["ts_failed"] == "30"


def test_where_checks_cannot_run_a_commit_needs_those_that_passed_and_never_ends_the_trial(
    board: SimulatedBoard,
) -> None:
    board.install(NEW)
    board.start()
    board.engine().boot()
    board.may_check = False
    board.fails_every_check = True  # as a check that needs the network does in a sandbox
    with pytest.raises(RefusedError, match="have not passed in this boot"):
        board.engine().commit()
    assert not board.wants_reboot
    assert board.environment()["slot_b"] == "trial"
    board.may_check, board.fails_every_check = True, False
    board.engine().check()
    board.may_check, board.fails_every_check = False, True
    kept = board.engine().commit()
    assert kept is not None
    assert kept.outcome == Outcome.COMMITTED


@pytest.mark.verifies("S6")
def test_the_unit_commits_what_passed_although_no_record_could_keep_that_and_runs_no_check_itself(
    board: SimulatedBoard,
) -> None:
    board.install(NEW)
    board.start()
    board.verb("boot")
    board.record_broken = True
    board.verb("check", "--if-trial")
    board.fails_every_check = True  # as in the unit's sandbox
    board.verb("commit", "--if-trial")
    assert board.environment()["slot_b"] == "good"
    assert not board.wants_reboot


@pytest.mark.verifies("S6")
@pytest.mark.parametrize("broken", [False, True], ids=["record", "no-record"])
def test_the_unit_leaves_to_the_deadline_what_was_not_checked_in_this_boot(board: SimulatedBoard, broken: bool) -> None:
    board.install(NEW)
    board.start()
    board.verb("boot")
    board.verb("check", "--if-trial")
    board.start()  # a power cut: what passed in another boot says nothing of this one
    board.verb("boot")
    board.record_broken = broken
    assert main(["commit", "--if-trial"], board_host(board)) == UNDECIDED
    assert board.environment()["slot_b"] == "trial"
    assert not board.wants_reboot


def test_a_check_that_fails_takes_back_that_they_passed_in_this_boot(board: SimulatedBoard) -> None:
    board.install(NEW)
    board.start()
    board.verb("boot")
    board.record_broken = True
    board.verb("check", "--if-trial")
    board.fails_every_check = True
    board.verb("check", "--if-trial", refused=True)
    assert not board.device().passed.noted(board.device().boot_id)


def test_the_boot_verb_says_that_a_system_that_was_given_up_still_runs(board: SimulatedBoard) -> None:
    board.install(SICK)
    board.start()
    board.verb("boot")
    board.verb("check", refused=True)  # the reboot that belongs to it does not come
    board.wants_reboot = False
    assert "was given up and still runs" in board.verb("boot")
    assert board.wants_reboot
    assert "given-up" in board.verb("--json", "boot")
