"""Waiting that ends: seconds on the monotonic clock, never a count of sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from twinslot_lab.errors import BoardError

Answer = TypeVar("Answer")


class Deadline:
    """A point in time by which `what` has happened, or else the wait ends with an error that says so.

    Args:
        seconds: From now.
        what: What is waited for, as in "slot b answers".
    """

    def __init__(self, seconds: float, what: str) -> None:
        self.seconds = seconds
        self.what = what
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end - time.monotonic())

    @property
    def passed(self) -> bool:
        """No time is left."""
        return self.left == 0.0

    def failure(self, tail: str = "") -> BoardError:
        """The error to raise when it has passed."""
        return BoardError(f"waited {self.seconds:g} s in vain: {self.what}", tail)

    def poll(self, happened: Callable[[], Answer | None], every: float = 0.2) -> Answer:
        """Ask `happened` every so many seconds until it says anything but no (False, None, empty); returns that.

        Raises:
            BoardError: The deadline passed first.
        """
        while not (answer := happened()):
            if self.passed:
                raise self.failure()
            time.sleep(min(every, self.left))
        return answer
