"""Checks that are a number which a program prints, held to bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from twinslot.health.base import CheckOptions, CheckVerdict
from twinslot.health.command import CommandCheck


@dataclass(frozen=True, slots=True)
class ValueCheck:
    """A program that must end with status 0; with bounds, the last line that it prints is a number within them."""

    name: str
    argv: tuple[str, ...]
    low: float | None = None
    high: float | None = None
    terms: CheckOptions = field(default_factory=CheckOptions)

    def probe(self, seconds: float) -> CheckVerdict:
        """Run it once.

        Raises:
            NotAskedError: It was not started, by what may pass.
        """
        found = CommandCheck(self.name, self.argv, self.terms).probe(seconds)
        if not found.passed or (self.low is None and self.high is None):
            return found
        try:
            value = float(found.detail)
        except ValueError:
            return CheckVerdict(passed=False, detail=f"no number: {found.detail}")
        within = math.isfinite(value) and (self.low is None or value >= self.low)
        within = within and (self.high is None or value <= self.high)
        return CheckVerdict(within, f"{value:g}" if within else f"{value:g}, expected {self._bounds()}")

    def _bounds(self) -> str:
        low = "" if self.low is None else f"at least {self.low:g}"
        high = "" if self.high is None else f"at most {self.high:g}"
        return " and ".join(each for each in (low, high) if each)
