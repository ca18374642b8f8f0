"""What an adversarial review found: each test shows one situation and says what must hold in it."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

from simulation import rawcopy
from simulation.board import SLOT_SIZE, SimulatedBoard, power_may_go
from simulation.image import SmallImage, SmallStream
from simulation.power import Power, PowerCut
from twinslot.core.errors import DeviceError, Refusal, RefusedError, TwinslotError
from twinslot.core.model import SlotName
from twinslot.core.requests import InstallOptions
from twinslot.core.transaction import Outcome
from twinslot.engine.engine import Engine
from twinslot.system.cancellation import Cancellation

OLD = SmallImage("1.0", 10)
NEW = SmallImage("2.0", 20)
SICK = SmallImage("3.0", 30, well=False)
NEWER = SmallImage("4.0", 40)


@pytest.fixture
def board(tmp_path: Path) -> SimulatedBoard:
    board = SimulatedBoard(tmp_path, OLD, NEW, SICK, NEWER)
    board.live()
    return board


def refusing_reboot() -> None:
    raise DeviceError("the reboot was refused", code="reboot")


def engine_with(board: SimulatedBoard, **edges: Any) -> Engine:
    return Engine(dataclasses.replace(board.device(), **edges))


def change_environment(board: SimulatedBoard, **variables: str) -> None:
    for _ in range(2):
        rawcopy.store(board.card, board.environment() | variables, "by hand")


# 1
@pytest.mark.verifies("S6")
def test_a_sick_system_that_was_given_up_is_not_made_good_by_the_next_command(board: SimulatedBoard) -> None:
    board.install(SICK)
    board.record_broken = True
    board.start()
    board.engine().boot()
    board.engine().check()
    assert board.wants_reboot
    assert board.environment()["slot_b"] == "bad"
    board.engine().boot()  # any command in the seconds that the reboot takes
    assert board.environment()["slot_b"] == "bad"
    assert board.environment()["slot"] == "a"


# 2
def test_a_trial_that_was_given_up_is_not_committed_because_the_reboot_was_refused(board: SimulatedBoard) -> None:
    board.install(NEW)
    board.start()
    board.engine().boot()
    board.fails_every_check = True
    with pytest.raises(DeviceError, match="the reboot was refused"):
        engine_with(board, reboot=refusing_reboot).check()
    assert (board.environment()["slot_b"], board.environment()["ts_failed"]) == ("bad", "20")
    board.fails_every_check = False
    with pytest.raises(RefusedError):
        board.engine().commit()
    assert board.environment()["slot_b"] == "bad"


# 3
def test_a_refused_reboot_after_arming_does_not_close_the_transaction(board: SimulatedBoard) -> None:
    with pytest.raises(DeviceError, match="the reboot was refused"):
        engine_with(board, reboot=refusing_reboot).install(SmallStream(NEW), InstallOptions(reboot=True))
    assert board.environment()["slot_b"] == "trial"
    with board.open_record() as record:
        waiting = record.current()
        assert waiting is not None, f"closed as {record.history(1)[0].outcome}, but the next boot tries it"
    board.start()
    board.engine().boot()
    with board.open_record() as record:
        waiting = record.current()
        assert waiting is not None
        assert waiting.payloads, "digests and required checks were forgotten"


# 4
def test_dropping_an_armed_way_back_keeps_the_way_back(board: SimulatedBoard) -> None:
    board.install(NEW)
    board.live()
    board.engine().rollback(reboot=False)
    board.engine().cancel()
    assert board.environment()["slot"] == "b"
    assert board.environment()["slot_a"] == "good", "the committed slot was read back and is whole"
    board.engine().rollback()


# 5
def test_a_busy_other_slot_is_not_called_bad(board: SimulatedBoard) -> None:
    board.install(NEW)
    board.live()
    board.disks[SlotName.A].opened = True  # somebody has mounted it to look something up
    with pytest.raises(RefusedError):
        board.engine().rollback()
    assert board.environment()["slot_a"] == "good"


# 6
def test_going_back_to_a_slot_without_stored_digests_is_refused(board: SimulatedBoard) -> None:
    board.install(NEW)
    board.start()
    board.engine().boot()
    board.lose_data()
    board.live()
    assert board.system() is NEW
    board.install(NEWER)
    board.live()
    assert board.system() is NEWER
    board.disks[SlotName.B].fill(b"rot" * 100)
    with pytest.raises(TwinslotError):
        board.engine().rollback()
    assert board.environment()["slot"] == "a"


# 7
def test_a_committed_slot_that_no_longer_loads_does_not_rewrite_history(board: SimulatedBoard) -> None:
    board.install(NEW)
    board.live()
    with board.open_record() as record:
        committed = record.history(1)[0].id
    board.disks[SlotName.B].fill(bytes(4096))
    board.live()
    assert board.system() is OLD
    with board.open_record() as record:
        past = {t.id: (t.outcome, t.release.name) for t in record.history()}
        assert past[committed] == (Outcome.COMMITTED, "2.0")
        assert 0 not in record.failed()


def test_a_committed_slot_that_no_longer_loads_is_not_blamed_on_an_earlier_failure(board: SimulatedBoard) -> None:
    board.install(SICK)
    board.live()
    board.install(NEWER)
    board.live()
    board.disks[SlotName.B].fill(bytes(4096))
    board.live()
    with board.open_record() as record:
        assert record.failed()[30] == "unhealthy"


# 8
def test_a_release_that_was_never_armed_is_not_blamed_for_a_lost_environment(board: SimulatedBoard) -> None:
    board.install(NEW)
    board.live()
    board.install(NEWER, activate=False)  # slot a
    board.lose_environment(0, 1)
    board.live()  # U-Boot's default starts slot a
    assert board.system() is NEW
    with board.open_record() as record:
        assert record.failed() == {}
    board.install(NEWER)


# 9
def test_a_flipped_bit_in_the_record_is_never_a_fault_of_the_program(board: SimulatedBoard) -> None:
    board.install(NEW, activate=False)
    path = board.data / "record.sqlite"
    whole = path.read_bytes()
    at = whole.index(b'{"activate"')
    path.write_bytes(whole[:at] + b"[" + whole[at + 1 :])
    board.engine().boot()


# 10
def test_a_stale_record_does_not_rename_the_running_release(board: SimulatedBoard) -> None:
    newest = SmallImage("5.0", 50)
    board.releases[newest.content.ljust(SLOT_SIZE, b"\0")] = newest
    board.install(NEW)
    kept = board.data.parent / "kept"
    shutil.copyfile(board.data / "record.sqlite", kept)  # 2.0 is armed
    for image in (None, NEWER, newest):
        if image:
            board.install(image)
        board.live()
    assert (board.system(), board.running) == (newest, SlotName.B)
    shutil.copyfile(kept, board.data / "record.sqlite")
    board.live()
    with board.open_record() as record:
        known = record.slot(SlotName.B)
    assert known is None or known.release.sequence == 50


# 11
def test_a_slot_that_turned_out_rotten_is_not_good_again_after_a_lost_environment(board: SimulatedBoard) -> None:
    board.install(NEW)
    board.live()
    board.engine().rollback()
    board.live()
    assert board.running is SlotName.A
    board.disks[SlotName.B].fill(b"rot" * 100)
    with pytest.raises(DeviceError, match="is not what was installed"):
        board.engine().rollback()
    assert board.environment()["slot_b"] == "bad"
    board.lose_environment(0, 1)
    board.live()
    assert board.environment()["slot_b"] == "bad"


# 12
def test_an_environment_that_went_back_is_told_once(board: SimulatedBoard) -> None:
    board.install(NEW)
    board.live()
    board.install(NEWER, reboot=False)
    board.lose_environment(rawcopy.current(board.card) or 0)
    for _ in range(5):
        board.live()
    with board.open_record() as record:
        told = [r for r in record.audit_rows() if "went back" in str(r.body.get("note"))]
    assert len(told) == 1


# 13
def test_no_install_takes_the_last_slot_that_may_boot(tmp_path: Path) -> None:
    """The environment was lost, U-Boot started a slot below the epoch, and the reboot out of it takes its time."""
    fixed, next_one = SmallImage("5.0", 50, epoch=1), SmallImage("6.0", 60, epoch=1)
    board = SimulatedBoard(tmp_path, OLD, fixed, next_one)
    board.live()
    board.install(fixed)
    board.live()
    board.lose_environment(0, 1)
    assert board.start() is SlotName.A
    board.engine().boot()
    assert board.wants_reboot
    assert (board.environment()["slot_a"], board.environment()["slot_b"]) == ("bad", "good")

    class Cut(Power):
        def call(self, name: str) -> bool:
            self.trace.append(name)
            self.off = name.startswith("write slot_b 4096")
            return self.off

    board.set_power(Cut())
    with contextlib.suppress(TwinslotError), power_may_go(board):
        board.install(next_one)
    board.lose_power()
    board.set_power(Power())
    assert board.start() is not None, "nothing may start any more"


# 14
def test_attempts_that_fail_do_not_fill_the_data_partition(board: SimulatedBoard) -> None:
    class Broken(SmallStream):
        def parts(self, manifest: Any, bases: Any = ()) -> Any:
            raise DeviceError("no", code="x")

    path = board.data / "record.sqlite"
    sizes = []
    for number in range(60):
        with pytest.raises(DeviceError):
            board.engine().install(Broken(NEW), InstallOptions())
        if number % 20 == 19:
            sizes.append(path.stat().st_size)
    with board.open_record() as record:
        kept = record._db.execute("SELECT count(*) FROM meta WHERE key LIKE 'document.%.%'").fetchone()[0]
    assert kept <= 3, (kept, sizes)


def test_an_encrypted_image_for_other_devices_leaves_the_way_back_as_it_is(board: SimulatedBoard) -> None:
    """It is found out before the other slot is wiped: what was there can still be gone back to."""

    class ForOthers(SmallStream):
        def unlock(self, manifest: Any) -> None:
            raise RefusedError(Refusal("recipient", "the image is encrypted for other keys than this one"))

    board.install(NEW)
    board.live()
    other = board.disks[SlotName.A]
    before = board.environment(), other.content()
    for _ in range(3):
        with pytest.raises(RefusedError):
            board.engine().install(ForOthers(NEWER), InstallOptions())
    assert (board.environment(), other.content()) == before
    assert board.start() is SlotName.B
    with board.open_record() as record:
        assert "refused" in [row.event for row in record.audit_rows()]


# 15
def test_a_release_that_was_retried_and_committed_is_forgiven(board: SimulatedBoard) -> None:
    board.fails_every_check = True
    board.install(NEW)
    board.live()
    assert board.system() is OLD
    board.fails_every_check = False
    board.install(NEW, retry=True)
    board.live()
    assert board.system() is NEW
    with board.open_record() as record:
        assert record.failed() == {}
    assert "ts_failed" not in board.environment()


# 16
def test_a_cut_between_the_end_of_counting_and_the_row_of_an_adopted_story_loses_nothing(board: SimulatedBoard) -> None:
    board.install(SICK)
    board.start()
    board.run_units()
    board.lose_data()
    board.start()

    class CutAtClose(Power):
        def call(self, name: str) -> bool:
            self.calls += 1
            if name == "record" and board.environment().get("upgrade_available") == "0":
                self.off = True
                return True
            return False

    board.set_power(CutAtClose())
    try:
        board.engine().boot()
    except PowerCut:
        board.lose_power()
    board.set_power(Power())
    board.live()
    with board.open_record() as record:
        assert 30 in record.failed()


# 17
def test_a_partition_that_is_not_configured_any_more_is_an_error_with_a_sentence(board: SimulatedBoard) -> None:
    board.install(NEW)
    board.live()
    device = board.device()
    renamed = {slot: {"system": places["rootfs"]} for slot, places in device.places.items()}
    device = dataclasses.replace(device, places=renamed)
    with pytest.raises(TwinslotError):
        Engine(device).rollback()


# 18
def test_an_interrupted_prepare_leaves_a_system_that_may_still_be_needed(board: SimulatedBoard) -> None:
    """Cut between the record's 'writing' and the environment's 'bad'; then the running slot does not load."""
    board.install(NEW)
    board.live()
    before = bytes(board.card.data)

    class Cut(Power):
        def call(self, name: str) -> bool:
            self.trace.append(name)
            self.off = name.startswith("card")
            return self.off

    board.set_power(Cut())
    with power_may_go(board):
        board.install(NEWER)
    board.card.data[:] = before  # the cut came before the first sector
    assert recorded(board) == "writing"
    board.disks[SlotName.B].fill(bytes(4096))
    board.live()
    assert board.running is SlotName.A
    assert board.system() is OLD
    assert board.environment()["slot_a"] == "good"


def recorded(board: SimulatedBoard) -> str:
    with board.open_record() as record:
        transaction = record.current()
    return str(transaction.state) if transaction else ""


# 19
def test_a_disk_that_is_full_does_not_keep_an_armed_update_from_being_dropped(board: SimulatedBoard) -> None:
    board.install(NEW, reboot=False)
    device = board.device()

    def full(on_trial: bool) -> Any:
        record = board.open_record(on_trial=on_trial)

        def commit() -> None:
            raise DeviceError("full", code="record-full")

        record._commit = commit  # type: ignore[method-assign]
        return record

    Engine(dataclasses.replace(device, open_record=full)).cancel()
    assert board.environment()["slot"] == "a"


# 20
def test_the_way_back_survives_a_lost_record_when_the_epoch_does_not_rise(tmp_path: Path) -> None:
    first, second = SmallImage("1.0", 10, epoch=1), SmallImage("2.0", 20, epoch=1)
    board = SimulatedBoard(tmp_path, first, second)
    board.live()
    board.install(second)
    board.start()
    board.engine().boot()
    board.lose_data()
    board.live()
    assert board.system() is second
    assert board.environment()["slot_a"] == "good"


# 21
def test_a_failed_environment_write_does_not_forget_the_other_slot(board: SimulatedBoard) -> None:
    board.install(NEW)
    board.live()
    device = board.device()

    class ReadOnly(type(device.bootloader)):  # type: ignore[misc]
        def write(self, changes: Any, since: Any = None) -> Any:
            raise DeviceError("read-only", code="env-write")

    with pytest.raises(DeviceError, match="read-only"):
        Engine(dataclasses.replace(device, bootloader=ReadOnly(board.card))).install(
            SmallStream(NEWER), InstallOptions()
        )
    assert board.environment()["slot_a"] == "good"
    with board.open_record() as record:
        assert record.slot(SlotName.A) is not None
    board.engine().rollback()


# 22
def test_a_decision_that_landed_but_was_reported_lost_is_not_closed_as_failed(board: SimulatedBoard) -> None:
    device = board.device()

    class Doubtful(type(device.bootloader)):  # type: ignore[misc]
        def write(self, changes: Any, since: Any = None) -> Any:
            super().write(changes, since)
            if changes.get("slot_b") == "trial":
                raise DeviceError("written, but may not last", code="env-write")

    with pytest.raises(DeviceError, match="may not last"):
        Engine(dataclasses.replace(device, bootloader=Doubtful(board.card))).install(SmallStream(NEW), InstallOptions())
    with board.open_record() as record:
        open_one = record.current()
    armed = board.environment()["slot_b"] == "trial"
    assert armed == (open_one is not None and open_one.state == "armed")


# 23
def test_cancelling_after_the_last_group_does_not_reboot(board: SimulatedBoard) -> None:
    cancelled = Cancellation()

    class Late(SmallStream):
        pass

    def observer(progress: Any) -> None:
        if str(progress.phase) == "finish":
            cancelled.set()

    with pytest.raises(TwinslotError):
        board.engine().install(Late(NEW), InstallOptions(reboot=True), observer, cancelled)
    assert not board.wants_reboot
    assert board.environment()["slot"] == "a"
