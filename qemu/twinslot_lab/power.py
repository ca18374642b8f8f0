"""Power in the hands of a test: on, off, cut at a chosen or a drawn moment, and an account of all of it."""

from __future__ import annotations

import random
import time

from twinslot_lab.agent import Hello
from twinslot_lab.board import Board
from twinslot_lab.errors import BoardError

_OFF = 90  # seconds for a guest to switch off


class Power:
    """The power of one board.

    Attributes:
        account: What was done, one line each with its second; stands in the report of a failed test.

    Args:
        board: Whose.
        seed: For moments that are drawn; the same seed draws the same ones.
    """

    def __init__(self, board: Board, seed: int) -> None:
        self._board = board
        self.seed = seed
        self._random = random.Random(seed)
        self._start = time.monotonic()
        self.account: list[str] = []

    def _note(self, what: str) -> None:
        self.account.append(f"{time.monotonic() - self._start:7.1f} s  {what}")

    def on(self) -> None:
        """Switch on; the firmware runs."""
        self._note("on")
        self._board.power_on()

    def up(self, seconds: float = 900, *, slot: str = "") -> Hello:
        """Switch on and wait until the default target is reached.

        Raises:
            BoardError: It was not, in so many seconds, or another slot than `slot` is up.
        """
        self.on()
        hello = self._board.wait_up(seconds, slot=slot, through_failures=True)
        self._note(f"slot {hello.slot or '?'} is up")
        return hello

    def cut(self) -> None:
        """Take the power away in this instant."""
        self._note("cut")
        self._board.cut()

    def cut_after(self, seconds: float) -> None:
        """Let the board do what it does for so many seconds, then cut."""
        time.sleep(seconds)
        self._note(f"cut after {seconds:.3f} s")
        self._board.cut()

    def cut_within(self, low: float, high: float) -> float:
        """Cut at a moment drawn from `low` to `high` seconds from now; returns which. `seed` repeats it."""
        seconds = self._random.uniform(low, high)
        self.cut_after(seconds)
        return seconds

    def off(self) -> None:
        """Ask the guest to switch off, wait for its file systems to be at rest, and take the power.

        Raises:
            BoardError: It was still awake after 90 seconds, or broke on the way.
        """
        self._note("off")
        since = self._board.console.mark
        self._board.run("systemctl", "poweroff", "--no-block")
        deadline = time.monotonic() + _OFF
        while time.monotonic() < deadline:
            try:
                self._board.run("true", timeout=1)
            except BoardError:  # it answers no more
                cause = self._board.console.fatal(since)
                self._board.cut()
                if cause:
                    raise BoardError(f"the guest did not switch off: {cause}") from None
                return
            time.sleep(0.5)
        raise BoardError(f"the guest did not switch off in {_OFF} s")

    def reset(self) -> None:
        """Press the reset button."""
        self._note("reset")
        self._board.reset()
