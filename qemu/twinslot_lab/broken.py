"""The memory of a test session for boards that do not come up: one test finds it out, the rest fail at once.

A board that is dead fails every test that needs it; if each waited minutes for it, the first cause would drown (as in
labgrid's `never_retry`). The memory is a folder, so that the processes of pytest-xdist share it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twinslot_lab.errors import BoardError, LabError


class BrokenBoards:
    """Which boards are known to be broken, and by which first cause.

    Args:
        folder: Of this session; made if needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _file(self, board: str) -> Path:
        return self._folder / f"broken-{hashlib.sha256(board.encode()).hexdigest()[:16]}.json"

    def remember(self, board: str, cause: str, test: str) -> None:
        """The first cause stays; later ones are its echo."""
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            with self._file(board).open("x") as file:
                json.dump({"board": board, "cause": cause, "test": test}, file)
        except FileExistsError:
            return

    def cause(self, board: str) -> str:
        """Why the board is broken and which test found it; empty if nobody knows of anything."""
        try:
            found = json.loads(self._file(board).read_text())
        except (FileNotFoundError, ValueError):  # being written in this instant: the next test will know
            return ""
        return f"{found['cause']} (found by {found['test']})"

    @contextmanager
    def coming_up(self, board: str, test: str) -> Iterator[None]:
        """Around what brings a board up, before any test did something to it.

        Args:
            board: Names it: two boards with one name are one.
            test: Who tries.

        Raises:
            BoardError: It is broken: known from before, then at once, or found now.
        """
        if known := self.cause(board):
            raise BoardError(f"this board is broken: {known}")
        try:
            yield
        except LabError as e:
            self.remember(board, e.cause if isinstance(e, BoardError) else e.message, test)
            raise
