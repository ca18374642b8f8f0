"""What a person sees: numbered steps, the commands of the device and what the client says; and the same as a report."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

from twinslot_lab.errors import GuestError
from twinslot_lab.try_device.machine import LocalDevice

# What the client writes to a log as it goes: progress, and the lines of its journal.
_ASIDE = re.compile(
    r"(verifying|preparing|writing|reading|finishing|activating|health checks)\b.*(%|\.\.\.|\d of \d)"
    r"|twinslot: (warning|error): "
)


@dataclass
class StoryPrinter:
    """Tells a story on a stream.

    Attributes:
        stream: Where a person reads.
        steps: How many there will be.
        told: The steps so far, for the report: title, second in which it began, commands with status and lines.
    """

    stream: TextIO
    steps: int
    told: list[dict[str, Any]] = field(default_factory=list)
    _began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return round(time.monotonic() - self._began, 1)

    def step(self, title: str) -> None:
        """The next step begins."""
        self.told.append({"title": title, "second": self.seconds, "commands": []})
        self.line(f"\n{self.seconds:5.1f} s  [{len(self.told)}/{self.steps}] {title}")

    def note(self, text: str) -> None:
        """What happens beside the client."""
        self.line(f"         {text}")

    def line(self, text: str) -> None:
        """One line as it is."""
        self.stream.write(f"{text}\n")
        self.stream.flush()

    def client(self, machine: LocalDevice, *words: str, status: int = 0, quiet: str = "") -> str:
        """Run the client in the device, and show command and answer.

        Args:
            machine: It has power.
            words: The verb and what belongs to it.
            status: How it must end.
            quiet: Show nothing when this is all that it says.

        Raises:
            GuestError: It ended in another way.
        """
        argv = ("twinslot", *words)
        done = machine.run(*argv)
        lines = done.stdout.splitlines()
        lines += [line for line in done.stderr.splitlines() if not _ASIDE.match(line)] if done.returncode else []
        if lines != [quiet]:
            self.command(argv, done.returncode, lines)
        if done.returncode != status:
            ended = f"'{' '.join(argv)}' ended with status {done.returncode}, expected {status}"
            raise GuestError(f"{ended}: {done.stderr.strip()}")
        return done.stdout

    def command(self, argv: Sequence[str], status: int, lines: Sequence[str]) -> None:
        """A command that was run in the device, and what it said."""
        if self.told:
            self.told[-1]["commands"].append({"argv": list(argv), "status": status, "lines": list(lines)})
        self.line(f"         $ {' '.join(argv)}")
        for each in lines:
            self.line(f"         | {each}".rstrip())


def asked(machine: LocalDevice, *words: str) -> dict[str, Any]:
    """What a verb says in JSON, its last line.

    Raises:
        GuestError: It failed.
    """
    answer: dict[str, Any] = json.loads(machine.check("twinslot", "--json", *words).splitlines()[-1])
    return answer
