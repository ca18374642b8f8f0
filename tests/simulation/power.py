"""Power that can go away at any storage call."""

from __future__ import annotations

import random


class PowerCut(BaseException):
    """Not an Exception: no error handler of the client may see a power cut."""


class Power:
    """Counts storage calls; at the chosen one, the power goes.

    Args:
        cut_at: Number of the call, from 1, inside which the power goes; None: never.
        seed: Decides what becomes of what was not durable.
    """

    def __init__(self, cut_at: int | None = None, seed: int = 0) -> None:
        self.cut_at, self.calls, self.off = cut_at, 0, False
        self.trace: list[str] = []
        self.random = random.Random(f"{seed}/{cut_at}")

    def call(self, name: str) -> bool:
        """One storage call begins. True: the power goes inside it; the caller leaves its mess and raises."""
        assert not self.off, f"'{name}' was called without power"
        self.calls += 1
        self.trace.append(name)
        self.off = self.calls == self.cut_at
        return self.off
