"""Asking the guest for a verdict: commands, their exit status and output, over a channel that is not the console.

The other end is qemu/rootfs/lab/usr/lib/twinslot-lab/agent.py, which describes the lines.
"""

from __future__ import annotations

import base64
import json
import secrets
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twinslot_lab.deadline import Deadline
from twinslot_lab.errors import BoardError, GuestError

_CHUNK = 256 << 10  # bytes of a file in one line
_LATE = 20  # seconds that the guest may take beyond a command's own time


@dataclass(frozen=True, slots=True)
class Hello:
    """A start of the guest: which boot, and which slot the kernel's command line names."""

    boot: str
    slot: str


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended. `exit` 124: it ran out of time; negative: a signal."""

    exit: int
    stdout: str
    stderr: str


class Agent:
    """The host's end, over a connected socket, which it owns. One request at a time.

    Args:
        connection: The socket.
        check: Called while waiting; raises if the board broke, so that nobody waits for an answer that cannot come.
    """

    def __init__(self, connection: socket.socket, check: Callable[[], None]) -> None:
        self._connection = connection
        self._check = check
        self._pending = b""
        self._id = 0
        self.hello: Hello | None = None

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
            data = self._connection.recv(65536)
            if not data:
                raise BoardError(f"the agent's channel ended before: {deadline.what}")
            self._pending += data

    def resume(self, hello: Hello) -> None:
        """Go on with a guest that spoke to somebody else before (snapshot.py).

        Half a line may be on the way in both directions: an end of line ends it there, and an answer counts only by
        its id, so ids begin where nobody was before.
        """
        self.hello = hello
        self._id = secrets.randbits(48)
        self._connection.sendall(b"\n")

    def wait_hello(self, deadline: Deadline) -> Hello:
        """Wait for the next start of the guest.

        Raises:
            BoardError: It did not come in time, or the board broke.
        """
        while True:
            message = self._line(deadline)
            if "hello" in message:
                self.hello = Hello(str(message["hello"]), str(message.get("slot", "")))
                return self.hello

    def _ask(self, request: dict[str, Any], deadline: Deadline) -> dict[str, Any]:
        self._id += 1
        self._connection.sendall(json.dumps({"id": self._id} | request).encode() + b"\n")
        while True:
            message = self._line(deadline)
            if "hello" in message:
                self.hello = Hello(str(message["hello"]), str(message.get("slot", "")))
                raise BoardError(f"the guest started anew (slot '{self.hello.slot}') before: {deadline.what}")
            if message.get("id") == self._id:
                if "error" in message:
                    raise GuestError(f"{deadline.what}: {message['error']}")
                return message

    def run(self, *argv: str, timeout: float = 60, text: str = "") -> Result:
        """Run a command in the guest; `text` is its stdin.

        Raises:
            GuestError: It could not be started.
            BoardError: The guest gave no answer, or started anew.
        """
        deadline = Deadline(timeout + _LATE, f"answer to '{' '.join(argv)}'")
        answer = self._ask({"run": argv, "timeout": timeout, "input": text}, deadline)
        return Result(answer["exit"], answer["stdout"], answer["stderr"])

    def start(self, *argv: str) -> None:
        """Send a command whose answer is not awaited, such as one that ends the board."""
        self._id += 1
        request = {"id": self._id, "run": argv, "timeout": 60}
        self._connection.sendall(json.dumps(request).encode() + b"\n")

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write a file in the guest; errors as for `run`."""
        for at in range(0, max(1, len(data)), _CHUNK):
            chunk = base64.b64encode(data[at : at + _CHUNK]).decode()
            request = {"put": path, "data": chunk, "append": at > 0, "mode": mode}
            self._ask(request, Deadline(60, f"writing '{path}' in the guest"))

    def get(self, path: str) -> bytes:
        """Read a file from the guest; errors as for `run`."""
        data = b""
        while True:
            request = {"get": path, "offset": len(data), "size": _CHUNK}
            answer = self._ask(request, Deadline(60, f"reading '{path}' in the guest"))
            chunk = base64.b64decode(answer["data"])
            data += chunk
            if len(chunk) < _CHUNK:
                return data

    def close(self) -> None:
        """Close the channel."""
        self._connection.close()
