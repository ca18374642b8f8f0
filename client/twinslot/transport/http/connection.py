"""The way to one URL: TLS, redirects, and a connection that stays open between requests.

Rules:

1. At most one connection is open. It is used again if the answer before was read to its end and the server lets us.
2. At most `REDIRECTS_MAX` redirects, never from https to http, nor to where dial.py does not go. No compression.
3. Where a redirect led holds for as long as the connection stands; each new connection starts at the first address
   again, since such addresses are often signed for minutes only, or lead to a server that has gone. So does a request
   that a redirect's target refuses on a kept connection.
4. A kept connection that turns out to be closed is replaced at once: servers drop idle ones, and that is no failure.
5. Interim answers (1xx; RFC 9110, section 15.2) are read and forgotten, `INTERIM_MAX` of them at most. The head of an
   answer, they included, comes whole within the read timeout.
"""

from __future__ import annotations

import http.client
import io
from collections.abc import Callable, Mapping
from typing import Final

import twinslot
from twinslot.core.address import Address, follow
from twinslot.core.errors import TransportError
from twinslot.core.text import printable
from twinslot.transport.http.answers import require_length
from twinslot.transport.http.dial import HEAD_MAX, Dials, Line, let_go, read_head
from twinslot.transport.http.options import HttpSettings
from twinslot.transport.http.retry import Broken, RetryPolicy
from twinslot.transport.http.timed_socket import TimedSocket

REDIRECTS_MAX: Final = 5
REDIRECTS: Final = (301, 302, 303, 307, 308)
EXPIRED: Final = (400, 401, 403, 404, 410)  # what a signed address says when its time is over
INTERIM_MAX: Final = 32  # interim answers before the final one
SETTLE: Final = 2.0  # seconds for the end of a body that was read; a new connection costs about as much


class Reply:
    """The head of an answer, and its body to read.

    Attributes:
        address: That answered, after redirects.
        response: Its head.
        took: Seconds from the request to the head.
        sock: Over which it comes.
    """

    def __init__(
        self, address: Address, response: http.client.HTTPResponse, took: float, sock: TimedSocket, policy: RetryPolicy
    ) -> None:
        self.address, self.response, self.took = address, response, took
        self.sock, self._policy = sock, policy

    def read(self, limit: int, seconds: float) -> bytes:
        """At most so many bytes of the body, within so many seconds; empty: it ended, whether whole or not.

        Raises:
            Broken: The connection was lost or is too slow.
        """
        began = self._policy.clock()
        self.sock.bound(seconds)
        try:
            chunk = self.response.read1(limit)
        except (OSError, http.client.HTTPException) as e:
            raise Broken(e) from e
        if len(chunk) > limit:  # http.client takes a chunk of negative length for one without end
            raise Broken(f"{len(chunk)} bytes instead of at most {limit}")
        self._policy.waited(len(chunk), self._policy.clock() - began)
        return chunk


class Connection:
    """At most one open connection towards one address.

    Args:
        address: Where every new connection starts.
        settings: Timeouts and certificates.
        policy: Of the download.
        tick: A sign of life during waits.
        dialer: Makes its connections.
    """

    def __init__(
        self,
        address: Address,
        settings: HttpSettings,
        policy: RetryPolicy,
        tick: Callable[[], None],
        dialer: Dials,
    ) -> None:
        self.address, self._settings, self._policy, self._tick = address, settings, policy, tick
        self._dialer = dialer
        self._there = address  # after redirects
        self._line: Line | None = None
        self._sent: Mapping[str, str] | None = None  # the headers of a request whose answer nobody waits for yet
        self.reply: Reply | None = None  # whose body is being read

    def read(self, limit: int | None = None) -> bytes:
        """The next bytes of the reply's body, at most `limit`; empty: it ended, whether whole or not.

        Raises:
            Broken: The connection was lost or is too slow.
        """
        assert self.reply is not None
        piece = self._policy.piece
        return self.reply.read(piece if limit is None else min(limit, piece), self._settings.read_timeout)

    def get(self, headers: Mapping[str, str]) -> Reply:
        """Ask, and wait for the head of the answer. What an earlier reply has not delivered is lost.

        Raises:
            Broken: Another try may help.
            TransportError: `transport.redirect`, `transport.tls`, `transport.url`.
            DeviceError: `device.tls-files`.
        """
        if self.reply is not None or self._sent not in (None, headers):
            self.close()
        sent, self._sent = self._sent is not None, None
        self.reply = self._ask_again(headers, sent=sent) or self._ask_anew(headers)
        return self.reply

    def post(self, headers: Mapping[str, str], body: bytes) -> Reply:
        """Hand a body over, on a new connection, and wait for the head of the answer. No redirect is followed.

        Raises:
            Broken: Another try may help; whether the body arrived is not known.
            TransportError: `transport.redirect`, and those of `get`.
        """
        self.close()
        self._there = self.address
        self._line = self._dialer.dial(self.address)
        self._send(self._line, self.address, {**headers, "Content-Length": str(len(body))}, "POST", body)
        self.reply = self._wait(self._line, self.address)
        if self.reply.response.status in REDIRECTS:
            there = printable(self.reply.response.headers.get("Location", ""))
            self.close()
            what, hint = f"'{self.address}' redirects what is sent to it", "give the final address"
            raise TransportError(what, code="redirect", expected="an answer", found=there, hint=hint)
        return self.reply

    def send(self, headers: Mapping[str, str]) -> None:
        """Ask ahead: the next `get` of the same takes the answer, or asks again if that went wrong."""
        if self.reply is not None or self._sent is not None:
            self.close()
        try:
            if self._line is None:
                self._there = self.address
                self._line = self._dialer.dial(self.address)
            self._send(self._line, self._there, headers)
            self._sent = headers
        except Broken:
            self.close()

    def turn_to(self, address: Address) -> None:
        """The next request is for this address. A connection that stands is kept for another file of its server."""
        same = (address.scheme, address.host, address.number) == (
            self._there.scheme,
            self._there.host,
            self._there.number,
        )
        if self.reply is not None or self._sent is not None or not same or self._there != self.address:
            self.close()
        self.address = self._there = address

    def finish(self) -> None:
        """The body of the last reply was read as far as we need; keep the connection if nothing else is in it."""
        if self.reply is None:
            return
        reply, self.reply = self.reply, None
        response = reply.response
        reply.sock.bound(min(SETTLE, self._settings.read_timeout))
        try:
            ended = response.length == 0 or (response.chunked and not response.read1(1))
        except (OSError, http.client.HTTPException):
            ended = False
        response.close()
        if not ended or response.will_close:
            self.close()

    def give_away(self) -> Connection:
        """Another one that takes over what is open here; this one is as new."""
        other = Connection(self.address, self._settings, self._policy, self._tick, self._dialer)
        other._there, other._line, other.reply = self._there, self._line, self.reply
        self._line = self.reply = self._sent = None
        return other

    def leave(self) -> None:
        """Nobody waits for an answer any more: drop the connection if one is under way, else keep it."""
        if self.reply is not None or self._sent is not None:
            self.close()

    def close(self) -> None:
        """Drop the connection and the answer in it; may be called twice."""
        if self.reply is not None:
            self.reply.response.close()
            self.reply = None
        if self._line is not None:
            self._line.socket.close()
            self._line = None
        self._sent = None

    def _ask_again(self, headers: Mapping[str, str], *, sent: bool) -> Reply | None:
        """On the connection that we have, if it is still good for anything."""
        if self._line is None:
            return None
        try:
            if not sent:
                self._send(self._line, self._there, headers)
            reply = self._wait(self._line, self._there)
        except Broken as e:
            if isinstance(e.__cause__, TimeoutError):
                raise
            self.close()
            return None
        status = reply.response.status
        if status in REDIRECTS or (status in EXPIRED and self._there != self.address):
            reply.response.close()
            self.close()
            return None
        return reply

    def _ask_anew(self, headers: Mapping[str, str]) -> Reply:
        self._there = self.address
        for _ in range(REDIRECTS_MAX + 1):
            self.close()
            self._line = self._dialer.dial(self._there)
            self._send(self._line, self._there, headers)
            reply = self._wait(self._line, self._there)
            if reply.response.status not in REDIRECTS:
                return reply
            reply.response.close()
            self._there = follow(self._there, reply.response.headers.get("Location", ""))
        self.close()
        raise TransportError(
            f"'{self.address}' redirects without end", code="redirect", expected=f"at most {REDIRECTS_MAX} redirects"
        )

    def _send(
        self, line: Line, address: Address, headers: Mapping[str, str], method: str = "GET", body: bytes = b""
    ) -> None:
        fields = {
            "Host": address.host_header,
            "User-Agent": f"twinslot/{twinslot.__version__}",
            "Accept-Encoding": "identity",
        }
        lines = [f"{method} {address.whole if line.by_proxy else address.target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in (fields | dict(headers)).items()]
        line.socket.bound(self._settings.read_timeout)
        try:
            line.socket.send("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        except OSError as e:
            raise Broken(e) from e

    def _wait(self, line: Line, address: Address) -> Reply:
        began = self._policy.clock()
        line.socket.bound(self._settings.read_timeout, HEAD_MAX)
        try:
            response = _final(line.socket.reader())
        except (OSError, http.client.HTTPException) as e:
            raise Broken(e) from e
        self._policy.answered()
        require_length(response)
        return Reply(address, response, self._policy.clock() - began, line.socket, self._policy)


def _final(reader: io.BufferedReader) -> http.client.HTTPResponse:
    """The answer behind the interim ones. All share one reader, which may have read ahead.

    Raises:
        OSError: The connection.
        HTTPException: This is not HTTP, or there is no end of interim answers.
    """
    for _ in range(INTERIM_MAX + 1):
        response = read_head(reader, "GET")
        if not 100 <= response.status < 200 or response.status == 101:
            return response
        let_go(response)
    raise http.client.HTTPException("interim answers without end")
