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
from twinslot_lab.powercut.plan import Cut
from twinslot_lab.powercut.recovery import Recovery
from twinslot_lab.powercut.stage import IMAGE, Row, Stage
from twinslot_lab.powercut.standing import Standing, look
from twinslot_lab.powercut.verdict import System
from twinslot_lab.product import Product
from twinslot_lab.qemu_board import QemuBoard

_PATIENCE = 6.0  # times a phase's length that a busy machine may take until the card is written
_BOOT = 20.0  # seconds of a start in which power goes again; a slow board's take longer
_INSTALL = 1800  # seconds


@dataclass(frozen=True, slots=True)
class Scene:
    """What the cuts of one story share.

    Attributes:
        board: The board's description.
        home: Where the stages stand.
        stages: By name.
        system: What the slots may hold.
    """

    board: BoardDescription
    home: Path
    stages: dict[str, Stage]
    system: System


@dataclass
class Report:
    """What became of a cut."""

    cut: Cut
    seconds: list[float] = field(default_factory=list)
    standings: list[Standing] = field(default_factory=list)
    known: tuple[Row, ...] = ()
    recovery: Recovery = field(default_factory=Recovery)
    problems: list[str] = field(default_factory=list)
    again: str = ""
    took: float = 0.0
    on_card: bool = False  # the card was being written when the power went, as an aimed cut wants it

    def as_dict(self, system: System) -> dict[str, Any]:
        """One line of cuts.jsonl."""
        expected = self.standings[-1].slot if self.standings else ""
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
            "environment": [standing.as_dict() for standing in self.standings],
            "record": self.recovery.as_dict(),
            "audit_rows_known": len(self.known),
            "audit_rows_lost": verdict.lost(self.known, self.recovery.account),
            "next_install": self.again,
            "boot_seconds": [boot.seconds for boot in boots],
            "took": self.took,
        }


def perform(cut: Cut, scene: Scene, folder: Path) -> Report:
    """Do one cut; the board's folder stays as it is at the end, off.

    Raises:
        LabError: The lab failed before the cut; that says nothing about the device.
    """
    began = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)
    stage = scene.stages[cut.phase.stage]
    report = Report(cut, known=stage.rows)
    board = stage.start(scene.board, folder, scene.home)
    try:
        report.seconds.append(_cut(board, cut, stage, report))
        report.standings.append(look(board))
        if cut.twice is not None:
            board.power_on()
            report.seconds.append(_wait(cut.twice * _BOOT * board.patience))
            board.cut()
            report.standings.append(look(board))
        report.recovery = recovery.recover(board, scene.system.sizes)
        report.problems = verdict.problems(stage.story, scene.system, report.standings[-1], report.recovery)
        if cut.again and not report.problems:
            report.problems += _again(board, scene.system, report)
    finally:
        board.cut()
    report.took = round(time.monotonic() - began, 1)
    return report


def _cut(board: QemuBoard, cut: Cut, stage: Stage, report: Report) -> float:
    """Wait for the drawn moment and take the power; returns the second in which it went."""
    began = time.monotonic()
    if cut.aimed:
        report.on_card = _await_card(board, stage.seconds * _PATIENCE + 20)
        _wait(cut.delay)
    else:
        _wait(cut.share * stage.seconds)
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


def _again(board: QemuBoard, system: System, report: Report) -> list[str]:
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
