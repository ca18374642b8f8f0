"""The way to one URL: TLS, redirects, and a connection that stays open between requests.

Rules:

1. At most one connection is open. It is used again if the answer before was read to its end and the server lets us.
2. At most `REDIRECTS_MAX` redirects, never from https to http. No proxy. No compression.
3. Where a redirect led holds for as long as the connection stands; each new connection starts at the first address
   again, since such addresses are often signed for minutes only, or lead to a server that has gone. So does a request
   that a redirect's target refuses on a kept connection.
4. A kept connection that turns out to be closed is replaced at once: servers drop idle ones, and that is no failure.
"""

from __future__ import annotations

import functools
import http.client
import ssl
from collections.abc import Callable, Mapping
from typing import Final

import twinslot
from twinslot.core.errors import DeviceError, TransportError
from twinslot.transport.address import Address, follow
from twinslot.transport.patience import Broken, Patience
from twinslot.transport.settings import HttpSettings

REDIRECTS_MAX: Final = 5
REDIRECTS: Final = (301, 302, 303, 307, 308)
EXPIRED: Final = (401, 403, 404, 410)  # what a signed address says when its time is over


class Reply:
    """The head of an answer, and its body to read.

    Attributes:
        address: That answered, after redirects.
        response: Its head.
        took: Seconds from the request to the head.
    """

    def __init__(self, address: Address, response: http.client.HTTPResponse, took: float) -> None:
        self.address, self.response, self.took = address, response, took

    def read(self, limit: int, patience: Patience) -> bytes:
        """At most so many bytes of the body; empty: it ended, whether whole or not.

        Raises:
            Broken: The connection was lost or is too slow.
        """
        began = patience.clock()
        try:
            chunk = self.response.read1(limit)
        except (OSError, http.client.HTTPException) as e:
            raise Broken(e) from e
        if len(chunk) > limit:  # http.client takes a chunk of negative length for one without end
            raise Broken(f"{len(chunk)} bytes instead of at most {limit}")
        patience.waited(len(chunk), patience.clock() - began)
        return chunk


class Connection:
    """At most one open connection towards one address.

    Args:
        address: Where every new connection starts.
        settings: Timeouts and certificates.
        clock: Monotonic seconds.
    """

    def __init__(self, address: Address, settings: HttpSettings, clock: Callable[[], float]) -> None:
        self.address, self._settings, self._clock = address, settings, clock
        self._there = address  # after redirects
        self._client: http.client.HTTPConnection | None = None
        self._sent: Mapping[str, str] | None = None  # the headers of a request whose answer nobody waits for yet
        self.reply: Reply | None = None  # whose body is being read

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

    def send(self, headers: Mapping[str, str]) -> None:
        """Ask ahead: the next `get` of the same takes the answer, or asks again if that went wrong."""
        if self.reply is not None or self._sent is not None:
            self.close()
        try:
            if not self._kept:
                self.close()
                self._there, self._client = self.address, self._connect(self.address)
            assert self._client is not None
            self._send(self._client, self._there, headers)
            self._sent = headers
        except Broken:
            self.close()

    def finish(self) -> None:
        """The body of the last reply was read as far as we need; keep the connection if nothing else is in it."""
        if self.reply is None:
            return
        response, self.reply = self.reply.response, None
        try:
            ended = response.length == 0 or (response.chunked and not response.read1(1))
        except (OSError, http.client.HTTPException):
            ended = False
        response.close()
        if not ended:
            self.close()

    def give_away(self) -> Connection:
        """Another one that takes over what is open here; this one is as new."""
        other = Connection(self.address, self._settings, self._clock)
        other._there, other._client, other.reply = self._there, self._client, self.reply
        self._client = self.reply = self._sent = None
        return other

    def leave(self) -> None:
        """Nobody waits for an answer any more: drop the connection if one is under way, else keep it."""
        if self.reply is not None or self._sent is not None:
            self.close()

    def close(self) -> None:
        """Drop the connection and the answer in it; may be called twice."""
        if self.reply is not None:
            self.reply.response.close()  # which owns the socket once the server said "Connection: close"
            self.reply = None
        if self._client is not None:
            self._client.close()
            self._client = None
        self._sent = None

    @property
    def _kept(self) -> bool:
        return self._client is not None and self._client.sock is not None

    def _ask_again(self, headers: Mapping[str, str], *, sent: bool) -> Reply | None:
        """On the connection that we have, if it is still good for anything."""
        if self._client is None or not self._kept:
            return None
        try:
            if not sent:
                self._send(self._client, self._there, headers)
            reply = self._wait(self._client, self._there)
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
            self._client = self._connect(self._there)
            self._send(self._client, self._there, headers)
            reply = self._wait(self._client, self._there)
            if reply.response.status not in REDIRECTS:
                return reply
            reply.response.close()
            self._there = follow(self._there, reply.response.headers.get("Location", ""))
        self.close()
        raise TransportError(
            f"'{self.address}' redirects without end", code="redirect", expected=f"at most {REDIRECTS_MAX} redirects"
        )

    def _send(self, client: http.client.HTTPConnection, address: Address, headers: Mapping[str, str]) -> None:
        ours = {"User-Agent": f"twinslot/{twinslot.__version__}", "Accept-Encoding": "identity"}
        try:
            client.request("GET", address.target, None, ours | dict(headers))
            if client.sock is not None:
                client.sock.settimeout(self._settings.read_timeout)
        except ssl.SSLCertVerificationError as e:
            raise TransportError(f"'{address}' is not who it says", code="tls", found=e.verify_message) from e
        except (OSError, http.client.HTTPException) as e:
            raise Broken(e) from e

    def _wait(self, client: http.client.HTTPConnection, address: Address) -> Reply:
        began = self._clock()
        try:
            response = client.getresponse()
        except (OSError, http.client.HTTPException) as e:
            raise Broken(e) from e
        return Reply(address, response, self._clock() - began)

    def _connect(self, address: Address) -> http.client.HTTPConnection:
        timeout = self._settings.connect_timeout
        if address.scheme == "http":
            return http.client.HTTPConnection(address.host, address.port, timeout=timeout)
        return http.client.HTTPSConnection(address.host, address.port, timeout=timeout, context=_tls(self._settings))


@functools.lru_cache(maxsize=1)  # reading the system's authorities costs more than a connection
def _tls(settings: HttpSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
        if settings.client_cert:
            context.load_cert_chain(settings.client_cert, settings.client_key or None)
    except (OSError, ssl.SSLError) as e:
        files = ", ".join(filter(None, (settings.ca_file, settings.client_cert, settings.client_key)))
        raise DeviceError(f"the certificates '{files}' cannot be used", code="tls-files", found=e) from e
    return context
