"""Asking the guest for a verdict: commands, their exit status and output, over a channel that is not the console.

The other end is qemu/rootfs/lab/usr/lib/twinslot-lab/agent.py, which describes the lines.
"""

from __future__ import annotations

import base64
import json
import secrets
import select
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twinslot_lab.deadline import Deadline
from twinslot_lab.errors import BoardError, GuestError

_LATE = 20  # seconds that the guest may take beyond a command's own time


@dataclass(frozen=True, slots=True)
class Hello:
    """A start of the guest: which boot, and which slot the kernel's command line names."""

    boot: str
    slot: str


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended. `exit` 124: it ran out of time; negative: a signal."""

    exit: int
    stdout: str
    stderr: str


class AgentLink(ABC):
    """The host's end of some way to the agent. One request at a time.

    Args:
        check: Called while waiting; raises if the board broke, so that nobody waits for an answer that cannot come.
    """

    _CHUNK = 256 << 10  # bytes of a file in one request

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self.hello: Hello | None = None

    @abstractmethod
    def resume(self, hello: Hello) -> None:
        """Go on with a guest that spoke to somebody else before (snapshot.py)."""

    @abstractmethod
    def wait_hello(self, deadline: Deadline) -> Hello:
        """Wait for the next start of the guest.

        Raises:
            BoardError: It did not come in time, or the board broke.
        """

    @abstractmethod
    def start(self, *argv: str) -> None:
        """Send a command whose answer is not awaited, such as one that ends the board."""

    @abstractmethod
    def close(self) -> None:
        """Close the channel."""

    @abstractmethod
    def _exchange(self, request: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        """Send a request and return the answer to it."""

    def _ask(self, request: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        answer = self._exchange(request, deadline)
        if "error" in answer:
            raise GuestError(f"{deadline.what}: {answer['error']}")
        return answer

    def _greeted(self, message: dict[str, Any]) -> Hello:
        self.hello = Hello(str(message["hello"]), str(message.get("slot", "")))
        return self.hello

    def _started_anew(self, message: dict[str, Any], deadline: Deadline) -> BoardError:
        hello = self._greeted(message)
        return BoardError(f"the guest started anew (slot '{hello.slot}') before: {deadline.what}")

    def run(self, *argv: str, timeout: float = 300, text: str = "") -> CommandResult:
        """Run a command in the guest; `text` is its stdin.

        Raises:
            GuestError: It could not be started.
            BoardError: The guest gave no answer, or started anew.
        """
        deadline = Deadline(timeout + _LATE, f"answer to '{' '.join(argv)}'")
        answer = self._ask({"run": argv, "timeout": timeout, "input": text}, deadline)
        return CommandResult(answer["exit"], answer["stdout"], answer["stderr"])

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write a file in the guest; errors as for `run`."""
        for at in range(0, max(1, len(data)), self._CHUNK):
            chunk = base64.b64encode(data[at : at + self._CHUNK]).decode()
            request = {"put": path, "data": chunk, "append": at > 0, "mode": mode}
            self._ask(request, Deadline(300, f"writing '{path}' in the guest"))

    def get(self, path: str, offset: int = 0) -> bytes:
        """Read a file from the guest, from a byte on; errors as for `run`."""
        data = b""
        while True:
            request = {"get": path, "offset": offset + len(data), "size": self._CHUNK}
            answer = self._ask(request, Deadline(300, f"reading '{path}' in the guest"))
            chunk = base64.b64decode(answer["data"])
            data += chunk
            if len(chunk) < self._CHUNK:
                return data


class Agent(AgentLink):
    """Over a connected socket, which it owns: a channel that nobody else uses.

    Args:
        connection: The socket.
        check: As for `AgentLink`.
    """

    def __init__(self, connection: socket.socket, check: Callable[[], None]) -> None:
        super().__init__(check)
        self._connection = connection
        self._pending = b""
        self._id = 0

    def _line(self, deadline: Deadline) -> dict[str, Any]:
        """The next line from the guest; lines cut short by a reset are skipped."""
        while True:
            line, newline, rest = self._pending.partition(b"\n")
            if newline:
                self._pending = rest
                try:
                    message = json.loads(line)
                except ValueError:
                    continue
                if isinstance(message, dict):
                    return message
                continue
            self._receive(deadline)

    def _receive(self, deadline: Deadline) -> None:
        self._check()
        if deadline.passed:
            raise deadline.failure()
        ready, _, _ = select.select([self._connection], [], [], min(0.5, deadline.left))
        if ready:
            try:
                data = self._connection.recv(65536)
            except OSError:  # a reset: it was gone before it had read all
                data = b""
            if not data:
                raise self._ended(deadline.what)
            self._pending += data

    def _send(self, line: bytes, what: str) -> None:
        try:
            self._connection.sendall(line)
        except OSError as e:  # nobody is at the other end any more
            raise self._ended(what) from e

    def _ended(self, what: str) -> BoardError:
        self._check()  # it may know why
        return BoardError(f"the agent's channel ended before: {what}")

    def resume(self, hello: Hello) -> None:
        """Go on with a guest that spoke to somebody else before (snapshot.py).

        Half a line may be on the way in both directions: an end of line ends it there, and an answer counts only by
        its id, so ids begin where nobody was before.
        """
        self.hello = hello
        self._id = secrets.randbits(48)
        self._send(b"\n", "the guest goes on")

    def wait_hello(self, deadline: Deadline) -> Hello:
        """As in `AgentLink`."""
        while True:
            message = self._line(deadline)
            if "hello" in message:
                return self._greeted(message)

    def _exchange(self, request: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        self._id += 1
        self._send(json.dumps({"id": self._id} | request).encode() + b"\n", deadline.what)
        while True:
            message = self._line(deadline)
            if "hello" in message:
                raise self._started_anew(message, deadline)
            if message.get("id") == self._id:
                return message

    def start(self, *argv: str) -> None:
        """As in `AgentLink`."""
        self._id += 1
        request = {"id": self._id, "run": argv, "timeout": 60}
        self._send(json.dumps(request).encode() + b"\n", f"the guest takes '{' '.join(argv)}'")

    def close(self) -> None:
        """Close the channel."""
        self._connection.close()
