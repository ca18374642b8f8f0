"""One job: blocking work in a thread of its own, watched from the bus."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from twinslot.bus import names
from twinslot.bus.server.objects import Call, Exporter, Method
from twinslot.core.errors import CancelledError, LifecycleError, Refusal, RefusedError, TwinslotError
from twinslot.core.model import Reason
from twinslot.core.origin import Origin
from twinslot.core.outcome import outcome_of, outcome_of_error
from twinslot.core.progress import Observer, Progress
from twinslot.core.rights import Right
from twinslot.core.transaction import Transaction
from twinslot.system.cancellation import Cancellation
from twinslot.system.journal import ended_outside

INTERVAL: Final = 0.25  # seconds between two reports within a phase: at most 4 a second

_log: Final = logging.getLogger(__name__)

Work = Callable[[Observer], Transaction | None]
"""Blocking; raises `TwinslotError`."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ended, as it is told on the bus.

    Attributes:
        outcome: A word of `core.outcome.JobOutcome`.
        exit_status: What the command line would end with.
        error: `TwinslotError.as_dict` as JSON, or empty.
        transaction: `Transaction.as_dict` as JSON, or empty.
    """

    outcome: str = ""
    exit_status: int = 0
    error: str = ""
    transaction: str = ""


def failed(error: TwinslotError) -> Ending:
    """The ending that an error makes."""
    return Ending(outcome_of_error(error), error.exit_status, json.dumps(error.as_dict(), default=str))


class Job:
    """A job object on the bus. All but the work itself happens in the event loop.

    Args:
        path: Where it is exported.
        kind: Name of the verb.
        work: Run once, in its own thread, when `start` is called.
        exporter: Tells changes.
        origin: Who asked for it.
        cancellation: Stops the work; None when it cannot be stopped.
    """

    interface = names.JOB

    def __init__(
        self,
        path: str,
        kind: str,
        work: Work,
        exporter: Exporter,
        origin: Origin,
        cancellation: Cancellation | None = None,
    ) -> None:
        self.path, self.kind, self._origin = path, kind, origin
        self.ending = Ending()
        self.done = asyncio.Event()
        self._work, self._exporter, self._cancellation = work, exporter, cancellation
        self._loop = asyncio.get_running_loop()
        self._progress: Progress | None = None  # the last that was told
        self._waiting: Progress | None = None  # newer, to be told when the timer fires
        self._timer: asyncio.TimerHandle | None = None
        self._phase_began: Callable[[], None] = lambda: None
        self._finished: Callable[[], None] = lambda: None

    def start(self, phase_began: Callable[[], None], finished: Callable[[], None]) -> None:
        """Begin the work.

        Args:
            phase_began: Called at the start of each phase.
            finished: Called once the ending is known, before it is told on the bus.
        """
        self._phase_began, self._finished = phase_began, finished
        # A daemon: work that does not stop must not keep the service from leaving when it is told to.
        threading.Thread(target=self._run, name=self.path, daemon=True).start()

    @property
    def cancellable(self) -> bool:
        """Whether `cancel` can stop the work."""
        return self._cancellation is not None

    def cancel(self, by: Origin, reason: Reason = Reason.CANCELLED) -> None:
        """Ask the work to stop; returns at once.

        Args:
            by: Who asks.
            reason: What is stored.

        Raises:
            RefusedError: `refused.finished`, or `refused.not-cancellable`.
        """
        if self.done.is_set():
            raise RefusedError(Refusal("finished", f"job '{self.path}' is finished"))
        if self._cancellation is None:
            raise RefusedError(
                Refusal("not-cancellable", f"a {self.kind} cannot be cancelled", hint="wait for its end")
            )
        self._cancellation.set(by, reason)

    def give_up(self) -> None:
        """The service leaves now and the work did not end: say so. What it did so far, the record knows."""
        hint = "'twinslot status' says how far it came"
        self._end(failed(CancelledError("the update service was stopped", code="stopped", hint=hint)))

    @property
    def methods(self) -> Mapping[str, Method]:
        """See `BusObject`."""
        return {"Cancel": self._call_cancel}

    async def properties(self) -> dict[str, Any]:
        """See `BusObject`."""
        return {
            "Kind": self.kind,
            "State": "finished" if self.done.is_set() else "running",
            **_progress_properties(self._progress),
            "Outcome": self.ending.outcome,
            "ExitStatus": self.ending.exit_status,
            "Error": self.ending.error,
            "Transaction": self.ending.transaction,
        }

    def result(self) -> str:
        """The ending as the property `LastResult` has it."""
        words = {name: json.loads(value or "null") for name, value in asdict(self.ending).items() if name in _JSON}
        head = {"job": self.path, "kind": self.kind, "outcome": self.ending.outcome}
        return json.dumps(head | {"exit_status": self.ending.exit_status} | words)

    async def _call_cancel(self, call: Call) -> list[Any]:
        if call.origin.uid != self._origin.uid:  # whoever may offer an image may stop that install
            await call.require(Right.OPERATE)
        self.cancel(call.origin)
        return []

    def _run(self) -> None:
        """In the thread."""
        try:
            transaction = self._work(lambda progress: self._post(self._take, progress))
            told = json.dumps(transaction.as_dict(), default=str) if transaction else ""
            ending = Ending(outcome_of(transaction), transaction=told)
        except TwinslotError as e:
            ended_outside(self.kind, e, self._origin)
            ending = failed(e)
        except Exception:  # noqa: BLE001 - the bus gets a sentence, the log gets the rest
            _log.exception("job '%s' failed by a mistake of ours", self.path)
            hint = "see the log of the service"
            ending = failed(LifecycleError("the job failed by a mistake in the service", code="internal", hint=hint))
        self._post(self._end, ending)

    def _post(self, function: Callable[..., None], *args: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(function, *args)

    def _take(self, progress: Progress) -> None:
        began = self._progress is None or progress.phase is not self._progress.phase
        if began or self._timer is None:
            self._tell(progress)
            if began:
                self._phase_began()
        else:
            self._waiting = progress

    def _tell(self, progress: Progress) -> None:
        if self._timer is not None:
            self._timer.cancel()
        before = _progress_properties(self._progress)
        self._progress, self._waiting = progress, None
        after = _progress_properties(progress)
        self._exporter.changed(self.path, names.JOB, {k: v for k, v in after.items() if v != before[k]})
        self._timer = self._loop.call_later(INTERVAL, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._waiting is not None:
            self._tell(self._waiting)

    def _end(self, ending: Ending) -> None:
        if self.done.is_set():  # given up before
            return
        if self._waiting is not None:
            self._tell(self._waiting)
        if self._timer is not None:
            self._timer.cancel()
        self.ending = ending
        self.done.set()
        self._finished()
        told = {"State": "finished", "Outcome": ending.outcome, "ExitStatus": ending.exit_status}
        told |= {"Error": ending.error, "Transaction": ending.transaction}
        self._exporter.changed(self.path, names.JOB, told)
        body = [ending.outcome, ending.exit_status, ending.error, ending.transaction]
        self._exporter.signal(self.path, names.JOB, "Finished", body)


_JSON: Final = ("error", "transaction")


def _progress_properties(progress: Progress | None) -> dict[str, Any]:
    if progress is None:
        return {"Phase": "", "Progress": ["", 0, 0, 0.0, -1.0, 0, ""]}
    left = -1.0 if progress.left is None else progress.left
    numbers = [progress.done, progress.total, float(progress.rate), float(left), progress.fetched]
    told = [str(progress.phase), *numbers, progress.note]
    return {"Phase": str(progress.phase), "Progress": told}
