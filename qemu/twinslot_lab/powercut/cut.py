"""One cut, from the frozen moment to the verdict."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twinslot_lab.deadline import Deadline
from twinslot_lab.description import BoardDescription
from twinslot_lab.errors import LabError
from twinslot_lab.powercut import account, recovery, verdict
from twinslot_lab.powercut.drive_state import DriveState, look
from twinslot_lab.powercut.plan import Cut
from twinslot_lab.powercut.recovery import Recovery
from twinslot_lab.powercut.starting_point import IMAGE, Row, StartingPoint
from twinslot_lab.powercut.verdict import SlotContents
from twinslot_lab.product import Product
from twinslot_lab.qemu_board import QemuBoard

_BUSY_FACTOR = 6.0  # times a phase's length that a busy machine may take until the card is written
_BOOT = 20.0  # seconds of a start in which power goes again; a slow board's take longer
_INSTALL = 1800  # seconds


@dataclass(frozen=True, slots=True)
class FrozenStory:
    """What the cuts of one story share.

    Attributes:
        board: The board's description.
        home: Where the starting points stand.
        starting_points: By name.
        system: What the slots may hold.
    """

    board: BoardDescription
    home: Path
    starting_points: dict[str, StartingPoint]
    system: SlotContents


@dataclass
class Report:
    """What became of a cut."""

    cut: Cut
    seconds: list[float] = field(default_factory=list)
    drive_states: list[DriveState] = field(default_factory=list)
    known: tuple[Row, ...] = ()
    recovery: Recovery = field(default_factory=Recovery)
    problems: list[str] = field(default_factory=list)
    again: str = ""
    took: float = 0.0
    on_card: bool = False  # the card was being written when the power went, as an aimed cut wants it

    def as_dict(self, system: SlotContents) -> dict[str, Any]:
        """One line of cuts.jsonl."""
        expected = self.drive_states[-1].slot if self.drive_states else ""
        boots = self.recovery.boots
        return {
            "number": self.cut.number,
            "phase": self.cut.phase.name,
            "second": self.seconds[0] if self.seconds else None,
            "second_cut": self.seconds[1] if len(self.seconds) > 1 else None,
            "aimed": self.cut.aimed,
            "on_card": self.on_card,
            "expected": {"slot": expected, "digest": system.of(expected).digest if expected else ""},
            "booted": {"slot": boots[0].slot, "digest": boots[0].digest} if boots else None,
            "outcome": "BRICK" if self.problems else verdict.ending(self.recovery),
            "problems": self.problems,
            "environment": [state.as_dict() for state in self.drive_states],
            "record": self.recovery.as_dict(),
            "audit_rows_known": len(self.known),
            "audit_rows_lost": verdict.lost(self.known, self.recovery.account),
            "next_install": self.again,
            "boot_seconds": [boot.seconds for boot in boots],
            "took": self.took,
        }


def perform(cut: Cut, frozen: FrozenStory, folder: Path) -> Report:
    """Do one cut; the board's folder stays as it is at the end, off.

    Raises:
        LabError: The lab failed before the cut; that says nothing about the device.
    """
    began = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    begin = frozen.starting_points[cut.phase.starting_point]
    report = Report(cut, known=begin.rows)
    board = begin.start(frozen.board, folder, frozen.home)
    try:
        report.seconds.append(_cut(board, cut, begin, report))
        report.drive_states.append(look(board))
        if cut.twice is not None:
            board.power_on()
            report.seconds.append(_wait(cut.twice * _BOOT * board.timeout_factor))
            board.cut()
            report.drive_states.append(look(board))
        report.recovery = recovery.recover(board, frozen.system.sizes)
        report.problems = verdict.problems(begin.story, frozen.system, report.drive_states[-1], report.recovery)
        if cut.again and not report.problems:
            report.problems += _again(board, frozen.system, report)
    finally:
        board.cut()
    report.took = round(time.monotonic() - began, 1)
    return report


def _cut(board: QemuBoard, cut: Cut, begin: StartingPoint, report: Report) -> float:
    """Wait for the drawn moment and take the power; returns the second in which it went."""
    began = time.monotonic()
    if cut.aimed:
        report.on_card = _await_card(board, begin.seconds * _BUSY_FACTOR + 20)
        _wait(cut.delay)
    else:
        _wait(cut.share * begin.seconds)
        if cut.asked:
            report.known = max(report.known, _asked(board), key=len)
    went = time.monotonic() - began
    board.cut()
    return round(went, 3)


def _asked(board: QemuBoard) -> tuple[Row, ...]:
    """What the guest tells; a guest that is restarting tells nothing."""
    try:
        return account.audit(board, 20)[0]
    except LabError:
        return ()


def _await_card(board: QemuBoard, seconds: float) -> bool:
    """Until a copy of the environment changes, or the time is over: False. Looks every millisecond: one takes some 30.

    What else is written does not count: some boards have everything on one card.
    """
    deadline, before = Deadline(seconds, "the card is written"), board.card.copies()
    while (same := board.card.copies() == before) and not deadline.passed:
        time.sleep(0.001)
    return not same


def _wait(seconds: float) -> float:
    time.sleep(seconds)
    return round(seconds, 3)


def _again(board: QemuBoard, system: SlotContents, report: Report) -> list[str]:
    """The next install, of the same image, into the slot that does not run, to its commit."""
    running = report.recovery.boots[-1].slot
    target = "a" if running == "b" else "b"
    good = system.b.release.motor == "ready"
    found, holds = Recovery(), {running: system.of(running), target: system.b}
    try:
        Product(board).install(IMAGE, "--retry", "--reinstall", seconds=_INSTALL)
        board.reboot()
        sizes = {slot: image.slot.stat().st_size for slot, image in holds.items()}
        recovery.watch(board, sizes, found, time.monotonic())
        ends = found.account.history[0]["outcome"] if found.account else None
    except LabError as e:
        return [f"the next install fails: {str(e).splitlines()[0]}"]
    except recovery.NONSENSE as e:
        return [f"the next install: the answers make no sense: {e!r}"]
    tried = found.boots[0].slot
    report.again = f"{tried}: {ends}"
    if tried != target or ends != ("committed" if good else "rolled-back"):
        return [f"the next install into slot {target} ended in slot {tried}: {ends}"]
    if any(boot.digest not in ("", holds[boot.slot].digest) for boot in found.boots) or not found.boots[-1].digest:
        return ["after the next install something runs that nobody signed"]
    return []
