"""The product on a board, as its operator sees it: the client's commands, asked for JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from twinslot_lab.board import Board
from twinslot_lab.deadline import Deadline
from twinslot_lab.errors import BoardError, GuestError
from twinslot_lab.growing import GrowingLines

_RUNS = "/run/lab-install.jsonl"

Tell = Callable[[dict[str, Any]], None]


class Product:
    """Asks the client on a board.

    Args:
        board: Up.
    """

    def __init__(self, board: Board) -> None:
        self._board = board

    def status(self) -> dict[str, Any]:
        """`twinslot status`."""
        return self._ask("status")

    def history(self) -> list[dict[str, Any]]:
        """`twinslot history`, newest first."""
        found: list[dict[str, Any]] = self._ask("history")["transactions"]
        return found

    def doctor(self) -> dict[str, Any]:
        """`twinslot doctor`."""
        return self._ask("doctor")

    def install(self, url: str, *options: str, tell: Tell = lambda _: None, seconds: float = 1800) -> dict[str, Any]:
        """`twinslot install`, without the reboot; returns the transaction.

        Args:
            url: The image, as the guest reaches it.
            options: Further arguments.
            tell: Is given each progress message.
            seconds: How long it may take.

        Raises:
            GuestError: It was refused or failed; the message is the client's.
        """
        self.start_install(url, *options)
        deadline = Deadline(seconds * self._board.timeout_factor, f"install of {url}")
        lines = GrowingLines(self._board, _RUNS)
        while True:
            for message in lines.new():
                if message["type"] == "error":
                    raise GuestError(f"the install failed: {message['message']}")
                if message["type"] == "result":
                    transaction: dict[str, Any] = message["transaction"]
                    return transaction
                tell(message)
            if deadline.passed:
                raise deadline.failure()
            time.sleep(1)

    def start_install(self, url: str, *options: str) -> None:
        """The same, without waiting for it."""
        command = f"twinslot --json install {' '.join(options)} --no-reboot '{url}' > {_RUNS} 2> {_RUNS}.stderr"
        self._board.check("rm", "-f", _RUNS)
        self._board.check("touch", _RUNS)
        self._board.check("systemd-run", "--quiet", "--collect", "--no-block", "sh", "-c", command)

    def wait_idle(self, seconds: float = 900) -> dict[str, Any]:
        """Wait until no update is under way; returns the status."""
        deadline = Deadline(seconds * self._board.timeout_factor, "the update comes to its end")
        while True:
            status = self.status()
            if status["state"] == "idle":
                return status
            if deadline.passed:
                raise deadline.failure()
            time.sleep(
                2 * self._board.timeout_factor
            )  # each question costs the guest a second of its processor, or several

    def digest_of_root(self, size: int) -> str:
        """SHA-256 of the first `size` bytes of the partition that runs, read by the guest past its page cache."""
        partition = self._board.check("findmnt", "-no", "SOURCE", "/").strip()
        read = f"dd if={partition} iflag=direct,count_bytes bs=1M count={size} status=none | sha256sum"
        return self._board.check("sh", "-c", read, timeout=600).split()[0]

    def _ask(self, *verb: str) -> dict[str, Any]:
        said = self._board.check("twinslot", "--json", *verb, timeout=600)
        try:
            answer: dict[str, Any] = json.loads(said)
        except ValueError as e:
            raise BoardError(f"'twinslot {' '.join(verb)}' printed no JSON: {said[:200]!r}") from e
        return answer
