"""The host's end of an agent that answers on the serial console (framing.py): the same questions as over a port.

Nothing is taken for sent until the guest said that it came, and nothing that was damaged counts: it is asked for again,
under the same id, so that a command runs once however bad the line is.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any

from twinslot_lab.agent import AgentLink, Hello
from twinslot_lab.console import Console
from twinslot_lab.deadline import Deadline
from twinslot_lab.errors import BoardError
from twinslot_lab.framing import ConsoleFrame, frames_of

_AT_ONCE = 16  # parts to ask for at once; the guest's input buffer holds as many questions
_STARTED = 10.0  # seconds to hear that a command which ends the board has arrived


class ConsoleLink(AgentLink):
    """Over a console that kernel and boot loader write on, too; which stays the caller's.

    Args:
        console: The line.
        check: As for `AgentLink`.
        again: Seconds without a sign of life before something is sent again.
        gap: Seconds of silence in the middle of a reply before a lost part is asked for.
    """

    _CHUNK = 12 << 10  # bytes: sixteen frames, so that little is said twice

    def __init__(self, console: Console, check: Callable[[], None], *, again: float = 3.0, gap: float = 0.5) -> None:
        super().__init__(check)
        self._console, self._again, self._gap = console, again, gap
        self._session, self._count = secrets.token_hex(4), 0
        self._early: list[ConsoleFrame] = []  # the reply's parts, when what said that the request came was lost

    def resume(self, hello: Hello) -> None:
        """As in `AgentLink`; ids are those of nobody before, since each link has its own."""
        self.hello = hello

    def attach(self, deadline: Deadline) -> Hello:
        """Ask a guest that is up already who it is. Not for one that starts: a boot loader would see key strokes."""
        while True:
            self._say(ConsoleFrame("W", self._session))
            frame = self._next(deadline, self._again)
            if frame is not None and (message := self._hello_in(frame)):
                return self._greeted(message)

    def wait_hello(self, deadline: Deadline) -> Hello:
        """As in `AgentLink`."""
        while True:
            frame = self._next(deadline, 1.0)
            if frame is not None and (message := self._hello_in(frame)) and self._is_new(message):
                return self._greeted(message)

    def start(self, *argv: str) -> None:
        """As in `AgentLink`."""
        deadline = Deadline(_STARTED, f"the guest takes '{' '.join(argv)}'")
        self._send({"run": argv, "timeout": 60}, deadline)

    def close(self) -> None:
        """Nothing to close."""

    # --- frames

    def _exchange(self, request: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        id_ = self._send(request, deadline)
        parts: dict[int, str] = {}
        wanted = 1
        while True:
            frame = self._early.pop(0) if self._early else self._next(deadline, self._gap if parts else self._again)
            if frame is None:
                missing = [n for n in range(wanted) if n not in parts]
                for n in missing[:_AT_ONCE]:
                    self._say(ConsoleFrame("G", id_, n, n + 1))
                continue
            self._refuse_new_start(frame, deadline)
            if frame.id == id_ and frame.kind == "N":
                raise BoardError(f"the agent was started anew before: {deadline.what}")
            if frame.id == id_ and frame.kind == "R":
                wanted = frame.parts
                parts[frame.part] = frame.data
                if len(parts) == frame.parts:
                    answer: dict[str, Any] = json.loads("".join(parts[n] for n in range(frame.parts)))
                    return answer

    def _send(self, request: dict[str, Any], deadline: Deadline) -> str:
        """Send a request part by part, each until the guest says that it came; returns its id."""
        self._count += 1
        id_ = f"{self._session}.{self._count}"
        self._early.clear()
        for frame in frames_of("Q", id_, json.dumps({"id": self._count} | request)):
            self._deliver(frame, deadline)
        return id_

    def _deliver(self, frame: ConsoleFrame, deadline: Deadline) -> None:
        while True:
            self._say(frame)
            again = Deadline(min(self._again, deadline.left), "")
            while not again.passed:
                answer = self._next(deadline, again.left)
                if answer is None:
                    continue
                self._refuse_new_start(answer, deadline)
                if (answer.kind, answer.id, answer.part) == ("A", frame.id, frame.part):
                    return
                if (answer.kind, answer.id) == ("R", frame.id):
                    self._early.append(answer)
                    return

    def _refuse_new_start(self, frame: ConsoleFrame, deadline: Deadline) -> None:
        message = self._hello_in(frame)
        if message and self._is_new(message):
            raise self._started_anew(message, deadline)

    def _hello_in(self, frame: ConsoleFrame) -> dict[str, Any]:
        """What a greeting says; it is answered, so that it is not repeated. Empty if the frame is none."""
        if frame.kind != "H":
            return {}
        self._say(ConsoleFrame("K", frame.id))
        message: dict[str, Any] = json.loads(frame.data)
        return message

    def _is_new(self, message: dict[str, Any]) -> bool:
        return self.hello is None or message["hello"] != self.hello.boot

    def _next(self, deadline: Deadline, seconds: float) -> ConsoleFrame | None:
        """The next frame; None if none came for so many seconds.

        Raises:
            BoardError: The deadline passed, or the board broke.
        """
        quiet = Deadline(min(seconds, deadline.left), "")
        while True:
            frame = self._console.next_frame(min(0.5, quiet.left))
            if frame is not None:
                return frame
            self._check()
            if self._console.ended:
                why = self._console.why
                raise BoardError(f"the console ended ({why}) before: {deadline.what}", self._console.tail())
            if deadline.passed:
                raise deadline.failure(self._console.tail())
            if quiet.passed:
                return None

    def _say(self, frame: ConsoleFrame) -> None:
        self._console.send_bytes(frame.encode())
