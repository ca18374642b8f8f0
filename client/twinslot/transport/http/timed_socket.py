"""A socket on which no wait is without bound.

`bound` starts the clock of one wait, such as "the head of this answer"; however many pieces it comes in, all of them
must come before that clock runs out, and before the deadline of the whole download. A server that sends a byte now and
then gains nothing.
"""

from __future__ import annotations

import errno
import io
import os
import select
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

T = TypeVar("T")
TICK: Final = 10.0  # seconds; the longest wait without a sign of life
_LIMITLESS: Final = 1 << 62  # bytes


class TooLong(OSError):  # noqa: N818 - an OSError for those who catch these
    """More bytes came than this wait allows."""


class TimedSocket:
    """Owns the socket.

    Args:
        sock: Not connected yet.
        left: Seconds until the deadline of the whole download.
        tick: Called at least each `TICK` seconds of waiting; what it raises ends the wait.
    """

    def __init__(self, sock: socket.socket, left: Callable[[], float], tick: Callable[[], None]) -> None:
        sock.setblocking(False)
        self._socket, self._left, self._tick = sock, left, tick
        self._until, self._room, self._seconds = 0.0, _LIMITLESS, 0.0

    # keeps: S28
    def bound(self, seconds: float, size: int = _LIMITLESS) -> None:
        """Whatever is done from here on, until the next call, takes so many seconds and received bytes at most."""
        self._seconds, self._room = min(seconds, self._left()), size
        self._until = time.monotonic() + self._seconds

    def connect(self, place: Any) -> None:
        """Connect to a socket address.

        Raises:
            OSError: The system's reason; `TimeoutError`: none came in time.
        """
        status = self._socket.connect_ex(place)
        if status in (errno.EINPROGRESS, errno.EAGAIN):
            self._wait(select.POLLOUT)
            status = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if status:
            raise OSError(status, os.strerror(status))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """Shake hands; everything after is encrypted.

        Raises:
            ssl.SSLCertVerificationError: The server is not `host`.
            OSError: Anything else that goes wrong.
        """
        self._socket = sock = context.wrap_socket(self._socket, server_hostname=host, do_handshake_on_connect=False)
        self._patiently(sock.do_handshake, select.POLLIN)

    def send(self, data: bytes) -> None:
        """Send all of it. Raises OSError."""
        view = memoryview(data)
        while view:
            view = view[self._patiently(lambda: self._socket.send(view), select.POLLOUT) :]  # noqa: B023 - called now

    def receive_into(self, buffer: Any) -> int:
        """As `socket.recv_into`; 0: the other end closed.

        Raises:
            TooLong: The wait's bytes are used up.
            OSError: The system's reason; `TimeoutError`: nothing came in time.
        """
        count = self._patiently(lambda: self._socket.recv_into(buffer), select.POLLIN)
        self._room -= count
        if self._room < 0:
            raise TooLong("the answer's head is too long")
        return count

    def reader(self) -> io.BufferedReader:
        """A buffer in front of `receive_into`; closing it leaves the socket open."""
        return io.BufferedReader(_Raw(self))

    def certificate(self) -> bytes:
        """The other end's certificate in DER, once hands were shaken; empty: it showed none."""
        assert isinstance(self._socket, ssl.SSLSocket)
        return self._socket.getpeercert(binary_form=True) or b""

    def bare(self) -> socket.socket:
        """The socket itself, without clocks; whoever takes it owns it from here on."""
        return self._socket

    def close(self) -> None:
        """Drop the connection; may be called twice."""
        self._socket.close()

    def _patiently(self, act: Callable[[], T], event: int) -> T:
        while True:
            if time.monotonic() >= self._until:  # also when bytes keep dripping in
                raise self._timeout()
            try:
                return act()
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN)
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT)
            except BlockingIOError:
                self._wait(event)

    def _wait(self, event: int) -> None:
        poll = select.poll()
        poll.register(self._socket, event)
        while (left := self._until - time.monotonic()) > 0:
            if poll.poll(max(1, min(left, TICK) * 1000)):
                return
            self._tick()
        raise self._timeout()

    def _timeout(self) -> TimeoutError:
        return TimeoutError(f"nothing complete within {max(self._seconds, 0):.3g} seconds")


class _Raw(io.RawIOBase):
    def __init__(self, timed: TimedSocket) -> None:
        super().__init__()
        self._timed = timed

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._timed.receive_into(buffer)
