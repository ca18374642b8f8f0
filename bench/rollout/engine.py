"""A device's update service as the client of a server sees it: `app.updater.Updater`, on an engine that is simulated.

Rows, states and ends are those of core/lifecycle.py for this story: an order is written and armed at once, a restart
begins a trial, and a verdict ends it. Power may go between any two steps. What a device really runs is kept beside
(`runs`), so that what the server was told can be compared with it.
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import PurePath
from typing import Any, Final

from bench.rollout.scenario import RolloutRelease
from twinslot.core.errors import CancelledError, DeviceError, LifecycleError, Refusal, RefusedError, TransportError
from twinslot.core.events import AuditEvent
from twinslot.core.lifecycle import State
from twinslot.core.model import Reason
from twinslot.core.origin import Origin, OriginKind
from twinslot.core.progress import Observer, Phase, Progress
from twinslot.core.requests import ActivateOptions, InstallOptions
from twinslot.system.cancellation import Cancellation

_BEGIN: Final = datetime(2026, 12, 1, tzinfo=UTC)
_SIZE: Final = 100  # bytes of an image: nothing is fetched
JsonDict = dict[str, Any]


class PowerLostError(BaseException):
    """No handler of the client may see it."""


@dataclass
class DevicePower:
    """A supply that may fail at each step.

    Attributes:
        cuts: How often it does; 0: never.
    """

    random: random.Random
    cuts: float
    off: bool = False

    def step(self) -> None:
        """One step begins.

        Raises:
            PowerLostError: The power is gone.
        """
        self.off = self.off or self.random.random() < self.cuts
        if self.off:
            raise PowerLostError


@dataclass
class SimulatedService:
    """One device. Implements what a client of a server asks of `app.updater.Updater`.

    Attributes:
        name: Of the device.
        releases: That there are, by name.
        fails: Names of those that fail their checks here.
        fetch_fails: How often an image cannot be fetched.
        runs: Name of the committed release.
        trial: Name of the release on trial; empty: none is.
        ends: What came of each release here: `committed` or `rolled-back`.
    """

    name: str
    releases: dict[str, RolloutRelease]
    fails: frozenset[str]
    power: DevicePower
    fetch_fails: float = 0.0
    runs: str = "1.0"
    trial: str = ""
    ends: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rows: list[JsonDict] = []
        self._state, self._current, self._wanted = State.IDLE, "", ""
        self._origin: JsonDict = {}
        self._count = 0
        self._guard = threading.RLock()

    @property
    def wants_restart(self) -> bool:
        """Whether it is armed."""
        return self._state is State.ARMED

    # What a client asks

    def status(self) -> JsonDict:
        """See `app.updater.Updater`."""
        with self._guard:
            self.power.step()
            release = {"name": self.trial or self.runs, "sequence": self._sequence(self.trial or self.runs)}
            return {
                "version": "0",
                "running": "b" if self.trial else "a",
                "state": str(self._state),
                "transaction": {"id": self._current} if self._current else None,
                "slots": {"a": {"state": "good", "running": True, "release": release}},
                "floors": {},
                "failed": {str(self._sequence(n)): "x" for n, end in self.ends.items() if end == "rolled-back"},
            }

    def log(self, after: int, since: str, limit: int) -> JsonDict:
        """See `app.updater.Updater`; `since` is not used by a client of a server."""
        with self._guard:
            self.power.step()
            assert not since
            rows = [row for row in self._rows if row["number"] > after]
            return {"rows": rows[:limit] if after else rows[-limit:]}

    def install(
        self, source: str | int, options: InstallOptions, observer: Observer, cancelled: Cancellation | None = None
    ) -> JsonDict:
        """See `app.updater.Updater`. Nothing is fetched: the name of the image says what it would be.

        Raises:
            TransportError: It could not be fetched.
            DeviceError: The power went; whoever asked is gone as well.
        """
        release = PurePath(str(source)).stem
        with self._guard:
            self._begin(options.action)
            if self.power.random.random() < self.fetch_fails:
                error = TransportError("the server does not answer", code="network")
                self._row(AuditEvent.VERB_FAILED, str(error), code=error.code)
                raise error
            if release == self.runs:
                self._refuse(Refusal("already-installed", f"release '{release}' runs and is committed"))
            try:
                self._write(release, observer, activate=options.activate)
            except PowerLostError:
                raise DeviceError("the power went", code="power") from None
            if cancelled is not None and cancelled.is_set():
                self.cancel()
                raise CancelledError("the install was cancelled")
            return {}

    def _begin(self, action: str) -> None:
        self._origin = Origin(OriginKind.SERVER, uid=990, action=action).as_dict()
        if self._state not in (State.IDLE, State.WRITTEN, State.ARMED):
            self._refuse(Refusal("busy", "another update is under way"))
        if self._current:
            self._drop("replaced")

    def _write(self, release: str, observer: Observer, *, activate: bool) -> None:
        self._count += 1
        self._current, self._wanted = f"{self._count:032x}", release
        self._state = State.WRITING
        self._row(AuditEvent.ACCEPTED, "an image was verified and accepted; it is being written", release=release)
        self.power.step()
        observer(Progress(Phase.WRITE, _SIZE, _SIZE))
        self._state = State.WRITTEN
        self._row(AuditEvent.VERIFIED, "the slot was read back and holds what was signed")
        self.power.step()
        if activate:
            self._arm()

    def _arm(self) -> None:
        self._row(AuditEvent.ACTIVATE, "the slot is being made the next to start")
        self._state = State.ARMED
        self.power.step()

    def activate(self, options: ActivateOptions, observer: Observer) -> JsonDict:
        """See `app.updater.Updater`."""
        with self._guard:
            self.power.step()
            if self._state is not State.WRITTEN:
                self._refuse(Refusal("nothing-written", f"nothing waits ({options}, {observer})"))
            self._arm()
            return {}

    def cancel(self) -> None:
        """See `app.updater.Updater`."""
        with self._guard:
            self.power.step()
            if self._state not in (State.WRITING, State.WRITTEN, State.ARMED):
                self._refuse(Refusal("nothing-to-cancel", "nothing waits"))
            self._drop("cancelled")

    def decline(self, action: str, why: str) -> None:
        """See `app.updater.Updater`."""
        with self._guard:
            self._origin = Origin(OriginKind.SERVER, uid=990, action=action).as_dict()
            self._refuse(Refusal("order", why))

    def close(self) -> None:
        """See `app.updater.Updater`."""

    # What happens to the device

    def start(self) -> None:
        """Power comes, or it restarts itself."""
        self.power.off = False
        if self._state is State.WRITING:
            self._drop(Reason.INTERRUPTED)
        elif self._state is State.ARMED:
            self._state, self.trial = State.TRIAL, self._wanted
            self._row(AuditEvent.BOOTED_NEW, "the new system runs on trial")

    def leave(self) -> None:
        """A start during the trial finds the old system: its tries are over."""
        self._end(AuditEvent.ROLLED_BACK, "the new system was left; the old one runs", Reason.BOOTLIMIT)

    def judge(self) -> None:
        """The health checks of the system on trial."""
        well = self.trial not in self.fails
        self._row(AuditEvent.CHECKED, "the health checks were asked", well=well)
        if not well:
            self._row(AuditEvent.UNHEALTHY, "a required health check failed", failed=["pump"])
            self._end(AuditEvent.ROLLED_BACK, "the new system was left; the old one runs", Reason.UNHEALTHY)
            return
        self._row(AuditEvent.HEALTHY, "the new system is being committed")
        self._end(AuditEvent.COMMITTED, "the update is complete: the new system is kept", "")

    def _end(self, event: AuditEvent, words: str, reason: str) -> None:
        self.ends[self.trial] = str(event)
        self.runs = self.trial if event is AuditEvent.COMMITTED else self.runs
        self._row(event, words, outcome=str(event), reason=str(reason))
        self._state, self._current, self.trial = State.IDLE, "", ""

    def _drop(self, reason: str) -> None:
        self._row(AuditEvent.ABANDONED, "the update ended before its system was started", reason=str(reason))
        self._state, self._current = State.IDLE, ""

    def _refuse(self, why: Refusal) -> None:
        error = RefusedError(why)
        self._row(AuditEvent.REFUSED, str(error), transaction="", code=error.code)
        raise error

    def _row(self, event: AuditEvent, message: str, **fields: object) -> None:
        number = len(self._rows) + 1
        known = {"transaction": self._current, "origin": self._origin} | fields
        at = (_BEGIN + timedelta(seconds=number)).isoformat()
        row = {"number": number, "event": str(event), "message": message, "at": at, "hash": f"{self.name} {number}"}
        self._rows.append(row | {"fields": {key: value for key, value in known.items() if value != ""}})

    def _sequence(self, name: str) -> int:
        if name == "1.0":
            return 10
        if name not in self.releases:
            raise LifecycleError(f"there is no release '{name}'", code="release")
        return self.releases[name].sequence
