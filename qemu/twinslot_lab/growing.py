"""A file in the guest to which a program adds lines of JSON, read as it grows.

The agent reads it. A program started for each look, such as `tail`, takes an emulated processor away from the install
that is being watched.
"""

from __future__ import annotations

import json
from typing import Any

from twinslot_lab.board import Board
from twinslot_lab.errors import GuestError


class GrowingLines:
    """The messages of one file, each told once.

    Args:
        board: Up.
        path: The file in the guest; it may not be there yet. It only grows.
    """

    def __init__(self, board: Board, path: str) -> None:
        self._board = board
        self._path = path
        self._read = 0
        self._cut_off = b""

    def new(self) -> list[dict[str, Any]]:
        """The whole lines since the last look.

        Raises:
            GuestError: The file cannot be read.
            BoardError: The guest gave no answer, or started anew.
        """
        try:
            said = self._board.get(self._path, self._read)
        except GuestError as e:
            if "FileNotFoundError" in str(e):
                return []
            raise
        self._read += len(said)
        *lines, self._cut_off = (self._cut_off + said).split(b"\n")
        return [json.loads(line) for line in lines]
