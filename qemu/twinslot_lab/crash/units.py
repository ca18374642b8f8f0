"""What systemd runs on a device after a start, as verbs of the client's command line in this process."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from typing import Any, Final, Protocol

from twinslot.app.local import LocalUpdater
from twinslot.cli.host import Host
from twinslot.cli.main import main
from twinslot.config.options import Config
from twinslot.core.errors import RefusedError
from twinslot.engine.edges import Device
from twinslot.engine.engine import Engine
from twinslot_lab.errors import LabError

_STEP: Final = 0.01  # seconds that pass with each look at the clock


class VerbError(LabError):
    """A verb ended otherwise than a device's unit takes for done; the message is the client's."""


class LabUpdater(LocalUpdater):
    """The client's own, on edges that the lab gives it.

    Args:
        config: As the verbs read it.
        device: Gives the edges, anew for each verb.
    """

    def __init__(self, config: Config, device: Callable[[], Device]) -> None:
        super().__init__(config)
        self._device = device

    def engine(self) -> Engine:
        """See `LocalUpdater`."""
        return Engine(self._device())


class Clock:
    """Time that passes when it is asked for."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def monotonic(self) -> float:
        """Seconds."""
        self._seconds += _STEP
        return self._seconds

    def pause(self, seconds: float) -> None:
        """Let time pass."""
        self._seconds += seconds


def lab_host(config: Config, device: Callable[[], Device], clock: Clock) -> Host:
    """What the command line takes: the device's edges are the lab's own, so that it may do everything.

    Args:
        config: As the verbs read it.
        device: Gives the edges, anew for each verb.
        clock: The device's.
    """
    return Host(
        is_root=lambda: True,
        config=lambda _: config,
        local=lambda found: LabUpdater(found, device),
        monotonic=clock.monotonic,
        pause=clock.pause,
    )


class Running(Protocol):
    """A device that was started.

    Attributes:
        no_trial: Nothing is on trial: the file in /run that the units' conditions ask for.
        wants_reboot: The client asked for a reboot.
    """

    no_trial: bool
    wants_reboot: bool


def run_verb(host: Host, *words: str, refused: bool = False) -> dict[str, Any]:
    """`twinslot --json WORDS`; returns its last line.

    Args:
        host: What it acts on.
        words: Verb and options.
        refused: A refusal is an answer as well.

    Raises:
        VerbError: It ended with another status than 0, or than that of a refusal where that is an answer.
    """
    said, complained = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        status = main(["--json", *words], host)
    lines = [json.loads(line) for line in (said.getvalue() + complained.getvalue()).splitlines() if line[:1] == "{"]
    last: dict[str, Any] = lines[-1] if lines else {}
    if status != 0 and not (refused and status == RefusedError.exit_status):
        why = last.get("message") or complained.getvalue()
        raise VerbError(f"'twinslot {' '.join(words)}' ended with status {status}: {why}")
    return last


def run_units(host: Host, device: Running) -> list[str]:
    """`twinslot-boot`, `-check` and `-commit.service`, with their order and conditions; the notes of the first.

    Raises:
        VerbError: One of them failed, by which a device gives the trial up.
    """
    notes: list[str] = run_verb(host, "boot")["notes"]
    if device.no_trial:
        return notes
    run_verb(host, "check", "--if-trial", refused=True)  # a check that fails ends the trial: then it is left
    if not device.wants_reboot:
        run_verb(host, "commit", "--if-trial")
    return notes
