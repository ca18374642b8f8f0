"""The jobs of this run of the service: one at a time, the last few readable after their end."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Final

from twinslot.bus.names import JOB_PATH, NO_JOB
from twinslot.bus.server.job import Job, Work
from twinslot.bus.server.objects import Exporter
from twinslot.core.errors import Refusal, RefusedError
from twinslot.core.origin import Origin
from twinslot.system.cancellation import Cancellation

KEPT: Final = 16  # finished jobs that stay readable; a caller that is late still learns the ending


class Jobs:
    """Starts jobs and exports them.

    Args:
        exporter: Where they are exported.
        changed: Called when a job begins, begins a phase, or ends.
    """

    def __init__(self, exporter: Exporter, changed: Callable[[], None]) -> None:
        self._exporter, self._changed = exporter, changed
        self._number = 0
        self._finished: collections.deque[Job] = collections.deque()
        self._closed = False
        self.current: Job | None = None

    @property
    def last(self) -> Job | None:
        """The job that finished last."""
        return self._finished[-1] if self._finished else None

    @property
    def current_path(self) -> str:
        """Path of the running job, or `/`."""
        return self.current.path if self.current else NO_JOB

    def require_idle(self) -> None:
        """Whether a job may start now.

        Raises:
            RefusedError: `refused.busy`, or `refused.leaving`.
        """
        if self._closed:
            raise RefusedError(Refusal("leaving", "the update service is being stopped", hint="try again in a moment"))
        if self.current is not None:
            hint = "wait for its end, or use 'twinslot cancel'"
            busy = Refusal(
                "busy", f"a job of kind '{self.current.kind}' is running", found=self.current_path, hint=hint
            )
            raise RefusedError(busy)

    def start(
        self,
        kind: str,
        work: Work,
        origin: Origin,
        cancellation: Cancellation | None = None,
        finished: Callable[[], None] = lambda: None,
    ) -> Job:
        """Begin a job.

        Args:
            kind: Name of the verb.
            work: What it does; see `Job`.
            origin: Who asked for it.
            cancellation: Stops it; None when it cannot be stopped.
            finished: Called at its end. Not called when it is refused.

        Raises:
            RefusedError: As `require_idle`.
        """
        self.require_idle()
        self._number += 1
        job = Job(f"{JOB_PATH}/{self._number}", kind, work, self._exporter, origin, cancellation)
        self.current = job
        self._exporter.add(job.path, job)
        job.start(self._changed, lambda: self._end(job, finished))
        self._changed()
        return job

    def close(self) -> None:
        """Refuse every further job."""
        self._closed = True

    def _end(self, job: Job, finished: Callable[[], None]) -> None:
        self.current = None
        self._finished.append(job)
        if len(self._finished) > KEPT:
            self._exporter.remove(self._finished.popleft().path)
        finished()
        self._changed()
