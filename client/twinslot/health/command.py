"""Checks that are programs."""

from __future__ import annotations

from dataclasses import dataclass, field

from twinslot.core.circumstance import may_pass
from twinslot.health.base import CheckOptions, CheckVerdict, NotAskedError
from twinslot.system import process


@dataclass(frozen=True, slots=True)
class CommandCheck:
    """A program: exit status 0 means well; the last line it prints is the detail.

    It runs in its own process group and is killed with its children when its time is over.
    """

    name: str
    argv: tuple[str, ...]
    terms: CheckOptions = field(default_factory=CheckOptions)

    def probe(self, seconds: float) -> CheckVerdict:
        """Run it once.

        Raises:
            NotAskedError: It was not started, by what may pass.
        """
        try:
            ended = process.run(self.argv, timeout=seconds)
        except OSError as e:
            if may_pass(e):
                raise NotAskedError(e) from e
            return CheckVerdict(passed=False, detail=f"cannot be started: {e.strerror}")
        words = process.last_line(ended.stdout) or process.last_line(ended.stderr)
        if ended.status == 0:
            return CheckVerdict(passed=True, detail=words)
        if ended.status is None:
            return CheckVerdict(
                passed=False, detail=f"did not end within {seconds:g} s" + (f": {words}" if words else "")
            )
        how = f"killed by signal {-ended.status}" if ended.status < 0 else f"exit status {ended.status}"
        return CheckVerdict(passed=False, detail=f"{words} ({how})" if words else how)
