"""Bytes of an image over HTTP(S), front to back, whatever the network does.

Rules:

1. 4xx is final; 5xx and a broken connection are not. Tries are spaced by a doubling, jittered pause up to a bound, and
   the count starts anew after a try that brought something at more than the rate floor.
2. A broken download goes on where it stopped (`Range`), and only if the server still has the same file (`If-Range`
   with its strong ETag or its date; RFC 9110, sections 13.1.5 and 14). A server that answers 200 starts from the
   front: what was read is skipped.
3. No compression is accepted, at most five redirects, never from https to http. No proxy.
4. Slower than the rate floor over a read timeout counts as broken. Only time spent waiting for the server counts: we
   may be the slow ones, while flash is written.
5. Whoever listens hears an empty chunk at least every ten seconds of a pause.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import re
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import twinslot
from twinslot.core.errors import BundleError, DeviceError, TransportError
from twinslot.transport.address import Address, follow, parse_address

CHUNK: Final = 256 * 1024  # bytes read at once
REDIRECTS_MAX: Final = 5
FIRST_PAUSE: Final = 0.5  # seconds before the second try
TICK: Final = 10.0  # seconds; the longest sleep at once
PROGRESS: Final = 1024  # bytes; a try that brought less counts as failed, so that dripping bytes are no way to hold us
_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")  # RFC 9110, section 14.4


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Patience with a network; from the configuration's `[http]`.

    Attributes:
        connect_timeout: Seconds until a connection stands.
        read_timeout: Seconds of silence within an answer.
        rate_floor: Bytes a second, over a read timeout.
        retries: Further tries without a byte of progress.
        retry_wait: Seconds; the longest pause between two tries.
        deadline: Seconds that the whole download may take; 0: as long as it takes.
        ca_file: PEM file of the authorities to believe; empty: the system's.
        client_cert: PEM file of our certificate, for servers that ask for one; the worker's user must be able to read
            it.
        client_key: PEM file of its key; empty: it stands in the same file.
    """

    connect_timeout: float = 20.0
    read_timeout: float = 60.0
    rate_floor: int = 256
    retries: int = 10
    retry_wait: float = 300.0
    deadline: float = 0.0
    ca_file: str = ""
    client_cert: str = ""
    client_key: str = ""


class _Broken(Exception):  # noqa: N818 - never leaves this module
    """This try failed in a way that another one may mend. `code` is for when none does."""

    def __init__(self, found: object, code: str = "network") -> None:
        super().__init__(str(found) or type(found).__name__)
        self.code = code


@dataclass(frozen=True, slots=True)
class _Answer:
    """An open answer whose next byte is `at` bytes into the file."""

    response: http.client.HTTPResponse
    at: int


@dataclass(slots=True)
class _Seen:
    """What the server said of the file when we began; None or empty: nothing."""

    etag: str = ""
    modified: str = ""
    length: int | None = None  # bytes, whole

    @property
    def validator(self) -> str:
        """For `If-Range`."""
        return self.etag or self.modified


@dataclass(slots=True)
class HttpSource:
    """One download.

    Args:
        url: http or https.
        settings: Patience.
        sleep: Waits seconds.
        clock: Monotonic seconds.

    Raises:
        TransportError: `transport.url`.
    """

    url: str
    settings: HttpSettings = field(default_factory=HttpSettings)
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _address: Address = field(init=False)
    _seen: _Seen = field(init=False, default_factory=_Seen)
    _context: ssl.SSLContext | None = field(init=False, default=None)
    _waited: float = field(init=False, default=0.0)  # seconds for the server, in this try
    _rate: tuple[int, float] = field(init=False, default=(0, 0.0))  # bytes and seconds in this window

    def __post_init__(self) -> None:
        self._address = parse_address(self.url)

    def explain(self, error: BundleError) -> BundleError:
        """The error as it is; a file that was replaced has been noticed by its headers."""
        return error

    def chunks(self) -> Iterator[bytes]:
        """The bytes in order, each once, and empty chunks during pauses.

        Raises:
            TransportError: `transport.http-NNN`, `transport.network`, `transport.too-slow`, `transport.deadline`,
                `transport.redirect`, `transport.tls`, `transport.encoding`, `transport.range`.
            BundleError: `bundle.changed`: the server replaced the file in the middle.
            DeviceError: `device.tls-files`: our own certificates cannot be read.
        """
        have, failures, until = 0, 0, self.clock() + (self.settings.deadline or float("inf"))
        while True:
            began, self._waited, self._rate = have, 0.0, (0, 0.0)
            try:
                for chunk in self._try(have):
                    have += len(chunk)
                    yield chunk
                    self._keep(until, have)
                return
            except _Broken as e:
                failures = 1 if self._progressed(have - began) else failures + 1
                if failures > self.settings.retries:
                    raise self._given_up(e, failures, have) from e
                for nap in _naps(self._pause(failures)):
                    yield b""
                    self._keep(until, have)
                    self.sleep(nap)

    def _try(self, have: int) -> Iterator[bytes]:
        with contextlib.ExitStack() as stack:
            yield from self._body(self._open(have, stack), have)

    def _progressed(self, new: int) -> bool:
        """Bytes that were skipped do not count: a server that starts anew each time may never get further."""
        return new >= max(PROGRESS, self.settings.rate_floor * self._waited)

    def _keep(self, until: float, have: int) -> None:
        if self.clock() > until:
            expected = f"the whole file within {self.settings.deadline:g} seconds"
            raise TransportError(
                "the download takes too long", code="deadline", expected=expected, found=f"{have} bytes"
            )

    def _given_up(self, last: _Broken, failures: int, have: int) -> TransportError:
        times = "once" if failures == 1 else f"{failures} times"
        return TransportError(
            f"the download from '{self._address}' failed {times} without progress",
            code=last.code,
            found=last,
            hint=f"{have} bytes had arrived; try again later",
        )

    def _pause(self, failures: int) -> float:
        """Doubling, capped, and between half and the whole of it, so that a fleet does not knock in step."""
        longest = min(self.settings.retry_wait, FIRST_PAUSE * 2.0 ** min(failures - 1, 30))
        return random.uniform(longest / 2, longest)  # noqa: S311 - spreading load, not a secret

    def _open(self, have: int, stack: contextlib.ExitStack) -> _Answer:
        address = self._address
        for _ in range(REDIRECTS_MAX + 1):
            connection = self._connection(address)
            stack.callback(connection.close)
            response = self._request(connection, address, have)
            stack.callback(response.close)  # which owns the socket once the server said "Connection: close"
            if response.status not in (301, 302, 303, 307, 308):
                return self._judge(address, response, have)
            address = follow(address, response.headers.get("Location", ""))
        raise TransportError(
            f"'{self._address}' redirects without end", code="redirect", expected=f"at most {REDIRECTS_MAX} redirects"
        )

    def _request(self, connection: http.client.HTTPConnection, address: Address, have: int) -> http.client.HTTPResponse:
        headers = {"User-Agent": f"twinslot/{twinslot.__version__}", "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            headers |= {"If-Range": self._seen.validator} if self._seen.validator else {}
        try:
            connection.request("GET", address.target, None, headers)
            if connection.sock is not None:
                connection.sock.settimeout(self.settings.read_timeout)
            return connection.getresponse()
        except ssl.SSLCertVerificationError as e:
            raise TransportError(f"'{address}' is not who it says", code="tls", found=e.verify_message) from e
        except (OSError, http.client.HTTPException) as e:
            raise _Broken(e) from e

    def _connection(self, address: Address) -> http.client.HTTPConnection:
        timeout = self.settings.connect_timeout
        if address.scheme == "http":
            return http.client.HTTPConnection(address.host, address.port, timeout=timeout)
        self._context = self._context or _tls(self.settings)
        return http.client.HTTPSConnection(address.host, address.port, timeout=timeout, context=self._context)

    def _judge(self, address: Address, response: http.client.HTTPResponse, have: int) -> _Answer:
        """Is this the file, from the byte we asked for?"""
        status = response.status
        if status >= 500 or status in (408, 429):  # server's fault, or its wish that we wait (RFC 9110 15.5.9, 6585)
            raise _Broken(f"HTTP status {status} {response.reason}")
        if status == 416 and have:  # RFC 9110, section 15.5.17: the file is no longer that long
            raise _changed(f"more than {have} bytes", response.headers.get("Content-Range", "less"))
        if status not in (200, 206) or (status == 206 and not have):
            hint = "the file is not on the server" if status in (404, 410) else None
            found = f"{status} {response.reason}"
            what = f"the server does not give '{address}'"
            raise TransportError(what, code=f"http-{status}", expected="200", found=found, hint=hint)
        if (encoding := response.headers.get("Content-Encoding", "identity").lower()) != "identity":
            raise TransportError("the server compresses what is compressed", code="encoding", found=encoding)
        length = response.length if status == 200 else _whole_length(response, have)
        self._check_same(response, length)
        return _Answer(response, 0 if status == 200 else have)

    def _check_same(self, response: http.client.HTTPResponse, length: int | None) -> None:
        """The file must not be replaced while we are at it; If-Range already asks, this one believes nobody."""
        etag = response.headers.get("ETag", "")
        strong = "" if etag.startswith("W/") else etag  # a weak one does not promise the same bytes (RFC 9110, 8.8.1)
        now, seen = _Seen(strong, response.headers.get("Last-Modified", ""), length), self._seen
        for before, after in ((seen.etag, now.etag), (seen.modified, now.modified), (seen.length, now.length)):
            if before and after and before != after:
                raise _changed(before, after)
        self._seen = _Seen(
            seen.etag or now.etag,
            seen.modified or now.modified,
            now.length if seen.length is None else seen.length,
        )

    def _body(self, answer: _Answer, have: int) -> Iterator[bytes]:
        """What follows the first `have` bytes."""
        at, skip = answer.at, have - answer.at
        while chunk := self._read(answer.response):
            at += len(chunk)
            dropped = min(skip, len(chunk))
            skip -= dropped
            yield chunk[dropped:]  # may be empty: a sign of life while the front is skipped
        if self._seen.length is not None and at < self._seen.length:
            raise _Broken(f"the connection ended after {at} of {self._seen.length} bytes")

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        began = self.clock()
        try:
            chunk = response.read1(CHUNK)
        except (OSError, http.client.HTTPException) as e:
            raise _Broken(e) from e
        took = self.clock() - began
        self._waited += took
        got, waited = self._rate[0] + len(chunk), self._rate[1] + took
        if waited > self.settings.read_timeout:
            if got < self.settings.rate_floor * waited:
                raise _Broken(f"only {got} bytes in {waited:.0f} seconds", code="too-slow")
            got, waited = 0, 0.0
        self._rate = (got, waited)
        return chunk


def _naps(seconds: float) -> Iterator[float]:
    """A pause in pieces."""
    while seconds > 0:
        yield min(seconds, TICK)
        seconds -= TICK


def _tls(settings: HttpSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
        if settings.client_cert:
            context.load_cert_chain(settings.client_cert, settings.client_key or None)
    except (OSError, ssl.SSLError) as e:
        files = ", ".join(filter(None, (settings.ca_file, settings.client_cert, settings.client_key)))
        raise DeviceError(f"the certificates '{files}' cannot be used", code="tls-files", found=e) from e
    return context


def _whole_length(response: http.client.HTTPResponse, have: int) -> int | None:
    """The length of the file that a 206 is a part of; None: the server does not know.

    Raises:
        TransportError: `transport.range`: it is another part than the one asked for.
    """
    text = response.headers.get("Content-Range", "")
    match = _RANGE.fullmatch(text)
    first, last = (int(match[1]), int(match[2])) if match else (-1, -1)
    total = None if match is None or match[3] == "*" else int(match[3])
    sound = first == have and last >= first and (total is None or last < total)
    if not sound or response.length not in (None, last - first + 1):
        raise TransportError(
            "the server sent another range than the one asked for",
            code="range",
            expected=f"bytes {have}-",
            found=text or "no Content-Range",
        )
    return total


def _changed(before: object, after: object) -> BundleError:
    return BundleError(
        "the file on the server was replaced during the download",
        code="changed",
        expected=before,
        found=after,
        hint="install again",
    )
