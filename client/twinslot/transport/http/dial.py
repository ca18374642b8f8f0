"""Connections: look up, connect, through a proxy or not, shake hands. Each of these has a clock of its own.

Rules:

1. Only kinds of addresses that `http.schemes` names, redirects included. What never leaves this device needs no TLS.
2. A redirect never leads from elsewhere to this device or its link, whatever its name resolves to.
3. Our certificate is shown to the host of the first address only.
4. A proxy is used when `http.proxy` names one, and for what `http.no_proxy` does not: plain requests are handed to it,
   encrypted ones go through a tunnel (CONNECT). The environment is never asked.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from twinslot.core.address import Address, parse_address
from twinslot.core.errors import DeviceError, TransportError
from twinslot.transport.http.lookup import Places, look_up
from twinslot.transport.http.options import HttpSettings
from twinslot.transport.http.places import Near, is_direct, nearness
from twinslot.transport.http.retry import Broken, RetryPolicy
from twinslot.transport.http.timed_socket import TimedSocket
from twinslot.transport.http.tls import context, not_who

HEAD_MAX: Final = 256 * 1024  # bytes of an answer's head, those of interim answers included


@dataclass(frozen=True, slots=True)
class Line:
    """An open connection.

    Attributes:
        socket: Owned.
        by_proxy: Requests name the whole address, since a proxy reads them.
    """

    socket: TimedSocket
    by_proxy: bool


class Dials(Protocol):
    """Whoever makes connections: `Dialer` here, or a process that is asked for them (worker/relayed.py)."""

    def dial(self, address: Address) -> Line:
        """See `Dialer.dial`."""
        ...


Dialing = Callable[[Address, HttpSettings, RetryPolicy, Callable[[], None]], Dials]


class Dialer:
    """Makes the connections of one download.

    Args:
        first: Its address; what redirects may do is measured by it.
        settings: Timeouts, certificates, proxy.
        policy: Of the download.
        tick: A sign of life during waits.
        near: Where the first address turned out to be, for those who use several of these for one download.
    """

    def __init__(
        self,
        first: Address,
        settings: HttpSettings,
        policy: RetryPolicy,
        tick: Callable[[], None],
        near: set[Near] | None = None,
    ) -> None:
        self._first, self._settings, self._policy, self._tick = first, settings, policy, tick
        self._near = {Near.ELSEWHERE} if near is None else near

    def dial(self, address: Address) -> Line:
        """A connection towards the address, ready for a request.

        Raises:
            Broken: Another try may help.
            TransportError: `transport.scheme`, `transport.redirect`, `transport.tls`, `transport.proxy`.
            DeviceError: `device.tls-files`, `device.proxy`.
        """
        check_scheme(address, self._settings)
        tls = self._context(address) if address.scheme == "https" else None  # before anything is sent
        proxy = self._proxy(address)
        if proxy and address.host != self._first.host:
            self._check_near(address, nearness(address.host))
        try:
            sock = self._connect(address, proxy)
        except OSError as e:
            raise Broken(e) from e
        try:
            if proxy and tls:
                self._tunnel(sock, address)
            if tls:
                self._encrypt(sock, address, tls)
        except BaseException:
            sock.close()
            raise
        return Line(sock, by_proxy=proxy is not None and tls is None)

    def _context(self, address: Address) -> ssl.SSLContext:
        return context(self._settings, ours=address.host == self._first.host)

    def _proxy(self, address: Address) -> Address | None:
        if not self._settings.proxy or is_direct(address.host, self._settings.no_proxy):
            return None
        try:
            proxy = parse_address(self._settings.proxy)
            if proxy.scheme != "http":
                raise TransportError("a proxy is spoken to in plain HTTP", code="scheme", found=proxy.scheme)
        except TransportError as e:
            raise DeviceError(
                "the configured proxy cannot be used",
                code="proxy",
                expected="http://HOST:PORT without a password",
                found=e.message,
                hint="correct 'http.proxy'",
            ) from e
        return proxy

    def _connect(self, address: Address, proxy: Address | None) -> TimedSocket:
        """The places of one name are tried in turn, each for its share of the time."""
        there, seconds = proxy or address, self._settings.connect_timeout
        began = self._policy.clock()
        places = look_up(there.host, there.number, min(seconds, self._policy.left()), self._tick)
        if proxy is None:
            places = self._allowed(address, places)
        error: OSError = OSError("the name has no address")
        for number, (family, place) in enumerate(places):
            sock = TimedSocket(socket.socket(family, socket.SOCK_STREAM), self._policy.left, self._tick)
            spent = self._policy.clock() - began
            sock.bound(max(seconds - spent, 1.0) / (len(places) - number))
            try:
                sock.connect(place)
            except OSError as e:
                sock.close()
                error = e
                continue
            except BaseException:
                sock.close()
                raise
            return sock
        raise error

    def _allowed(self, address: Address, places: Places) -> Places:
        near = [nearness(str(place[0])) for _, place in places]
        if address.host == self._first.host:
            self._near |= set(near)
            return places
        good = [each for each, how in zip(places, near, strict=True) if how in self._near]
        if places and not good:
            self._check_near(address, near[0])
        return good

    def _check_near(self, address: Address, near: Near) -> None:
        if near not in self._near:
            raise TransportError(
                f"'{self._first}' redirects to an address on {near}",
                code="redirect",
                expected="an address elsewhere",
                found=address,
                hint="give that address itself, if it is meant",
            )

    def _tunnel(self, sock: TimedSocket, address: Address) -> None:
        sock.bound(self._settings.connect_timeout, HEAD_MAX)
        try:
            sock.send(f"CONNECT {address.named_host} HTTP/1.1\r\nHost: {address.named_host}\r\n\r\n".encode("ascii"))
            response = read_head(sock.reader(), "CONNECT")
            let_go(response)  # what follows is the tunnel
        except (OSError, http.client.HTTPException) as e:
            raise Broken(e) from e
        if response.status >= 500 or response.status in (408, 429):
            raise Broken(f"the proxy answers {response.status} {response.reason}")
        if response.status != 200:
            raise TransportError(
                f"the proxy gives no tunnel to '{address}'",
                code="proxy",
                expected="200",
                found=f"{response.status} {response.reason}",
                hint="see 'http.proxy' and 'http.no_proxy'",
            )

    # keeps: S22 (in the relay's process)
    def _encrypt(self, sock: TimedSocket, address: Address, tls: ssl.SSLContext) -> None:
        sock.bound(self._settings.connect_timeout)
        try:
            sock.start_tls(tls, address.host)
            if self._settings.pins:
                from twinslot.transport.http.pin import require_pinned  # memory that others need not spend

                require_pinned(address, sock.certificate(), self._settings.pins)
        except ssl.SSLCertVerificationError as e:
            raise not_who(address, e, self._settings) from e
        except OSError as e:
            raise Broken(e) from e


class _Handed:
    """What http.client asks of a socket: a reader, which is there already."""

    def __init__(self, reader: io.BufferedReader) -> None:
        self._reader = reader

    def makefile(self, _mode: str) -> io.BufferedReader:
        return self._reader


def read_head(reader: io.BufferedReader, method: str) -> http.client.HTTPResponse:
    """The next answer's head.

    Raises:
        OSError: The connection.
        HTTPException: This is not HTTP.
    """
    response = http.client.HTTPResponse(_Handed(reader), method=method)  # type: ignore[arg-type] # all that it asks for
    try:
        response.begin()
    except BaseException:
        let_go(response)
        raise
    return response


def let_go(response: http.client.HTTPResponse) -> None:
    """Leave the reader open for what follows: http.client closes it with its response, or when that is freed."""
    response.fp = None  # type: ignore[assignment]


def check_scheme(address: Address, settings: HttpSettings) -> None:
    """Does this device's policy allow this kind of address?

    Raises:
        TransportError: `transport.scheme`.
    """
    if address.scheme not in settings.schemes and nearness(address.host) is not Near.DEVICE:
        raise TransportError(
            f"this device does not ask '{address.scheme}' addresses",
            code="scheme",
            expected=" or ".join(settings.schemes),
            found=address,
            hint="ask it by https; 'http.schemes' says what may be asked",
        )
