"""Health checks: what a check is, and the runner that asks them within a deadline.

Checks are asked one after the other, in the order given, so that their programs do not fight for a small processor at
boot. Nothing here looks at the calendar: all times are seconds on a monotonic clock (S16).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from twinslot.core.circumstance import is_shortage, shortage
from twinslot.core.errors import DeviceError, TwinslotError
from twinslot.core.model import CheckResult

SHORTEST: Final = 0.5  # seconds between two tries to ask

log = logging.getLogger(__name__)


class NotAskedError(Exception):
    """A check could not be asked, which says nothing of the release.

    Args:
        error: What the system said; it may pass (`core.circumstance`).
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror)
        self.error = error


@dataclass(frozen=True, slots=True)
class CheckVerdict:
    """The answer of one try: well or not, and one line for people."""

    passed: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """How a check is asked.

    Attributes:
        timeout: Seconds for one try.
        retries: Further tries after the first.
        delay: Seconds between two tries.
        required: A failed required check ends the trial; a wanted one is only reported.
    """

    timeout: float = 30.0
    retries: int = 0
    delay: float = 1.0
    required: bool = True


class Check(Protocol):
    """One question to the running system."""

    @property
    def name(self) -> str:
        """Unique among the checks."""
        ...

    @property
    def terms(self) -> CheckOptions:
        """How it is asked."""
        ...

    def probe(self, seconds: float) -> CheckVerdict:
        """Ask once, and answer within `seconds` (a little more is allowed to clean up).

        Raises:
            NotAskedError: Something that may pass kept it from asking.
        """
        ...


class Runner:
    """Asks checks.

    Args:
        checks: In the order in which they are asked.
        clock: Monotonic seconds.
        sleep: Waits seconds.

    Raises:
        DeviceError: `device.health-names`: two checks share a name.
    """

    def __init__(
        self,
        checks: Sequence[Check],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        names = [check.name for check in checks]
        for name in names:
            if names.count(name) > 1:
                raise DeviceError(
                    f"two health checks are named '{name}'",
                    code="health-names",
                    expected="unique names",
                    hint="a file in health.d and an entry of the configuration may not share one",
                )
        self._checks, self._clock, self._sleep = tuple(checks), clock, sleep

    # keeps: S6, S16
    def run(self, deadline: float, asked: Callable[[int], None] = lambda _: None) -> tuple[CheckResult, ...]:
        """Ask all; one result each, in order. When the clock reaches `deadline`, whatever is left has failed.

        A check that cannot be asked for want of descriptors, memory or processes has not failed. It is asked again for
        as long as its tries may take.

        Args:
            deadline: On the clock.
            asked: Told after each check how many have been asked.

        Raises:
            DeviceError: `device.resources`: a check could not be asked in its time.
        """
        results: list[CheckResult] = []
        for check in self._checks:
            results.append(self._ask(check, deadline))
            asked(len(results))
        return tuple(results)

    def _ask(self, check: Check, deadline: float) -> CheckResult:
        started, terms = self._clock(), check.terms
        until = min(deadline, started + terms.timeout * (terms.retries + 1))
        tries, verdict = 0, CheckVerdict(passed=False, detail="not asked: no time left before the deadline")
        while tries <= terms.retries:
            left = deadline - self._clock()
            if left <= 0:
                break
            try:
                verdict = _probe(check, min(terms.timeout, left))
            except NotAskedError as e:
                self._wait_out(check, e.error, until)
                continue
            tries += 1
            if verdict.passed or tries > terms.retries:
                break
            self._sleep(max(0.0, min(terms.delay, deadline - self._clock())))
        seconds = self._clock() - started
        return CheckResult(check.name, terms.required, verdict.passed, verdict.detail, seconds, tries)

    def _wait_out(self, check: Check, error: OSError, until: float) -> None:
        pause = max(check.terms.delay, SHORTEST)
        if self._clock() + pause >= until:
            raise shortage(f"the health check '{check.name}' cannot be asked", error) from error
        log.warning("the health check '%s' cannot be asked now, so it is asked again: %s", check.name, error.strerror)
        self._sleep(pause)


def _probe(check: Check, seconds: float) -> CheckVerdict:
    """One try.

    Raises:
        NotAskedError: Something that may pass kept it from asking.
    """
    try:
        return check.probe(seconds)
    except NotAskedError:
        raise
    except TwinslotError as e:
        return CheckVerdict(passed=False, detail=str(e))
    except Exception as e:
        if isinstance(e, OSError) and is_shortage(e):
            raise NotAskedError(e) from e
        return CheckVerdict(passed=False, detail=f"the check itself failed: {type(e).__name__}: {e}")
