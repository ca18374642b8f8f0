"""The gates of the device's policy, on a board: the same for every caller, asked where nothing was decided yet."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import pytest

from simulation.board import SimulatedBoard
from simulation.bootloader import SimulatedBootloader
from simulation.image import SmallImage, SmallStream
from twinslot.config.watch import WatchConfig
from twinslot.core.errors import Refusal, RefusedError
from twinslot.core.inhibitors import WORDS, Inhibitor
from twinslot.core.model import SlotName
from twinslot.core.policy import Gate, Obstacle, ObstacleKind
from twinslot.core.requests import InstallOptions
from twinslot.core.stream import ImageHead
from twinslot.core.waiting import Waiting
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


THERAPY = Inhibitor("therapy", "an infusion runs")
EVERYTHING = Inhibitor("surgery", "do not touch", frozenset(WORDS))


def events(board: SimulatedBoard) -> list[str]:
    """Names of the rows of the audit."""
    with board.open_record() as record:
        return [row.event for row in record.audit_rows(1000)]


@pytest.mark.verifies("S20")
def test_while_the_device_is_in_use_an_update_is_written_and_nothing_is_armed_or_restarted(
    board: SimulatedBoard,
) -> None:
    board.inhibitors = (THERAPY,)
    written = board.engine().install(SmallStream(NEW), InstallOptions(reboot=True))
    assert (written.state, board.wants_reboot) == ("written", False)
    assert board.environment()["slot"] == "a"
    assert board.environment()["slot_b"] == "bad"
    waits = board.waits.told()
    assert waits
    assert waits.gate == "activate"
    assert [reason["message"] for reason in waits.reasons] == ["'therapy' uses the device"]
    for _ in range(3):  # the timer
        again = board.engine().go_on()
        assert again
        assert (again.state, board.wants_reboot) == ("written", False)
    assert events(board).count("waits") == 1

    board.inhibitors = ()
    armed = board.engine().go_on()
    assert armed
    assert (armed.state, board.wants_reboot) == ("armed", True)
    assert not board.waits.told()
    board.live()
    assert board.system() is NEW


@pytest.mark.verifies("S20")
def test_a_device_that_is_used_again_between_arming_and_restart_is_not_restarted(board: SimulatedBoard) -> None:
    engine = board.engine()
    armed = engine.install(SmallStream(NEW), InstallOptions(reboot=False))
    board.inhibitors = (THERAPY,)
    assert armed.state == "armed"
    assert engine.activate(reboot=True).state == "armed"
    assert not board.wants_reboot
    engine.go_on()
    assert not board.wants_reboot
    board.inhibitors = ()
    engine.go_on()
    assert board.wants_reboot


@pytest.mark.verifies("S20")
def test_no_command_arms_or_leaves_while_the_device_is_in_use(board: SimulatedBoard) -> None:
    board.install(NEW)
    board.live()
    board.inhibitors = (THERAPY,)
    before = board.environment()
    with pytest.raises(RefusedError, match="'therapy' uses the device"):
        board.engine().rollback()
    assert board.environment() == before
    assert not board.wants_reboot


@pytest.mark.verifies("S20")
def test_a_person_who_leaves_a_trial_waits_for_whoever_uses_the_device_and_the_nets_of_the_trial_do_not(
    tmp_path: Path,
) -> None:
    sick = SmallImage("3.0", 30, well=False)
    board = SimulatedBoard(tmp_path, OLD, sick)
    board.live()
    board.install(sick)
    board.start()
    board.engine().boot()
    board.inhibitors = (EVERYTHING,)
    with pytest.raises(RefusedError, match="'surgery' uses the device"):
        board.engine().rollback(reason="too loud")
    assert (board.wants_reboot, board.environment()["slot"]) == (False, "b")
    board.engine().check()
    assert board.wants_reboot
    board.live()
    assert board.system() is OLD


@pytest.mark.verifies("S20")
def test_a_device_that_must_not_be_written_keeps_the_update_that_waits(tmp_path: Path) -> None:
    newer = SmallImage("3.0", 30)
    board = SimulatedBoard(tmp_path, OLD, NEW, newer)
    board.live()
    board.inhibitors = (THERAPY,)
    board.engine().install(SmallStream(NEW), InstallOptions())
    board.inhibitors = (EVERYTHING,)
    for remote in (True, False):
        with pytest.raises(RefusedError, match="'surgery' uses the device"):
            board.engine().install(SmallStream(newer, ranged=remote), InstallOptions())
    assert board.holds(SlotName.B) is NEW
    board.inhibitors = (Inhibitor("backup", "the bus is busy", frozenset({"write"})),)
    with pytest.raises(RefusedError, match="'backup' uses the device"):
        board.engine().install(SmallStream(newer), InstallOptions())
    assert board.holds(SlotName.B) is NEW
    board.inhibitors = ()
    armed = board.engine().go_on()
    assert armed
    assert armed.release.name == "2.0"


@pytest.mark.verifies("REQ-POL-06")
def test_a_person_waits_for_no_window_as_the_audit_says_and_for_whoever_uses_the_device(board: SimulatedBoard) -> None:
    board.obstacles = (Obstacle(ObstacleKind.WINDOW, Refusal("window-closed", "no window is open")),)
    board.inhibitors = (THERAPY,)
    with pytest.raises(RefusedError, match="no window is open"):
        board.engine().install(SmallStream(NEW), InstallOptions())
    written = board.engine().install(SmallStream(NEW), InstallOptions(outside_window=True, reboot=True))
    assert (written.state, board.wants_reboot) == ("written", False)
    waits = board.waits.told()
    assert waits
    assert waits.codes == {"refused.in-use"}, "the window is passed over, and nobody else"
    board.inhibitors = ()
    again = board.engine().go_on()
    assert again
    assert again.state == "written", "it was of that one request"
    assert events(board).count("overridden") == 1
    armed = board.engine().activate(reboot=True, outside_window=True)
    assert (armed.state, board.wants_reboot) == ("armed", True)
    assert events(board).count("overridden") == 2
    with board.open_record() as record:
        row = next(row for row in record.audit_rows(1000) if row.event == "overridden")
    assert row.body["options"] == ["outside_window"]
    assert row.body["origin"], "and by whom"


@pytest.mark.verifies("REQ-POL-05")
def test_what_was_written_without_being_activated_does_not_go_on_by_itself(board: SimulatedBoard) -> None:
    board.engine().install(SmallStream(NEW), InstallOptions(activate=False))
    again = board.engine().go_on()
    assert again
    assert again.state == "written"
    board.inhibitors = (THERAPY,)
    assert board.engine().activate(reboot=True).state == "written"
    board.inhibitors = ()
    again = board.engine().go_on()
    assert again
    assert (again.state, board.wants_reboot) == ("armed", True)


@pytest.mark.verifies("REQ-POL-05")
def test_an_update_that_waits_outlives_a_power_cut_and_is_read_back_before_it_is_armed(board: SimulatedBoard) -> None:
    board.inhibitors = (THERAPY,)
    board.engine().install(SmallStream(NEW), InstallOptions(reboot=True))
    board.lose_power()
    board.live()
    assert board.waits.told() == Waiting()  # until the timer asks
    board.engine().go_on()
    waits = board.waits.told()
    assert waits
    assert waits.codes == {"refused.in-use"}
    board.inhibitors = ()
    board.engine().go_on()
    assert "recheck" in events(board)
    board.live()
    assert board.system() is NEW


def test_nothing_is_asked_of_a_device_where_nothing_waits(board: SimulatedBoard) -> None:
    board.inhibitors = (EVERYTHING,)
    assert board.engine().go_on() is None
    assert board.questions == []


def test_policy_is_asked_about_the_release_that_it_is_about(board: SimulatedBoard) -> None:
    board.install(NEW)
    asked = [(each.gate, each.release, each.change) for each in board.questions]
    about = ("2.0", "feature")
    assert asked == [(Gate.FETCH, "", ""), (Gate.WRITE, "", ""), (Gate.ACTIVATE, *about), (Gate.RESTART, *about)]


def test_reasons_that_change_are_told_anew(board: SimulatedBoard) -> None:
    board.inhibitors = (THERAPY,)
    board.engine().install(SmallStream(NEW), InstallOptions())
    board.obstacles = (Obstacle(ObstacleKind.WINDOW, Refusal("window-closed", "no window is open")),)
    board.engine().go_on()
    board.engine().go_on()
    assert events(board).count("waits") == 2
    waits = board.waits.told()
    assert waits
    assert [reason["code"] for reason in waits.reasons] == ["refused.in-use", "refused.window-closed"]


@pytest.mark.verifies("REQ-POL-02")
def test_people_hold_and_approve_an_update_and_the_next_one_asks_them_again(tmp_path: Path) -> None:
    newer = SmallImage("3.0", 30)
    board = SimulatedBoard(tmp_path, OLD, NEW, newer)
    board.live()
    board.ask_people()
    assert board.engine().install(SmallStream(NEW), InstallOptions(reboot=True)).state == "written"
    with pytest.raises(RefusedError, match="does not wait to be armed"):
        board.engine().approve("3.0")
    assert board.engine().hold(3600).state == "written"
    waits = board.waits.told()
    assert waits
    assert waits.codes == {"refused.held"}
    armed = board.engine().approve("2.0")
    assert (armed.state, board.wants_reboot) == ("armed", True)
    with pytest.raises(RefusedError, match="does not wait to be armed"):
        board.engine().hold(3600)
    board.live()
    assert board.system() is NEW
    assert {"approved", "held"} <= set(events(board))
    assert board.engine().install(SmallStream(newer), InstallOptions(reboot=True)).state == "written"
    waits = board.waits.told()
    assert waits
    assert waits.codes == {"refused.not-approved"}


def test_a_device_that_asks_no_one_takes_no_approval(board: SimulatedBoard) -> None:
    board.inhibitors = (THERAPY,)
    board.engine().install(SmallStream(NEW), InstallOptions())
    with pytest.raises(RefusedError) as approved:
        board.engine().approve("2.0")
    with pytest.raises(RefusedError) as held:
        board.engine().hold(60)
    assert (approved.value.code, held.value.code) == ("refused.no-consent", "refused.no-consent")


@pytest.mark.verifies("S20")
def test_an_approval_lets_nothing_interrupt_a_device_that_is_in_use(board: SimulatedBoard) -> None:
    board.ask_people()
    board.inhibitors = (THERAPY,)
    board.engine().install(SmallStream(NEW), InstallOptions(reboot=True))
    assert board.engine().approve("2.0").state == "written"
    board.inhibitors = ()
    again = board.engine().go_on()
    assert again
    assert again.state == "armed"


def test_an_update_that_is_dropped_waits_no_more(board: SimulatedBoard) -> None:
    board.inhibitors = (THERAPY,)
    board.engine().install(SmallStream(NEW), InstallOptions())
    board.engine().cancel()
    assert board.waits.told() is None


@pytest.mark.verifies("S20")
def test_the_product_hears_that_it_is_on_trial_before_it_serves_anybody_and_when_that_is_over(
    board: SimulatedBoard,
) -> None:
    assert board.told_trial == ["none"]
    board.install(NEW)
    board.start()
    board.engine().boot()
    assert board.told_trial[-1] == "2.0"
    board.engine().check()
    assert board.told_trial[-1] == "2.0"
    board.engine().commit(if_trial=True)
    assert (board.told_trial[-1], board.no_trial) == ("committed", True)
    board.live()
    assert board.told_trial[-1] == "none"


def restarts(board: SimulatedBoard) -> bool:
    """Whether it is about to."""
    return board.wants_reboot


def watched(tmp_path: Path, action: str = "rollback") -> SimulatedBoard:
    """A board that runs an update, which is watched: two looks in a row must fail."""
    board = SimulatedBoard(tmp_path, OLD, NEW, SmallImage("3.0", 30))
    board.watching = WatchConfig(time=3600, failures=2, action=action)
    board.live()
    board.install(NEW)
    board.live()
    assert board.system() is NEW
    return board


@pytest.mark.verifies("REQ-POL-04")
def test_signals_that_fail_after_the_commit_lead_back_once_and_no_further(tmp_path: Path) -> None:
    board = watched(tmp_path)
    assert [each.passed for each in board.engine().watch()] == [True]
    board.signals_fail = True
    board.engine().watch()
    assert restarts(board) is False
    board.engine().watch()
    assert restarts(board) is True
    board.live()
    assert board.system() is OLD
    assert "watch-failed" in events(board)
    for _ in range(3):
        assert board.engine().watch() == ()
    assert restarts(board) is False
    with board.open_record() as record:
        assert record.failed() == {20: "watch"}
    with pytest.raises(RefusedError, match="rolled back on this device before"):
        board.engine().install(SmallStream(NEW), InstallOptions())


@pytest.mark.verifies("REQ-POL-04")
def test_a_watched_release_is_left_once_though_the_other_slot_does_not_prove_itself(tmp_path: Path) -> None:
    board = watched(tmp_path)
    board.signals_fail = board.fails_every_check = True
    for _ in range(2):
        board.engine().watch()
    assert restarts(board) is True
    board.live()
    assert board.system() is NEW, "the trial of the other slot failed"
    for _ in range(3):
        assert board.engine().watch() == ()
    assert restarts(board) is False
    assert events(board).count("watch-failed") == 1


@pytest.mark.verifies("REQ-POL-04", "S20")
def test_a_watched_release_is_not_left_while_the_device_is_in_use(tmp_path: Path) -> None:
    board = watched(tmp_path)
    board.signals_fail = True
    board.inhibitors = (THERAPY,)
    board.engine().watch()
    for _ in range(3):
        with pytest.raises(RefusedError, match="'therapy' uses the device"):
            board.engine().watch()
    assert restarts(board) is False
    assert events(board).count("watch-failed") == 1
    board.inhibitors = ()
    board.engine().watch()
    assert restarts(board) is True


@pytest.mark.verifies("REQ-POL-04")
def test_what_is_only_to_be_told_leaves_the_release(tmp_path: Path) -> None:
    board = watched(tmp_path, action="tell")
    board.signals_fail = True
    for _ in range(4):
        board.engine().watch()
    assert restarts(board) is False
    assert events(board).count("watch-failed") == 1


@pytest.mark.verifies("REQ-POL-04")
def test_a_watched_release_is_not_left_for_one_below_the_security_epoch(tmp_path: Path) -> None:
    raised = SmallImage("4.0", 40, epoch=2)
    board = SimulatedBoard(tmp_path, OLD, raised)
    board.watching = WatchConfig(time=3600, failures=1, action="rollback")
    board.live()
    board.install(raised)
    board.live()
    board.signals_fail = True
    with pytest.raises(RefusedError):
        board.engine().watch()
    assert restarts(board) is False
    board.live()
    assert board.system() is raised


def test_after_its_time_a_release_is_watched_no_more(tmp_path: Path) -> None:
    board = watched(tmp_path)
    board.engine().watch()
    board.wait(3601)
    board.engine().watch()
    board.signals_fail = True
    assert board.engine().watch() == ()
