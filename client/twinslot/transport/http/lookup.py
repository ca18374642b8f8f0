"""Names of servers, found in bounded time.

The system's resolver cannot be interrupted, and may take minutes. So it runs in a thread of its own; whoever waits for
it leaves when the time is over, and the next one to ask begins behind what it still does.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from twinslot.transport.http.timed_socket import TICK

STACK: Final = 512 * 1024  # bytes; glibc's resolver keeps its buffers there

Places = list[tuple[int, Any]]  # family and socket address
_Answer = tuple[int, Places | OSError]


class _Resolver:
    """One thread that looks names up, one after the other."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[tuple[int, str, int]] = queue.SimpleQueue()
        self._answered: queue.SimpleQueue[_Answer] = queue.SimpleQueue()
        self._guard = threading.Lock()
        self._number, self._runs = 0, False

    def start(self) -> bool:
        """Whether the thread runs, or can be started now: a process without rights may have no more of them."""
        if not self._runs:
            before = threading.stack_size(STACK)
            try:
                threading.Thread(target=self._work, name="resolver", daemon=True).start()
                self._runs = True
            except RuntimeError:
                return False
            finally:
                threading.stack_size(before)
        return True

    def find(self, host: str, port: int, seconds: float, tick: Callable[[], None]) -> Places:
        with self._guard:  # one caller at a time, so that answers need no address
            if not self.start():
                return _look(host, port)
            self._number += 1
            self._asked.put((self._number, host, port))
            return self._await(time.monotonic() + seconds, tick, host)

    def _await(self, until: float, tick: Callable[[], None], host: str) -> Places:
        while (left := until - time.monotonic()) > 0:
            try:
                number, found = self._answered.get(timeout=min(left, TICK))
            except queue.Empty:
                tick()
                continue
            if number == self._number:
                if isinstance(found, OSError):
                    raise found
                return found
        raise TimeoutError(f"the name '{host}' was not found in time")

    def _work(self) -> None:
        while True:
            number, host, port = self._asked.get()
            try:
                self._answered.put((number, _look(host, port)))
            except OSError as e:
                self._answered.put((number, e))


_resolver = _Resolver()


def prepare() -> None:
    """Start the thread, while this process still may."""
    _resolver.start()


# keeps: S28
def look_up(host: str, port: int, seconds: float, tick: Callable[[], None]) -> Places:
    """The socket addresses of a server.

    Args:
        host: Name or IP address.
        port: Its port.
        seconds: Longest wait.
        tick: Called at least each ten seconds; what it raises ends the wait.

    Raises:
        OSError: The resolver's reason (`socket.gaierror`); `TimeoutError`.
    """
    try:
        return _look(host, port, socket.AI_NUMERICHOST)  # never waits for anything
    except OSError:
        return _resolver.find(host, port, seconds, tick)


def _look(host: str, port: int, flags: int = 0) -> Places:
    try:
        found = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, flags)
    except UnicodeError as e:
        raise OSError(f"'{host}' is no name of a server") from e
    return [(family, place) for family, _, _, _, place in found]
