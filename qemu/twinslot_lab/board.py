"""What a test may ask of a board, emulated or real."""

from __future__ import annotations

from typing import Protocol

from twinslot_lab.agent import CommandResult, Hello
from twinslot_lab.console import Console


class Board(Protocol):
    """One board with power, a console and a guest that answers.

    A method raises `BoardError` at once if the board breaks, with the first cause and the end of the console, and
    `GuestError` if only a command failed.
    """

    @property
    def timeout_factor(self) -> int:
        """How many times as long as elsewhere things take on this board; multiplies the seconds given below."""
        ...

    @property
    def console(self) -> Console:
        """The serial console."""
        ...

    def power_on(self) -> None:
        """Switch on; returns when the firmware runs."""
        ...

    def cut(self) -> None:
        """Take the power away in this instant. What the guest wrote and the device acknowledged stays."""
        ...

    def reset(self) -> None:
        """Press the reset button."""
        ...

    def wait_up(self, seconds: float = 900, *, slot: str = "", through_failures: bool = False) -> Hello:
        """Wait for the next start of the guest until its default target is reached.

        Args:
            seconds: How long.
            slot: The slot that must be running then; empty: any.
            through_failures: A kernel panic on the way is part of the story.
        """
        ...

    def run(self, *argv: str, timeout: float = 300, text: str = "") -> CommandResult:
        """Run a command in the guest, whatever its exit status."""
        ...

    def check(self, *argv: str, timeout: float = 300, text: str = "") -> str:
        """Run a command that must end with 0; returns its stdout."""
        ...

    def slot(self) -> str:
        """The slot that the last start named; empty if there was none."""
        ...

    def reboot(self) -> None:
        """Ask the guest to restart; returns at once."""
        ...

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write a file in the guest."""
        ...

    def get(self, path: str, offset: int = 0) -> bytes:
        """Read a file from the guest, from a byte on."""
        ...
