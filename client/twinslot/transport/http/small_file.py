"""Small files over HTTP(S), whole or not at all: documents of a repository, and reports the other way.

Rules, beside those of connection.py and retry.py:

1. One connection serves all files of one server.
2. A file that was seen before is asked for with its validators (`If-None-Match`, `If-Modified-Since`; RFC 9110,
   sections 13.1.2 and 13.1.3): a server that still has it answers 304, without the file.
3. What the server says of a file that it does not give (403, 404, 410) or of its wish to be left alone (429 or 503 with
   `Retry-After`) is an answer, and the caller's to judge. Everything else that is no file is an error.
4. A longer file than expected is not read to its end.
5. What is sent may arrive twice: where the answer is lost, it is sent again. No redirect is followed with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from twinslot.core.address import Address, parse_address
from twinslot.core.errors import TransportError
from twinslot.transport.http.answers import insist, retry_after, validators
from twinslot.transport.http.connection import Connection
from twinslot.transport.http.dial import Dialer, Dialing, check_scheme
from twinslot.transport.http.options import HttpSettings
from twinslot.transport.http.retry import Broken, RetryPolicy

OK: Final = 200
NOT_MODIFIED: Final = 304
MISSING: Final = (403, 404, 410)
BUSY: Final = (429, 503)


@dataclass(frozen=True, slots=True)
class SmallFile:
    """What the server answered.

    Attributes:
        status: 200: the file is here; 304, `MISSING` or `BUSY` otherwise.
        content: The file.
        etag: Its validator as it stands, weak ones too; empty: none.
        modified: Its date as it stands; empty: none.
        wait: Seconds for which the server wants to be left alone; 0: it does not say so.
    """

    status: int
    content: bytes = b""
    etag: str = ""
    modified: str = ""
    wait: float = 0.0


class SmallFiles:
    """Files of one server, one after the other. Keeps nothing between them but the connection.

    Args:
        settings: Limits of time and retries; the deadline runs from the first request.
        tick: A sign of life during waits.
        sleep: Waits seconds.
        clock: Monotonic seconds.
        dialing: Who makes the connections.
    """

    def __init__(
        self,
        settings: HttpSettings,
        tick: Callable[[], None] = lambda: None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        dialing: Dialing = Dialer,
    ) -> None:
        self._dialing = dialing
        self._settings, self._tick, self._sleep, self._clock = settings, tick, sleep, clock
        self._policy: RetryPolicy | None = None
        self._connection: Connection | None = None

    def get(self, url: str, limit: int, etag: str = "", modified: str = "") -> SmallFile:
        """One file of at most `limit` bytes.

        Raises:
            TransportError: `transport.url`, `transport.scheme`, `transport.too-long`, and those of `HttpSource`.
            DeviceError: `device.tls-files`, `device.proxy`.
        """
        headers = ({"If-None-Match": etag} if etag else {}) | ({"If-Modified-Since": modified} if modified else {})
        return self._asked(url, lambda connection: self._try(connection, headers, limit))

    def post(self, url: str, body: bytes, limit: int) -> SmallFile:
        """Send a JSON document; the answer, of which at most `limit` bytes are read.

        Raises:
            TransportError: As `get`; `transport.redirect`: the server wants it elsewhere.
            DeviceError: As `get`.
        """
        return self._asked(url, lambda connection: self._send(connection, body, limit))

    def _asked(self, url: str, ask: Callable[[Connection], SmallFile]) -> SmallFile:
        address = parse_address(url)
        check_scheme(address, self._settings)
        self._policy = policy = RetryPolicy(self._settings, address, self._sleep, self._clock, beside=self._policy)
        connection = self._turn_to(address, policy)
        while True:
            policy.begin()
            try:
                return ask(connection)
            except Broken as e:
                connection.close()
                for _ in policy.recover(e, 0, 0):
                    self._tick()
            except TransportError:
                connection.close()
                raise

    def close(self) -> None:
        """Drop the connection; may be called twice."""
        if self._connection is not None:
            self._connection.close()

    def _turn_to(self, address: Address, policy: RetryPolicy) -> Connection:
        if self._connection is None:
            dialer = self._dialing(address, self._settings, policy, self._tick)
            self._connection = Connection(address, self._settings, policy, self._tick, dialer)
        else:
            self._connection.turn_to(address)
        return self._connection

    def _send(self, connection: Connection, body: bytes, limit: int) -> SmallFile:
        reply = connection.post({"Content-Type": "application/json"}, body)
        response = reply.response
        wait = retry_after(response)
        if response.status >= 500 and not (response.status in BUSY and wait):
            connection.close()
            raise Broken(f"status {response.status}")
        content = connection.read(limit) if response.status < 300 else b""
        connection.close()
        return SmallFile(response.status, content, wait=wait)

    def _try(self, connection: Connection, headers: dict[str, str], limit: int) -> SmallFile:
        reply = connection.get(headers)
        response, status = reply.response, reply.response.status
        wait = retry_after(response)
        if (status == NOT_MODIFIED and headers) or status in MISSING or (status in BUSY and wait):
            connection.finish()
            return SmallFile(status, wait=wait)
        insist(reply.address, response, OK)
        length = response.length
        content = bytearray()
        while chunk := connection.read(limit + 1 - len(content)):
            content += chunk
            if len(content) > limit:
                raise _too_long(reply.address, limit)
        if length is not None and len(content) < length:
            raise Broken(f"the connection ended after {len(content)} of {length} bytes")
        connection.finish()
        etag, modified = validators(response)
        return SmallFile(OK, bytes(content), etag, modified)


def _too_long(address: Address, limit: int) -> TransportError:
    return TransportError(
        f"the file '{address}' is too long", code="too-long", expected=f"at most {limit} bytes", found="more"
    )
