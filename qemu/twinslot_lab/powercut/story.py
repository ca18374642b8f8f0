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
from twinslot_lab.powercut import account, starting_point
from twinslot_lab.powercut.starting_point import Row, StartingPoint
from twinslot_lab.qemu_board import QemuBoard
from twinslot_lab.release import Image
from twinslot_lab.snapshot import Snapshot

UPDATED = "boot"  # the good release runs and is committed; the board is off
KERNEL = r"Starting kernel \.\.\."  # U-Boot's last words
_STEP = 900  # seconds that any part may take on a busy machine
_ALMOST = 0.9  # of the read-back: the end of the install is about a second away


class StoryDriver:
    """Lives a story on one board and freezes it on the way.

    Args:
        board: On and up.
        story: Its name.
        home: Where the starting points go.
        wanted: Those to freeze; the others are passed by, but for the beginning of `cold`, which always stands.
    """

    def __init__(self, board: QemuBoard, story: str, home: Path, wanted: frozenset[str]) -> None:
        self.board, self.story, self.home, self._wanted = board, story, home, wanted
        self.starting_points: list[StartingPoint] = []
        self.rows: tuple[Row, ...] = ()
        self._said, self._last = GrowingLines(board, starting_point.PROGRESS), dict[str, Any]()
        self._open: tuple[str, str, bool, float] | None = None

    def freeze(self, name: str, action: str = "", *, answering: bool = True, ask: bool = False) -> None:
        """The part before ends here, the next begins; `action` is begun, as each cut of this part will begin it.

        Args:
            name: Of the part.
            action: See `StartingPoint`.
            answering: The guest's agent has spoken in this start.
            ask: Ask for the audit chain first, which takes a second of the part.
        """
        self.finish()
        if ask:
            self.ask()
        if name in self._wanted:
            Snapshot.take(self.board, self.home / name, answering=answering)
            self._open = (name, action, True, time.monotonic())
        starting_point.act(self.board, action)

    def switch_on(self, name: str) -> None:
        """A part that begins with power coming back."""
        self.finish()
        self.board.cut()
        if name in self._wanted:
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
            self.starting_points.append(StartingPoint(name, self.story, action, warm, seconds, self.rows))
            self._open = None

    def _deadline(self, what: str) -> Deadline:
        return Deadline(_STEP * self.board.timeout_factor, f"{self.story}: {what}")

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
            if found.get("type") == "error" and found.get("code") != "device.bus":  # see starting_point.py
                raise GuestError(f"{self.story}: the install failed: {found}")
            if found.get("type") == "result":
                return True
            total = found.get("total") or 1
            return found.get("phase") == name and found.get("done", 0) >= share * total

        self.until(f"phase {name}" if name else "the install's end", there, every=0.1 * self.board.timeout_factor)

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


def install(driver: StoryDriver, *, frozen: bool) -> None:
    """From a booted board to an armed slot, frozen on the way or not."""
    if not frozen:
        starting_point.act(driver.board, "install")
    else:
        driver.freeze("verify", "install", ask=True)
        for name in ("write", "read-back"):
            driver.until_phase(name)
            driver.freeze(name)
        driver.until_phase("read-back", _ALMOST)
        driver.freeze("finish")
    driver.until_phase("")
    driver.until_card(slot_b="trial")


def good(driver: StoryDriver) -> None:
    """A good update, and a boot after it."""
    install(driver, frozen=True)
    driver.freeze("reboot", "reboot", ask=True)
    driver.until_kernel("b")
    driver.freeze("start", answering=False)
    driver.until_up("b")
    driver.freeze("trial", ask=True)
    driver.until_unit("twinslot-check.service", "active")
    driver.freeze("commit")
    driver.until_card(slot_b="good")
    driver.until_unit("twinslot-commit.service", "active")
    driver.finish()
    until_at_rest(driver)
    driver.ask()
    driver.switch_on(UPDATED)
    driver.until_up("b")
    driver.until_unit("twinslot-boot.service", "active")


def bad(driver: StoryDriver) -> None:
    """A bad update, from its trial on."""
    install(driver, frozen=False)
    driver.ask()
    driver.board.reboot()
    driver.until_kernel("b")
    driver.until_up("b")
    driver.freeze("bad-trial")
    driver.until_unit("twinslot-check.service", "activating", "failed")
    driver.freeze("give-up")
    driver.until_kernel("a")
    driver.freeze("return", answering=False)
    driver.until_up("a")
    until_at_rest(driver)


def tries(driver: StoryDriver) -> None:
    """Power goes in each of the three tries of a good release."""
    install(driver, frozen=False)
    driver.ask()
    for _ in range(3):
        driver.board.cut()
        driver.board.power_on()
        driver.until_kernel("b")
    driver.switch_on("tries")
    driver.until_up("a")
    until_at_rest(driver)


def cold(driver: StoryDriver) -> None:
    """Install and trial on a board that cannot be frozen; it is off, and each part begins with power coming back."""
    board = driver.board
    Snapshot.take_off(board, driver.home / "cold-install")
    board.power_on()
    board.wait_up()
    driver.ask()
    began = time.monotonic()
    install(driver, frozen=False)
    seconds = round(time.monotonic() - began, 2)
    driver.starting_points.append(
        StartingPoint("cold-install", driver.story, "install", warm=False, seconds=seconds, rows=driver.rows)
    )
    driver.ask()
    driver.switch_on("cold-trial")
    driver.until_up("b")
    driver.until_card(slot_b="good")
    driver.until_unit("twinslot-commit.service", "active")
    driver.finish()
    until_at_rest(driver)
    board.cut()
    Snapshot.take_off(board, driver.home / UPDATED)


def until_at_rest(driver: StoryDriver) -> None:
    """Until the client has told what happened."""
    driver.until_card(upgrade_available="0")
    driver.until_unit("twinslot-boot.service", "active")


STORIES: dict[str, Callable[[StoryDriver], None]] = {
    "cold": cold,
    "good": good,
    "tries": tries,
    "bad": bad,
}  # longest first


def tell(name: str, factory: BoardFiles, image: Image, wanted: frozenset[str]) -> Path:
    """The starting points of one story, from the cache or lived now (two to four minutes).

    Args:
        name: Which story.
        factory: The board as it left the factory.
        image: What is installed.
        wanted: The starting points to freeze, beside UPDATED: each takes 0.2 to 0.7 GB.
    """
    wanted |= {UPDATED}
    made_of = snapshot.key(factory), str(image.path), sorted(wanted)
    key = fingerprint(*made_of, Path(__file__), Path(starting_point.__file__))

    def make(work: Path) -> None:
        place = work / "board"
        with _begin(name, factory, image, place) as board:
            driver = StoryDriver(board, name, work, wanted)
            STORIES[name](driver)
            driver.finish()
            starting_point.save(work, driver.starting_points)
        shutil.rmtree(place)

    # Several GB each. A campaign that runs still uses what it began with.
    return cached(f"powercut-{factory.board.name}-{name}", key, make, keep=0)


def _begin(name: str, factory: BoardFiles, image: Image, place: Path) -> QemuBoard:
    """A board with the image on its data partition: up, or off if it is to start cold."""
    if name != "cold":
        board = snapshot.booted(factory).start(place)
        board.put(starting_point.IMAGE, image.path.read_bytes())
        board.check("sync")
        return board
    board = QemuBoard(factory, place)
    start, _ = factory.board.disk.partitions()["data"]
    folder, file = Path(starting_point.IMAGE).parent.relative_to("/var"), Path(starting_point.IMAGE).relative_to("/var")
    commands = f"mkdir {folder}\nwrite {image.path} {file}\n"
    run("debugfs", "-w", "-f", "-", f"{board.disk}?offset={start}", stdin=commands.encode())
    return board
