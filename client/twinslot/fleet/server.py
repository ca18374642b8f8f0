"""One request to the update server, and its answer, over connections that the relay makes.

This process has no network, no token and no TLS key (S22). A redirect is an answer like any other: the API has none,
and a token must not follow one. A request is made again, twice, where the connection breaks or the server fails
(RFC 9110, section 15.6); feedback may leave twice (S23).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

import urllib3
import urllib3.connection
import urllib3.response

import twinslot
from twinslot.core.address import Address, parse_address
from twinslot.core.errors import TransportError
from twinslot.core.text import printable
from twinslot.fleet.ddi import ANSWER_MAX
from twinslot.transport.http.retry import Broken
from twinslot.worker.relayed import RelayClient

DEADLINE: Final = 60.0  # seconds
CONNECT: Final = 30.0  # seconds until a connection stands
TRIES: Final = 3
PAUSE: Final = 1.0  # seconds before another try
_NO_CONTENT: Final = 204
_LATER: Final = (401, 403, 408, 429)  # who asks, or when, is at fault
MEDIA_TYPE: Final = "application/hal+json, application/json"


@dataclass(frozen=True, slots=True)
class ServerAnswer:
    """What the server said.

    Attributes:
        status: HTTP's.
        body: At most `ANSWER_MAX` bytes and one.
        wait: Seconds that it asks to be left alone; 0: it does not.
    """

    status: int
    body: bytes = b""
    wait: float = 0.0

    @property
    def good(self) -> bool:
        """Whether it did what was asked."""
        return 200 <= self.status < 300

    @property
    def final(self) -> bool:
        """Whether it refused what was asked, and would again: not for load, and not for who asks (RFC 9110, 15.5)."""
        return 400 <= self.status < 500 and self.status not in _LATER


class Server(Protocol):
    """Whoever answers.

    Attributes:
        wait: Seconds that it asked to be left alone, the longest so far.
    """

    wait: float

    def ask(self, method: str, url: str, body: Any = None) -> ServerAnswer:
        """One request, with a body in JSON or without.

        Raises:
            TransportError: There is no answer.
        """
        ...


class HeardServer:
    """A server, and whether it did anything that it was asked. Implements `Server`.

    Attributes:
        good: Whether an answer was good.
    """

    def __init__(self, server: Server) -> None:
        self._server, self.good, self.wait = server, False, server.wait

    def ask(self, method: str, url: str, body: Any = None) -> ServerAnswer:
        """See `Server`."""
        try:
            answer = self._server.ask(method, url, body)
        finally:
            self.wait = self._server.wait
        self.good = self.good or answer.good
        return answer


class RelayedServer:
    """The server, by connections of the relay: one for each request.

    Args:
        relay: Makes them.
        pause: Seconds before another try.
        deadline: Seconds for one answer, whatever the pieces in which it comes.
    """

    def __init__(self, relay: RelayClient, pause: float = PAUSE, deadline: float = DEADLINE) -> None:
        self._relay, self._pause, self._deadline, self.wait = relay, pause, deadline, 0.0

    def ask(self, method: str, url: str, body: Any = None) -> ServerAnswer:
        """See `Server`."""
        address = parse_address(url)
        content = None if body is None else json.dumps(body).encode()
        for left in range(TRIES - 1, -1, -1):
            try:
                answer = self._asked(method, address, content)
                self.wait = max(self.wait, answer.wait)
            except Broken as e:
                if not left:
                    raise _away(address, str(e)) from e
            else:
                if answer.status < 500 or answer.wait or not left:
                    return answer
            time.sleep(self._pause)
        raise AssertionError

    def _asked(self, method: str, address: Address, content: bytes | None) -> ServerAnswer:
        """One try.

        Raises:
            Broken: Another one may help.
            TransportError: Not so.
        """
        fields, descriptor = self._relay.dial(address, CONNECT, self._deadline, lambda: None)
        sock = socket.socket(fileno=descriptor)
        number = fields.get("number")
        target = address.whole if fields.get("by_proxy") is True else address.target
        try:
            with _until(self._deadline, sock):
                return _exchanged(sock, method, target, address.host_header, content)
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as e:
            why = self._relay.why(number) if isinstance(number, int) else ""
            raise Broken(why or _words(e)) from e
        finally:
            sock.close()


class _Connection(urllib3.connection.HTTPConnection):
    """A connection that stands already."""

    def __init__(self, sock: socket.socket, **settings: Any) -> None:
        super().__init__("relay", **settings)
        self._standing = sock

    def _new_conn(self) -> socket.socket:
        return self._standing


def _exchanged(sock: socket.socket, method: str, target: str, host: str, content: bytes | None) -> ServerAnswer:
    connection = _Connection(sock, timeout=DEADLINE)
    headers = {
        "Host": host,
        "User-Agent": f"twinslot/{twinslot.__version__}",
        "Accept": MEDIA_TYPE,
        "Accept-Encoding": "identity",
    }
    if content is not None:
        headers["Content-Type"] = "application/json"
    connection.request(method, target, body=content, headers=headers, preload_content=False, decode_content=False)
    response = connection.getresponse()
    try:
        return _read(response)
    finally:
        response.close()  # or the socket stays open until it is freed


def _read(response: urllib3.response.BaseHTTPResponse) -> ServerAnswer:
    if response.status != _NO_CONTENT and not {"Content-Length", "Transfer-Encoding"} & _names(response.headers):
        # http.client takes a head that breaks off for a whole one, and a report that was lost must not count as taken
        raise http.client.IncompleteRead(b"")
    body = bytearray()
    while len(body) <= ANSWER_MAX and (piece := response.read(min(65536, ANSWER_MAX + 1 - len(body)))):
        body += piece
    return ServerAnswer(response.status, bytes(body), _wait(response.headers.get("Retry-After", "")))


def _names(headers: Iterable[str]) -> set[str]:
    return {name.title() for name in headers}


def _wait(text: str) -> float:
    """Seconds of `Retry-After`; a date needs the server's clock and ours to agree, so it counts as none."""
    return float(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0.0


@contextlib.contextmanager
def _until(seconds: float, sock: socket.socket) -> Iterator[None]:
    """End the connection when the time is over, whatever it waits for (S28)."""

    def end() -> None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    timer = _timer(seconds, end)
    try:
        yield
    finally:
        timer.cancel()


def _timer(seconds: float, end: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    return timer


def _words(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else printable(str(error))[:200]


def _away(address: Address, found: str) -> TransportError:
    hint = "the next run asks again; see 'http.proxy' and 'http.ca_file' if it stays so"
    return TransportError(f"'{address}' gives no answer", code="network", found=found, hint=hint)
