"""Progress of long work: phase, bytes, rate and time left. Pure: the time is an argument."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass


class Phase(enum.StrEnum):
    """Parts of an install, in order."""

    VERIFY = "verify"  # head fetched, signatures checked, policy asked
    PREPARE = "prepare"  # target marked bad and wiped
    WRITE = "write"  # groups fetched, checked and written
    READ_BACK = "read-back"  # the whole partition read from the medium
    FINISH = "finish"  # first group written and read back
    ARM = "arm"  # the environment switched
    CHECK = "check"  # health checks


@dataclass(frozen=True, slots=True)
class Progress:
    """One report. Sent at most a few times a second, and at the start and end of each phase.

    Attributes:
        phase: What is being done.
        done: Bytes (checks, in the health phase) so far in this phase.
        total: Bytes (checks) of this phase; 0 when it has no measure.
        rate: Bytes a second over the phase so far.
        left: Seconds left of this phase; None when unknown.
        fetched: Bytes read from the source so far, all phases.
        note: What the phase waits for, for people; empty: it goes on.
    """

    phase: Phase
    done: int = 0
    total: int = 0
    rate: float = 0.0
    left: float | None = None
    fetched: int = 0
    note: str = ""


Observer = Callable[[Progress], None]


def quiet(_: object) -> None:
    """An observer that does not care."""


class Meter:
    """Turns byte counts into reports, not more often than each `interval` seconds."""

    def __init__(self, observer: Observer, monotonic: Callable[[], float], interval: float = 0.25) -> None:
        self._observer, self._monotonic, self._interval = observer, monotonic, interval
        self._phase, self._total, self._began, self._last = Phase.VERIFY, 0, monotonic(), 0.0
        self._done = 0

    def begin(self, phase: Phase, total: int = 0) -> None:
        """A phase starts: reported at once."""
        self._phase, self._total, self._done = phase, total, 0
        self._began = self._last = self._monotonic()
        self._observer(Progress(phase, 0, total))

    def at(self, done: int, fetched: int = 0) -> None:
        """So many bytes of the phase are done."""
        now, self._done = self._monotonic(), done
        if now - self._last < self._interval and done < self._total:
            return
        self._last = now
        seconds = now - self._began
        rate = done / seconds if seconds > 0 else 0.0
        left = (self._total - done) / rate if rate > 0 and self._total else None
        self._observer(Progress(self._phase, done, self._total, rate, left, fetched))

    def note(self, text: str, fetched: int = 0) -> None:
        """The phase waits for something: reported at once, and for as long as nothing is done."""
        self._last = self._monotonic()
        self._observer(Progress(self._phase, self._done, self._total, fetched=fetched, note=text))

    @property
    def seconds(self) -> float:
        """Seconds since the phase began."""
        return self._monotonic() - self._began
