"""A long job in a thread, and the signals that ask it to stop.

The job is never torn down: the first Ctrl-C or SIGTERM asks it to stop, and then we wait for its defined end. Handlers
do nothing but put a number into a queue that is safe for that (`queue.SimpleQueue`, "reentrant").
"""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_DONE: Final = 0  # no signal has this number
_LOOK: Final = 1.0  # seconds

T = TypeVar("T")


@dataclass(slots=True)
class Ended(Generic[T]):
    """How a job ended: with a value or an error, and the first signal that asked it to stop; 0 for none."""

    value: T | None = None
    error: BaseException | None = None
    signal: int = 0

    @property
    def exit_status(self) -> int:
        """128 and the signal's number, as a shell says it."""
        return 128 + self.signal


def run_job(job: Callable[[], T], stop: Callable[[bool], None]) -> Ended[T]:
    """Run the job and wait for its end, whatever comes.

    Args:
        job: What to do; runs in another thread.
        stop: Called in this thread for each signal, told whether it is the first.
    """
    ended: Ended[T] = Ended()
    news: queue.SimpleQueue[int] = queue.SimpleQueue()

    def work() -> None:
        try:
            ended.value = job()
        except BaseException as e:  # noqa: BLE001 - handed to whoever waits
            ended.error = e
        finally:
            news.put(_DONE)

    with _signals_to(news):
        threading.Thread(target=work, name="job", daemon=True).start()
        while number := _next(news):
            first, ended.signal = not ended.signal, ended.signal or number
            stop(first)
    return ended


def _next(news: queue.SimpleQueue[int]) -> int:
    """Wait for news. A signal that comes right before the wait does not end it, so somebody looks now and then."""
    while True:
        with contextlib.suppress(queue.Empty):
            return news.get(timeout=_LOOK)


@contextlib.contextmanager
def _signals_to(news: queue.SimpleQueue[int]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only the main thread may have handlers
        yield
        return
    before = {number: signal.signal(number, lambda number, _: news.put(number)) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
