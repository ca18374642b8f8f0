"""A real board: a serial line that pyserial can open, and commands of the user's that switch its power.

    name = "gateway"
    kind = "real"
    host = "192.168.7.1"                    # our address, as the board sees it
    [console]
    url = "/dev/ttyUSB0"                    # or socket://127.0.0.1:4001, rfc2217://..., any URL of pyserial's
    speed = 115200                          # optional: bits a second
    [power]                                 # each is one program with arguments, run in the current directory
    on = "power on"
    cut = "power off"
    reset = "power reset"                   # optional: without it, the power goes off and on
    [quirks]                                # optional, as for emulated boards (description.py)
    reset = "harness"

The guest needs the agent (qemu/rootfs/lab, with framing.py and console_server.py), which answers on the console.
"""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from twinslot_lab.console import Console
from twinslot_lab.console_link import ConsoleLink
from twinslot_lab.deadline import Deadline
from twinslot_lab.description import Quirks
from twinslot_lab.errors import BoardError, LabError
from twinslot_lab.guest import GuestBoard
from twinslot_lab.harness_reset import HarnessReset

_COMMAND = 60  # seconds that a power command may take
_SAID = 2000  # bytes of its output that go into an error
_LINE = 20  # seconds for a line that comes and goes with the power
_NUMBERS = {"speed", "timeout_factor"}
_TOP = {"name", "kind", "host", "listen", "images", "console", "power", "quirks"}


@dataclass(frozen=True, slots=True)
class PowerCommands:
    """Commands; `reset` may be empty."""

    on: str
    cut: str
    reset: str = ""


@dataclass(frozen=True, slots=True)
class SerialLine:
    """pyserial's URL, and bits a second."""

    url: str
    speed: int = 115200


@dataclass(frozen=True, slots=True)
class RealBoard:
    """What the user says of the board."""

    name: str
    console: SerialLine
    power: PowerCommands
    quirks: Quirks


def parse(data: dict[str, Any]) -> RealBoard:
    """Check and convert TOML data.

    Raises:
        LabError: A key is missing or unknown.
    """
    if odd := (set(data) - _TOP) | ({"name", "console", "power"} - set(data)):
        raise LabError(f"the board has unknown or missing keys: {', '.join(sorted(odd))}")
    line, power = _table(data, "console", SerialLine, "url"), _table(data, "power", PowerCommands, "on", "cut")
    return RealBoard(str(data["name"]), line, power, _table(data, "quirks", Quirks))


def _table(data: dict[str, Any], key: str, kind: type[Any], *needed: str) -> Any:
    values = data.get(key, {})
    if not isinstance(values, dict):
        raise LabError(f"[{key}] is not a table")
    if odd := (set(values) - {field.name for field in fields(kind)}) | (set(needed) - set(values)):
        raise LabError(f"table [{key}] has unknown or missing keys: {', '.join(sorted(odd))}")
    for name, value in values.items():
        if not isinstance(value, int if name in _NUMBERS else str):
            raise LabError(f"[{key}] {name} is not a {'number' if name in _NUMBERS else 'text'}")
    return kind(**values)


class SerialBoard(GuestBoard):
    """One real board; implements `Board`. Use it as a context manager: leaving cuts the power.

    Args:
        about: The user's words.
        folder: Gets `console.log`. Made if needed; kept.
    """

    def __init__(self, about: RealBoard, folder: Path) -> None:
        super().__init__(about.quirks.timeout_factor)
        folder.mkdir(parents=True, exist_ok=True)
        self.about = about
        self.folder = folder
        self.log = folder / "console.log"
        self._agent: ConsoleLink | None = None
        self._resetter: HarnessReset | None = None
        self._on = False

    @classmethod
    def open(cls, data: dict[str, Any], folder: Path) -> Self:
        """From TOML data; off, as far as we know: nothing is switched before `power_on`.

        Raises:
            LabError: The data are wrong.
        """
        return cls(parse(data), folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self.close()

    # --- power

    def power_on(self) -> None:
        """Open the line, so that nothing is missed, then switch on; or the other way round if there is none yet.

        Raises:
            BoardError: The board is on already, the command failed, or no line came.
        """
        if self._on:
            raise BoardError("the board is on already")
        self._drop_ended_line()
        if self._console is None:
            with suppress(BoardError):  # a line that is the board's own, such as that of an emulator, comes with it
                self._open_line()
        self._watch_from = self._console.mark if self._console else 0
        self._switch(self.about.power.on)
        self._on = True
        Deadline(_LINE, f"a serial line at '{self.about.console.url}'").poll(self._has_line, every=0.1)

    def _has_line(self) -> bool:
        if self._console is None:
            with suppress(BoardError):
                self._open_line()
        return self._console is not None

    def _open_line(self) -> None:
        line = self.about.console
        self._console = Console(line.url, speed=line.speed, log=self.log)
        self._agent = ConsoleLink(self._console, self._check_alive)
        self._watch_from = 0
        if self.about.quirks.reset == "harness":
            self._resetter = HarnessReset(self._console, self.reset)

    def _drop_ended_line(self) -> None:
        if self._console is None:
            return
        self._console.catch_up()  # the power may have gone a moment ago, and the line with it
        if self._console.ended:
            self.close()

    def cut(self) -> None:
        """Take the power away. What that leaves of unfinished writes is the hardware's own business."""
        self._switch(self.about.power.cut)
        self._on = False

    def reset(self) -> None:
        """Press the reset button; if there is none, take the power away and give it back."""
        if self.about.power.reset:
            self._watch_from = self.console.mark
            self._switch(self.about.power.reset)
        else:
            self.cut()
            self.power_on()

    def _switch(self, command: str) -> None:
        with tempfile.TemporaryFile() as said:  # a file, not a pipe: what the command leaves running may hold it open
            try:
                done = subprocess.run(
                    shlex.split(command),
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=said,
                    timeout=_COMMAND,
                    check=False,
                )
            except (OSError, ValueError, subprocess.TimeoutExpired) as e:
                raise BoardError(f"the power command '{command}' failed: {e}") from e
            said.seek(0)
            words = said.read(_SAID).decode(errors="replace").strip()
        if done.returncode != 0:
            raise BoardError(f"the power command '{command}' ended with status {done.returncode}: {words}")

    def close(self) -> None:
        """Let go of the line; the power stays as it is."""
        for part in (self._resetter, self._console):
            if part is not None:
                part.close()
        self._console = self._agent = self._resetter = None

    # --- what it says

    @property
    def agent(self) -> ConsoleLink:
        """The agent in the guest."""
        if self._agent is None:
            raise BoardError("the board was never on")
        return self._agent

    def attach(self, seconds: float = 30) -> None:
        """Take over a board that is up already: ask its agent who it is."""
        self._on = True
        if not self._has_line():
            raise BoardError(f"cannot open '{self.about.console.url}'")
        self.agent.attach(Deadline(seconds, "the agent says who it is"))

    def _gone(self) -> str:
        return "" if self._on else "the board is off"
