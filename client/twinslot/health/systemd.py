"""Checks that ask systemd: a unit is active, or no unit has failed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from twinslot.health.base import CheckOptions, CheckVerdict
from twinslot.system import process

SYSTEMCTL: Final = "systemctl"
POLL: Final = 0.5  # seconds between two looks at a unit that is still starting
PROPERTIES: Final = "LoadState,ActiveState,SubState,Result,Job"
_PATTERN: Final = re.compile(r"[*?[]")  # systemctl(1), "Parameter Syntax"
WAITING: Final = ("activating", "reloading", "refreshing", "deactivating")


@dataclass(frozen=True, slots=True)
class UnitCheck:
    """The unit is active. While it starts, or has a job queued, it is waited for; a failed one is not."""

    unit: str
    terms: CheckOptions = field(default_factory=CheckOptions)
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    @property
    def name(self) -> str:
        """`unit:` and the unit's name."""
        return f"unit:{self.unit}"

    def probe(self, seconds: float) -> CheckVerdict:
        """Look until it is active, failed, or the time is over.

        Raises:
            OSError: As the system says it; the caller names what was meant.
        """
        if is_pattern(self.unit):  # systemctl would answer for every unit that matches, and for none with success
            return CheckVerdict(passed=False, detail="this is a pattern: name each unit")
        until = self.clock() + seconds
        while True:
            left = until - self.clock()
            ended = process.run(
                [SYSTEMCTL, "show", f"--property={PROPERTIES}", "--", self.unit], timeout=max(left, 0.1)
            )
            if ended.status != 0:
                return CheckVerdict(passed=False, detail=f"systemctl {ended.complaint()}")
            state = dict(
                line.split("=", 1) for line in ended.stdout.decode(errors="replace").splitlines() if "=" in line
            )
            active, detail = state.get("ActiveState", "unknown"), _describe(state)
            if active == "active":
                return CheckVerdict(passed=True, detail=detail)
            if active not in WAITING and not state.get("Job"):
                return CheckVerdict(passed=False, detail=detail)
            if until - self.clock() <= POLL:
                return CheckVerdict(passed=False, detail=f"{detail} after {seconds:g} s")
            self.sleep(POLL)


@dataclass(frozen=True, slots=True)
class NoFailedUnits:
    """No unit of the system is in the state failed."""

    terms: CheckOptions = field(default_factory=CheckOptions)
    name: str = "no-failed-units"

    def probe(self, seconds: float) -> CheckVerdict:
        """Ask for the failed ones; up to five are named.

        Raises:
            OSError: As the system says it; the caller names what was meant.
        """
        ended = process.run(
            [SYSTEMCTL, "list-units", "--state=failed", "--plain", "--no-legend", "--full"], timeout=seconds
        )
        if ended.status != 0:
            return CheckVerdict(passed=False, detail=f"systemctl {ended.complaint()}")
        failed = [line.split()[0] for line in ended.stdout.decode(errors="replace").splitlines() if line.split()]
        more = f" and {len(failed) - 5} more" if len(failed) > 5 else ""
        return CheckVerdict(not failed, f"failed: {', '.join(failed[:5])}{more}" if failed else "")


def is_pattern(unit: str) -> bool:
    """Whether systemctl would take it for a pattern of names."""
    return _PATTERN.search(unit) is not None


def _describe(state: dict[str, str]) -> str:
    if state.get("LoadState", "loaded") != "loaded":
        return f"unit is {state['LoadState']}"
    result = state.get("Result", "success")
    words = f"{state.get('ActiveState', 'unknown')} ({state.get('SubState', '')})"
    return words if result in ("success", "") else f"{words}, result {result}"
