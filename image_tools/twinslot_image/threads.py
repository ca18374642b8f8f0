"""Work that lets go of the interpreter's lock, done by a few threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_A = TypeVar("_A")
_R = TypeVar("_R")


def in_order(
    function: Callable[[_A], _R], items: Iterable[_A], workers: int | None, window: int
) -> Generator[_R, None, None]:
    """The function's results in the order of the items; close it to give up what waits.

    Args:
        function: What to do with each.
        items: Read as results are taken.
        workers: Threads; None: as Python chooses.
        window: Items on their way at once, so that memory does not grow with their number.
    """
    waiting = deque[Future[_R]]()
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= window:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
