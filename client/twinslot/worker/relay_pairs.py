"""Bytes between a server and the fetching worker, in both directions: what the relay does once a connection stands.

Nothing is parsed here but TLS, and that by OpenSSL; where a credential is added, the heads of the worker's own
requests. Each direction holds at most `ROOM` bytes; what does not fit waits in the kernel, and so at the server.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from typing import Final

from twinslot.transport.http.credential import HeadEditor, Unfit
from twinslot.transport.http.retry import in_words

ROOM: Final = 64 * 1024  # bytes; a TLS record has 16 KiB at most (RFC 8446, section 5.1)


class LinePair:
    """A connection to a server, and the end of a socket pair whose other end the fetching worker has. Owns both.

    Args:
        near: Towards the worker, in the clear.
        far: Towards the server, connected and encrypted where it should be.
        editor: Adds a credential to requests; None: there is none for this server.

    Attributes:
        reason: Why the server's side ended, for people; empty: it is open, or ended as it should.
    """

    def __init__(self, near: socket.socket, far: socket.socket, editor: HeadEditor | None = None) -> None:
        near.setblocking(False)
        far.setblocking(False)
        self.near, self.far, self.reason, self._editor = near, far, "", editor
        self._to_near, self._to_far = bytearray(), bytearray()
        self._far_ended = self._told = False

    def wanted(self) -> tuple[int, int]:
        """What to wait for on either side: events of poll(2)."""
        near = select.POLLIN if len(self._to_far) < ROOM else 0
        near |= select.POLLOUT if self._to_near else 0
        if self._far_ended:
            return near, 0
        far = select.POLLIN if len(self._to_near) < ROOM else 0
        return near, far | (select.POLLOUT if self._to_far else 0)

    def move(self) -> bool:
        """Move what can be moved without waiting; False: the worker has closed its end, and this pair is over."""
        try:
            while self._take_near() | self._give_far() | self._take_far() | self._give_near():
                pass
        except OSError:  # of the worker's side, which has nothing to be told any more
            return False
        if self._far_ended and not self._to_near and not self._told:
            self._told = True
            self.near.shutdown(socket.SHUT_WR)
        return True

    def close(self) -> None:
        """Drop both; the server is told so if that needs no wait."""
        for each in (self.near, self.far):
            with contextlib.suppress(OSError):
                each.close()

    def _take_near(self) -> bool:
        """From the worker.

        Raises:
            OSError: It has closed its end.
        """
        if len(self._to_far) >= ROOM:
            return False
        try:
            data = self.near.recv(ROOM - len(self._to_far))
        except BlockingIOError:
            return False
        if not data:
            raise ConnectionResetError
        if self._far_ended:  # there is nobody to send it to
            return True
        try:
            self._to_far += self._editor.feed(data) if self._editor else data
        except Unfit as e:
            return self._lost(e)
        return True

    def _give_near(self) -> bool:
        if not self._to_near:
            return False
        try:
            del self._to_near[: self.near.send(self._to_near)]
        except BlockingIOError:
            return False
        return True

    def _take_far(self) -> bool:
        if self._far_ended or len(self._to_near) >= ROOM:
            return False
        try:
            data = self.far.recv(ROOM - len(self._to_near))
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError as e:
            return self._lost(e)
        if not data:
            self._far_ended = True
            return False
        self._to_near += data
        return True

    def _give_far(self) -> bool:
        if self._far_ended or not self._to_far:
            return False
        try:
            del self._to_far[: self.far.send(self._to_far)]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError as e:
            return self._lost(e)
        return True

    def _lost(self, error: OSError) -> bool:
        self.reason, self._far_ended = in_words(error), True
        self._to_far.clear()
        return False
