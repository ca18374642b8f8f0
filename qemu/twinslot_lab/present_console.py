"""The console of a board through all its starts: an emulated one has a new line each time its power comes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from twinslot_lab.deadline import Deadline

if TYPE_CHECKING:
    from twinslot_lab.board import Board


class PresentConsole:
    """What a test holds as `console`; every call goes to the line that the board has now.

    Args:
        board: Whose. While it is off, its last line answers.
    """

    def __init__(self, board: Board) -> None:
        self._board = board

    @property
    def mark(self) -> int:
        """The present end of the text; good until the power goes."""
        return self._board.console.mark

    def text(self, since: int = 0) -> str:
        """Everything said on this line since a mark."""
        return self._board.console.text(since)

    def tail(self) -> str:
        """The last lines."""
        return self._board.console.tail()

    def send(self, text: str) -> None:
        """Type something.

        Raises:
            BoardError: The line is gone.
        """
        self._board.console.send(text)

    def wait_for(self, pattern: str, seconds: float, *, since: int = 0) -> re.Match[str]:
        """Wait until the text since a mark matches.

        Raises:
            BoardError: So many seconds passed, or the line ended, first; with the end of the console.
        """
        deadline = Deadline(seconds, f"the console says '{pattern}'")
        return self._board.console.wait_for(pattern, deadline, since=since)
