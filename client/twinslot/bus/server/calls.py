"""Bounds on what callers may ask at one time: any user may call, and none of them may stop an update by that."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

OPEN_CALLS: Final = 64  # calls being answered at one time; each holds a message of at most `library.LARGEST` bytes
OPEN_CALLS_EACH: Final = 8  # of one connection; a program that asks one thing after the other has one

T = TypeVar("T")


class OpenCalls:
    """Counts the calls that are being answered.

    Args:
        total: Most at one time.
        each: Most at one time of one connection.
    """

    def __init__(self, total: int = OPEN_CALLS, each: int = OPEN_CALLS_EACH) -> None:
        self._total, self._each = total, each
        self._open: collections.Counter[str] = collections.Counter()

    def begin(self, sender: str) -> bool:
        """Whether this call is still within the bounds; if so, `end` must follow."""
        if self._open.total() >= self._total or self._open[sender] >= self._each:
            return False
        self._open[sender] += 1
        return True

    def end(self, sender: str) -> None:
        """A call was answered; connections without one are forgotten."""
        self._open[sender] -= 1
        if self._open[sender] <= 0:
            del self._open[sender]


class SharedLook(Generic[T]):
    """One look at a time, whoever asks. All who ask while one goes on share the next: no answer is older than its call.

    Args:
        look: The look.
    """

    def __init__(self, look: Callable[[], Awaitable[T]]) -> None:
        self._look = look
        self._one = asyncio.Lock()
        self._next: asyncio.Task[T] | None = None

    async def __call__(self) -> T:
        """What a look that begins after this call finds; raises what it raises."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._run())
        return await asyncio.shield(self._next)

    async def _run(self) -> T:
        async with self._one:
            self._next = None
            return await self._look()
