"""What systemd runs on a device after a start, as verbs of the client's command line in this process."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from typing import Any, Final, Protocol

from twinslot.cli.main import main
from twinslot.cli.world import RealWorld
from twinslot.config.options import Config
from twinslot.core.errors import RefusedError
from twinslot.engine.edges import Device
from twinslot.engine.engine import Engine
from twinslot_lab.errors import LabError

_STEP: Final = 0.01  # seconds that pass with each look at the clock


class VerbError(LabError):
    """A verb ended otherwise than a device's unit takes for done; the message is the client's."""


class LabWorld(RealWorld):
    """What the verbs act on: the client's own engine, on edges that the lab gives it. Time passes when it is asked for.

    Args:
        config: As the verbs read it.
        device: Gives the edges, anew for each verb.
    """

    def __init__(self, config: Config, device: Callable[[], Device]) -> None:
        self._config, self._device, self._seconds = config, device, 0.0

    def is_root(self) -> bool:
        """The device's edges are the lab's own."""
        return True

    def config(self, root: str) -> Config:  # noqa: ARG002 - there is one
        """See `World`."""
        return self._config

    def engine(self, config: Config) -> Engine:  # noqa: ARG002 - the edges know it
        """See `World`."""
        return Engine(self._device())

    def monotonic(self) -> float:
        """See `World`."""
        self._seconds += _STEP
        return self._seconds

    def pause(self, seconds: float) -> None:
        """See `World`."""
        self._seconds += seconds


class Running(Protocol):
    """A device that was started.

    Attributes:
        settled: Nothing is on trial: the file in /run that the units' conditions ask for.
        wants_reboot: The client asked for a reboot.
    """

    settled: bool
    wants_reboot: bool


def run_verb(world: LabWorld, *words: str, refused: bool = False) -> dict[str, Any]:
    """`twinslot --json WORDS`; returns its last line.

    Args:
        world: What it acts on.
        words: Verb and options.
        refused: A refusal is an answer as well.

    Raises:
        VerbError: It ended with another status than 0, or than that of a refusal where that is an answer.
    """
    said, complained = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        status = main(["--json", *words], world)
    lines = [json.loads(line) for line in (said.getvalue() + complained.getvalue()).splitlines() if line[:1] == "{"]
    last: dict[str, Any] = lines[-1] if lines else {}
    if status != 0 and not (refused and status == RefusedError.exit_status):
        why = last.get("message") or complained.getvalue()
        raise VerbError(f"'twinslot {' '.join(words)}' ended with status {status}: {why}")
    return last


def run_units(world: LabWorld, device: Running) -> list[str]:
    """`twinslot-boot`, `-check` and `-commit.service`, with their order and conditions; the notes of the first.

    Raises:
        VerbError: One of them failed, by which a device gives the trial up.
    """
    notes: list[str] = run_verb(world, "boot")["notes"]
    if device.settled:
        return notes
    run_verb(world, "check", "--if-trial", refused=True)  # a check that fails ends the trial: then it is left
    if not device.wants_reboot:
        run_verb(world, "commit", "--if-trial")
    return notes
