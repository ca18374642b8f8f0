"""Waits of the tests: for what will come, with a bound that only a hang reaches, so that a busy machine fails no test.

What must *not* happen within a time is no matter for a clock either: a test waits for the end of what could do it, or
looks for what it would leave behind.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

HANG: Final = 180.0  # seconds; what takes milliseconds takes some seconds beside four busy loops on each core


def until(condition: Callable[[], object], seconds: float = HANG) -> None:
    """Until the condition holds.

    Raises:
        AssertionError: It never did.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    """Whether a process has ended: also when its parent has not asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


class Stopped:
    """A clock that stands still until something has happened, and is hours later from the second look after that.

    For programs that must be given up in the middle of what they do: on a real clock they would have to come that far
    in time. The look between leaves the one that waits time to take what came.

    Args:
        happened: Whether it has.
    """

    def __init__(self, happened: Callable[[], object]) -> None:
        self._happened, self._looks = happened, 0

    def monotonic(self) -> float:
        """Seconds."""
        if self._looks or self._happened():
            self._looks += 1
        return 36_000.0 if self._looks > 2 else 0.0
