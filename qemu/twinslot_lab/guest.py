"""What every board has in common, emulated or real: a console, and a guest that answers over some link."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from twinslot_lab.agent import CommandResult, Hello
from twinslot_lab.console import Console
from twinslot_lab.deadline import Deadline
from twinslot_lab.errors import BoardError, GuestError


class GuestLink(Protocol):
    """A way to the agent in the guest; `agent.Agent` is one. Errors are those of `agent.Agent`."""

    hello: Hello | None

    def wait_hello(self, deadline: Deadline) -> Hello:
        """Wait for the next start of the guest."""
        ...

    def run(self, *argv: str, timeout: float = 300, text: str = "") -> CommandResult:
        """Run a command, whatever its exit status."""
        ...

    def start(self, *argv: str) -> None:
        """Send a command whose answer is not awaited."""
        ...

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Write a file."""
        ...

    def get(self, path: str, offset: int = 0) -> bytes:
        """Read a file, from a byte on."""
        ...

    def close(self) -> None:
        """Close the link."""
        ...


class GuestBoard(ABC):
    """The half of `Board` that is about the guest; power is the driver's.

    Args:
        timeout_factor: As in `Board`.
    """

    def __init__(self, timeout_factor: int = 1) -> None:
        self.timeout_factor = timeout_factor
        self._lenient = False
        self._watch_from = 0
        self._console: Console | None = None

    @property
    def console(self) -> Console:
        """The serial console; its text stays after the power is cut.

        Raises:
            BoardError: The board was never on.
        """
        if self._console is None:
            raise BoardError("the board was never on")
        return self._console

    @property
    @abstractmethod
    def agent(self) -> GuestLink:
        """The agent in the guest; an error if the board is off."""

    @abstractmethod
    def _gone(self) -> str:
        """Why the board cannot answer any more, for example that its emulator ended; empty if it can."""

    def _check_alive(self) -> None:
        """What a link calls while it waits."""
        cause = self._gone()
        if not cause and not self._lenient:
            cause = self.console.fatal(self._watch_from)
        if cause:
            raise BoardError(cause, self.console.tail())

    def wait_up(self, seconds: float = 900, *, slot: str = "", through_failures: bool = False) -> Hello:
        """As in `Board`."""
        deadline = Deadline(seconds * self.timeout_factor, f"slot {slot or 'any'} is up")
        self._lenient = through_failures
        try:
            hello = self.agent.wait_hello(deadline)
            while through_failures and slot and hello.slot != slot:
                hello = self.agent.wait_hello(deadline)
        except BoardError as e:
            raise BoardError(e.cause, self.console.tail()) from e
        finally:
            self._lenient = False
            self._watch_from = self.console.mark
        if slot and hello.slot != slot:
            raise BoardError(f"slot '{hello.slot}' is up, not '{slot}'", self.console.tail())
        deadline.poll(self._is_started, every=1)  # each question costs the guest half a second of its processor
        return hello

    def _is_started(self) -> bool:
        """The default target is reached; an error if systemd has nothing left to do and it is not."""
        if self._default_target():
            return True
        at_rest = self.run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded")
        if at_rest and not self._default_target():  # asked again: it may have been reached between the questions
            failed = self.run("systemctl", "--failed", "--plain", "--no-legend").stdout.split("\n")
            names = ", ".join(line.split()[0] for line in failed if line.strip())
            raise BoardError(f"the default target was not reached; failed units: {names}", self.console.tail())
        return at_rest

    def _default_target(self) -> bool:
        return self.run("systemctl", "is-active", "--quiet", "default.target").exit == 0

    def run(self, *argv: str, timeout: float = 300, text: str = "") -> CommandResult:
        """As in `Board`."""
        return self.agent.run(*argv, timeout=timeout * self.timeout_factor, text=text)

    def check(self, *argv: str, timeout: float = 300, text: str = "") -> str:
        """As in `Board`."""
        result = self.run(*argv, timeout=timeout, text=text)
        if result.exit != 0:
            said = (result.stderr or result.stdout).strip()
            raise GuestError(f"'{' '.join(argv)}' ended with status {result.exit}: {said}")
        return result.stdout

    def slot(self) -> str:
        """The slot that the last start named."""
        return self.agent.hello.slot if self.agent.hello else ""

    def reboot(self) -> None:
        """As in `Board`."""
        self.agent.start("systemctl", "reboot", "--no-block")

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """As in `Board`."""
        self.agent.put(path, data, mode)

    def get(self, path: str, offset: int = 0) -> bytes:
        """As in `Board`."""
        return self.agent.get(path, offset)
