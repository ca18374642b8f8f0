"""Stories of an update, lived once without a cut and frozen at the start of each part.

good    install of a good release, trial, commit, and a boot after it
bad     trial of a release whose health check fails, the way back
tries   power goes in each try of a good release until none is left, the way back
cold    install and trial, for boards that cannot be frozen

`good` and `cold` leave the board off after the commit, in UPDATED: what is tested of a board with a past begins there.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twinslot_lab import progress, snapshot
from twinslot_lab.build import BoardFiles
from twinslot_lab.cache import cached, fingerprint
from twinslot_lab.command import run
from twinslot_lab.deadline import Deadline
from twinslot_lab.errors import BoardError, GuestError
from twinslot_lab.growing import GrowingLines
from twinslot_lab.powercut import account, stage
from twinslot_lab.powercut.stage import Row, Stage
from twinslot_lab.qemu_board import QemuBoard
from twinslot_lab.release import Image
from twinslot_lab.snapshot import Snapshot

UPDATED = "boot"  # the good release runs and is committed; the board is off
KERNEL = r"Starting kernel \.\.\."  # U-Boot's last words
_STEP = 900  # seconds that any part may take on a busy machine
_ALMOST = 0.9  # of the read-back: the end of the install is about a second away


class Teller:
    """Lives a story on one board and freezes it on the way.

    Args:
        board: On and up.
        story: Its name.
        home: Where the stages go.
    """

    def __init__(self, board: QemuBoard, story: str, home: Path) -> None:
        self.board, self.story, self.home = board, story, home
        self.stages: list[Stage] = []
        self.rows: tuple[Row, ...] = ()
        self._said, self._last = GrowingLines(board, stage.PROGRESS), dict[str, Any]()
        self._open: tuple[str, str, bool, float] | None = None

    def freeze(self, name: str, action: str = "", *, answering: bool = True, ask: bool = False) -> None:
        """The part before ends here, the next begins; `action` is begun, as each cut of this part will begin it.

        Args:
            name: Of the part.
            action: See `Stage`.
            answering: The guest's agent has spoken in this start.
            ask: Ask for the audit chain first, which takes a second of the part.
        """
        self.finish()
        if ask:
            self.ask()
        Snapshot.take(self.board, self.home / name, answering=answering)
        self._open = (name, action, True, time.monotonic())
        stage.act(self.board, action)

    def switch_on(self, name: str) -> None:
        """A part that begins with power coming back."""
        self.finish()
        self.board.cut()
        Snapshot.take_off(self.board, self.home / name)
        self._open = (name, "", False, time.monotonic())
        self.board.power_on()

    def ask(self) -> None:
        """Note the rows of the audit chain that the guest has reported by now."""
        self.rows = account.audit(self.board)[0]

    def finish(self) -> None:
        """The part that is open ends now."""
        if self._open is not None:
            name, action, warm, began = self._open
            seconds = round(time.monotonic() - began, 2)
            self.stages.append(Stage(name, self.story, action, warm, seconds, self.rows))
            self._open = None

    def _deadline(self, what: str) -> Deadline:
        return Deadline(_STEP * self.board.patience, f"{self.story}: {what}")

    def until(self, what: str, happened: Callable[[], bool], every: float = 0.05) -> None:
        """Wait for something, and ask every so many seconds: whatever is started in the guest to ask slows it down."""
        with progress.part(what):
            self._deadline(what).poll(happened, every)

    def until_kernel(self, slot: str) -> None:
        """Wait until U-Boot hands over to the kernel of a slot."""
        start = rf"Twinslot: start slot {slot},(?:(?!Twinslot: start)[\s\S])*?{KERNEL}"
        since = self.board.console.mark
        with progress.part(f"kernel of slot {slot}"):
            self.board.console.wait_for(start, self._deadline(f"kernel of slot {slot}"), since=since)

    def until_card(self, **wanted: str) -> None:
        """Wait until the environment on the card says so; asks nobody in the guest."""
        self.until(str(wanted), lambda: wanted.items() <= self.board.card.variables().items())

    def until_phase(self, name: str, share: float = 0.0) -> None:
        """Wait until the install has come so far, or to its end."""

        def there() -> bool:
            found = self._last = (self._said.new() or [self._last])[-1]
            if found.get("type") == "error" and found.get("code") != "device.bus":  # see stage.py
                raise GuestError(f"{self.story}: the install failed: {found}")
            if found.get("type") == "result":
                return True
            total = found.get("total") or 1
            return found.get("phase") == name and found.get("done", 0) >= share * total

        self.until(f"phase {name}" if name else "the install's end", there, every=0.1 * self.board.patience)

    def until_up(self, slot: str) -> None:
        """Wait until the guest has started anew, in this slot; before that it cannot be asked."""
        with progress.part(f"slot {slot} is up"):
            hello = self.board.agent.wait_hello(self._deadline(f"slot {slot} is up"))
        if hello.slot != slot:
            raise BoardError(f"{self.story}: slot '{hello.slot}' is up, not '{slot}'")

    def until_unit(self, unit: str, *states: str) -> None:
        """Wait until a unit is in one of these states."""
        show = ("systemctl", "show", "--value", "-p", "ActiveState", unit)
        self.until(f"{unit} is {states}", lambda: self.board.run(*show).stdout.strip() in states, every=0.5)


def install(teller: Teller, *, frozen: bool) -> None:
    """From a booted board to an armed slot, frozen on the way or not."""
    if not frozen:
        stage.act(teller.board, "install")
    else:
        teller.freeze("verify", "install", ask=True)
        for name in ("write", "read-back"):
            teller.until_phase(name)
            teller.freeze(name)
        teller.until_phase("read-back", _ALMOST)
        teller.freeze("finish")
    teller.until_phase("")
    teller.until_card(slot_b="trial")


def good(teller: Teller) -> None:
    """A good update, and a boot after it."""
    install(teller, frozen=True)
    teller.freeze("reboot", "reboot", ask=True)
    teller.until_kernel("b")
    teller.freeze("start", answering=False)
    teller.until_up("b")
    teller.freeze("trial", ask=True)
    teller.until_unit("twinslot-check.service", "active")
    teller.freeze("commit")
    teller.until_card(slot_b="good")
    teller.until_unit("twinslot-commit.service", "active")
    teller.finish()
    rest(teller)
    teller.ask()
    teller.switch_on(UPDATED)
    teller.until_up("b")
    teller.until_unit("twinslot-boot.service", "active")


def bad(teller: Teller) -> None:
    """A bad update, from its trial on."""
    install(teller, frozen=False)
    teller.ask()
    teller.board.reboot()
    teller.until_kernel("b")
    teller.until_up("b")
    teller.freeze("bad-trial")
    teller.until_unit("twinslot-check.service", "activating", "failed")
    teller.freeze("give-up")
    teller.until_kernel("a")
    teller.freeze("return", answering=False)
    teller.until_up("a")
    rest(teller)


def tries(teller: Teller) -> None:
    """Power goes in each of the three tries of a good release."""
    install(teller, frozen=False)
    teller.ask()
    for _ in range(3):
        teller.board.cut()
        teller.board.power_on()
        teller.until_kernel("b")
    teller.switch_on("tries")
    teller.until_up("a")
    rest(teller)


def cold(teller: Teller) -> None:
    """Install and trial on a board that cannot be frozen; it is off, and each part begins with power coming back."""
    board = teller.board
    Snapshot.take_off(board, teller.home / "cold-install")
    board.power_on()
    board.wait_up()
    teller.ask()
    began = time.monotonic()
    install(teller, frozen=False)
    seconds = round(time.monotonic() - began, 2)
    teller.stages.append(Stage("cold-install", teller.story, "install", warm=False, seconds=seconds, rows=teller.rows))
    teller.ask()
    teller.switch_on("cold-trial")
    teller.until_up("b")
    teller.until_card(slot_b="good")
    teller.until_unit("twinslot-commit.service", "active")
    teller.finish()
    rest(teller)
    board.cut()
    Snapshot.take_off(board, teller.home / UPDATED)


def rest(teller: Teller) -> None:
    """Until the client has told what happened."""
    teller.until_card(upgrade_available="0")
    teller.until_unit("twinslot-boot.service", "active")


STORIES: dict[str, Callable[[Teller], None]] = {"cold": cold, "good": good, "tries": tries, "bad": bad}  # longest first


def tell(name: str, factory: BoardFiles, image: Image) -> Path:
    """The stages of one story, from the cache or lived now (two to four minutes).

    Args:
        name: Which story.
        factory: The board as it left the factory.
        image: What is installed.
    """
    key = fingerprint(snapshot.key(factory), str(image.path), Path(__file__), Path(stage.__file__))

    def make(work: Path) -> None:
        place = work / "board"
        with _begin(name, factory, image, place) as board:
            teller = Teller(board, name, work)
            STORIES[name](teller)
            teller.finish()
            stage.save(work, teller.stages)
        shutil.rmtree(place)

    # Several GB each. A campaign that runs still uses what it began with.
    return cached(f"powercut-{factory.board.name}-{name}", key, make, keep=0)


def _begin(name: str, factory: BoardFiles, image: Image, place: Path) -> QemuBoard:
    """A board with the image on its data partition: up, or off if it is to start cold."""
    if name != "cold":
        board = snapshot.booted(factory).start(place)
        board.put(stage.IMAGE, image.path.read_bytes())
        board.check("sync")
        return board
    board = QemuBoard(factory, place)
    start, _ = factory.board.disk.partitions()["data"]
    folder, file = Path(stage.IMAGE).parent.relative_to("/var"), Path(stage.IMAGE).relative_to("/var")
    commands = f"mkdir {folder}\nwrite {image.path} {file}\n"
    run("debugfs", "-w", "-f", "-", f"{board.disk}?offset={start}", stdin=commands.encode())
    return board
