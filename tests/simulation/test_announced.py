"""What a device says of what it does: each step once in the audit and once in the journal, with who asked (S19)."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import pytest

from simulation.board import SimulatedBoard, SimulatedRecord
from simulation.image import SmallImage, SmallStream
from twinslot.core.errors import CancelledError, DeviceError, Refusal, RefusedError
from twinslot.core.events import COMMON, AuditEvent
from twinslot.core.model import Reason
from twinslot.core.origin import Origin, OriginKind
from twinslot.core.progress import Phase, Progress
from twinslot.core.requests import InstallOptions
from twinslot.engine.edges import Device
from twinslot.engine.engine import Engine
from twinslot.storage.record.audit_trail import AuditRow
from twinslot.system.cancellation import Cancellation

OLD, NEW = SmallImage("1.0", 10), SmallImage("2.0", 20)
SICK = SmallImage("3.0", 30, well=False)
ANN = Origin(OriginKind.CLI, uid=0, login="ann")


class OwnedBoard(SimulatedBoard):
    """Ann is at the keyboard."""

    edges: dict[str, Any]

    def device(self) -> Device:
        return dataclasses.replace(super().device(), origin=ANN, **self.edges)


@pytest.fixture
def board(tmp_path: Path) -> OwnedBoard:
    board = OwnedBoard(tmp_path, OLD, NEW, SICK)
    board.edges = {}
    board.live()
    return board


def rows(board: SimulatedBoard) -> list[AuditRow]:
    """Oldest first."""
    with board.open_record() as record:
        assert record.first_broken_link() is None
        return record.audit_rows(1000)[::-1]


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int]]:
    """Event and level of each line with fields."""
    found = [(getattr(record, "journal", {}), record.levelno) for record in caplog.records]
    return [(fields["TWINSLOT_EVENT"], level) for fields, level in found if fields]


@pytest.mark.verifies("S19", "REQ-OPS-02")
def test_each_step_of_an_update_has_a_row_and_a_line_and_names_who_asked(
    board: OwnedBoard, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    board.install(NEW)
    board.live()
    found = rows(board)
    assert [row.event for row in found] == [
        *("accepted", "verified", "activate"),
        *("booted-new", "checked", "healthy", "committed"),
    ]
    assert [event for event, _ in lines(caplog)] == [row.event for row in found]
    assert {level for _, level in lines(caplog)} == {logging.INFO}
    for row in found:
        assert row.body["origin"] == ANN.as_dict()
        assert row.body.keys() <= AuditEvent(row.event).fields.keys() | COMMON.keys()
    with board.open_record() as record:
        assert record.history(1)[0].origin == ANN


def test_an_update_that_is_not_well_is_an_error_in_the_journal(
    board: OwnedBoard, caplog: pytest.LogCaptureFixture
) -> None:
    board.install(SICK)
    board.live()
    told = dict(lines(caplog))
    assert told["unhealthy"] == logging.ERROR
    assert told["rolled-back"] == logging.WARNING
    for row in rows(board):
        assert row.body.keys() <= AuditEvent(row.event).fields.keys() | COMMON.keys()


def forged(*_: object, **__: object) -> Any:
    raise RefusedError(Refusal("threshold", "role 'clinical' did not sign", "1", "0"))


@pytest.mark.verifies("S19")
def test_a_forged_image_leaves_a_row_that_says_what_it_claims_and_where_it_came_from(
    board: OwnedBoard, caplog: pytest.LogCaptureFixture
) -> None:
    board.edges = {"verify": forged}
    with pytest.raises(RefusedError):
        board.install(NEW)
    (row,) = rows(board)
    assert row.event == "refused"
    assert row.body["code"] == "refused.threshold"
    assert row.body["source"] == "/media/image.twin"
    assert (row.body["release"], row.body["sequence"], row.body["claimed"]) == ("2.0", 20, True)
    assert row.body["manifest"] == NEW.manifest.digest
    assert row.body["origin"] == ANN.as_dict()
    assert row.body.keys() <= AuditEvent.REFUSED.fields.keys() | COMMON.keys()
    assert lines(caplog) == [("refused", logging.ERROR)]


@pytest.mark.verifies("S19")
def test_a_forged_image_that_comes_without_end_does_not_fill_the_record(board: OwnedBoard) -> None:
    board.edges = {"verify": forged}
    for _ in range(100):
        with pytest.raises(RefusedError):
            board.install(NEW)
    assert [row.body.get("times", 1) for row in rows(board)] == [1, 2, 4, 8, 16, 32, 64]
    with pytest.raises(RefusedError):
        board.install(SICK)
    assert rows(board)[-1].body["release"] == "3.0", "another image has a row of its own"


@pytest.mark.verifies("S19")
def test_a_refusal_of_policy_and_of_a_verb_leaves_a_row_each(board: OwnedBoard) -> None:
    for refused in (lambda: board.install(OLD), board.engine().activate, board.engine().cancel, board.engine().commit):
        with pytest.raises(RefusedError):
            refused()
    found = rows(board)
    assert [row.event for row in found] == ["refused"] * 4
    assert [row.body["verb"] for row in found] == ["install", "activate", "cancel", "commit"]
    assert "claimed" not in found[0].body, "it is signed"


def test_an_error_leaves_one_row_and_not_two(board: OwnedBoard, caplog: pytest.LogCaptureFixture) -> None:
    def lost(*_: object, **__: object) -> Any:
        raise DeviceError("the trust process is gone", code="worker")

    board.edges = {"verify": lost}
    with pytest.raises(DeviceError):
        board.install(NEW)
    assert [(row.event, row.body["code"]) for row in rows(board)] == [("verb-failed", "device.worker")]
    assert lines(caplog) == [("verb-failed", logging.ERROR)]


@pytest.mark.verifies("S19")
def test_who_stopped_an_install_is_named_beside_who_asked_for_it(board: OwnedBoard) -> None:
    bob, cancelled = Origin(OriginKind.BUS, uid=1000, login="bob", sender=":1.9"), Cancellation()

    def stop(progress: Progress) -> None:
        if progress.phase is Phase.WRITE:
            cancelled.set(bob)

    with pytest.raises(CancelledError):
        board.engine().install(SmallStream(NEW), InstallOptions(), stop, cancelled)
    last = rows(board)[-1]
    assert (last.event, last.body["origin"], last.body["stopped_by"]) == ("abandoned", ANN.as_dict(), bob.as_dict())


@pytest.mark.parametrize("phase", [Phase.WRITE, Phase.READ_BACK, Phase.FINISH])
@pytest.mark.parametrize("reason", [Reason.STOPPED, Reason.CANCELLED])
def test_an_install_is_stored_with_what_ended_it_whether_someone_cancelled_it_or_the_service_was_stopped(
    board: OwnedBoard, reason: Reason, phase: Phase
) -> None:
    cancelled = Cancellation()

    def stop(progress: Progress) -> None:
        if progress.phase is phase:
            cancelled.set(None, reason)

    with pytest.raises(CancelledError) as error:
        board.engine().install(SmallStream(NEW), InstallOptions(), stop, cancelled)
    assert error.value.code == ("cancelled.stopped" if reason is Reason.STOPPED else "cancelled")
    with board.open_record() as record:
        (stored, *_) = record.history()
    assert (stored.outcome, stored.reason) == ("abandoned", reason)


def test_without_a_record_every_step_still_has_its_line(board: OwnedBoard, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    board.install(NEW)
    board.record_broken = True
    caplog.clear()
    board.live()
    told = lines(caplog)
    assert {"tolerated", "adopted", "committed"} <= {event for event, _ in told}
    assert ("tolerated", logging.WARNING) in told
    assert board.environment()["slot_b"] == "good"


@pytest.mark.verifies("REQ-BOOT-05")
def test_a_lost_boot_environment_says_what_was_written_anew(
    board: OwnedBoard, caplog: pytest.LogCaptureFixture
) -> None:
    board.lose_environment(0, 1)
    board.live()
    assert ("environment-rebuilt", logging.WARNING) in lines(caplog)
    assert "environment-rebuilt" in [row.event for row in rows(board)]


def test_a_mistake_of_ours_is_no_row_but_is_raised(board: OwnedBoard) -> None:
    def wrong(*_: object, **__: object) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Engine(dataclasses.replace(board.device(), verify=wrong)).install(SmallStream(NEW), InstallOptions())


def test_a_step_that_could_not_be_stored_is_neither_done_nor_announced(
    board: OwnedBoard, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> Any:
        raise DeviceError("the record is full", code="record-full")

    engine = board.engine()
    before = board.environment()
    monkeypatch.setattr(SimulatedRecord, "save", full)
    with pytest.raises(DeviceError, match="full"):
        engine.install(SmallStream(NEW), InstallOptions())
    assert [event for event, _ in lines(caplog)] == ["verb-failed"]
    assert board.environment() == before
