"""Bytes of an image over HTTP(S), front to back, whatever the network does.

Rules:

1. 4xx is final; 5xx and a broken connection are not. Tries are spaced by a doubling, jittered pause up to a bound, and
   the count starts anew whenever bytes have arrived.
2. A broken download goes on where it stopped (`Range`), and only if the server still has the same file (`If-Range`
   with its strong ETag or its date; RFC 9110, sections 13.1.5 and 14). A server that answers 200 starts from the
   front: what was read is skipped.
3. No compression is accepted, at most five redirects, never from https to http.
4. Slower than the rate floor over a read timeout counts as broken.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import re
import ssl
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import twinslot
from twinslot.core.errors import BundleError, TransportError

CHUNK: Final = 256 * 1024  # bytes read at once
REDIRECTS_MAX: Final = 5
FIRST_PAUSE: Final = 0.5  # seconds before the second try
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")  # RFC 9110, section 14.4


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Patience with a network; from the configuration's `[http]`.

    Attributes:
        connect_timeout: Seconds until a connection stands.
        read_timeout: Seconds of silence within an answer.
        rate_floor: Bytes a second, over a read timeout.
        retries: Further tries without a byte of progress.
        retry_wait: Seconds; the longest pause between two tries.
        ca_file: PEM file of the authorities to believe; empty: the system's.
    """

    connect_timeout: float = 20.0
    read_timeout: float = 60.0
    rate_floor: int = 256
    retries: int = 10
    retry_wait: float = 300.0
    ca_file: str = ""


class _Broken(Exception):  # noqa: N818 - never leaves this module
    """This try failed in a way that another one may mend."""


@dataclass(slots=True)
class _Answer:
    """An open answer whose next byte is `at` bytes into the file."""

    connection: http.client.HTTPConnection
    response: http.client.HTTPResponse
    at: int


@dataclass(slots=True)
class HttpSource:
    """One download.

    Args:
        url: http or https.
        settings: Patience.
        sleep: Waits seconds.
        clock: Monotonic seconds.
    """

    url: str
    settings: HttpSettings = field(default_factory=HttpSettings)
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _validator: str = ""  # ETag or date of the file that was begun
    _length: int | None = None  # its whole length

    def chunks(self) -> Iterator[bytes]:
        """The bytes in order, each once.

        Raises:
            TransportError: `transport.http-NNN`, `transport.network`, `transport.url`, `transport.redirect` and others.
            BundleError: `bundle.changed`: the server replaced the file in the middle.
        """
        have, failures = 0, 0
        while True:
            try:
                answer = self._open(have)
                with contextlib.closing(answer.connection):
                    for chunk in self._body(answer, have):
                        have += len(chunk)
                        failures = 0
                        yield chunk
                return
            except _Broken as e:
                failures += 1
                if failures > self.settings.retries:
                    raise TransportError(
                        f"the download failed {failures} times without progress",
                        code="network",
                        found=e,
                        hint=f"{have} bytes had arrived; try again later",
                    ) from e
                self.sleep(self._pause(failures))

    def _pause(self, failures: int) -> float:
        """Doubling, capped, and between half and the whole of it, so that a fleet does not knock in step."""
        longest = min(self.settings.retry_wait, FIRST_PAUSE * 2.0 ** min(failures - 1, 30))
        return random.uniform(longest / 2, longest)  # noqa: S311 - spreading load, not a secret

    def _open(self, have: int) -> _Answer:
        url = self.url
        for _ in range(REDIRECTS_MAX + 1):
            connection, response = self._request(url, have)
            if response.status in (301, 302, 303, 307, 308):
                connection.close()
                url = _redirected(url, response.headers.get("Location", ""))
                continue
            try:
                return self._judge(connection, response, have)
            except BaseException:
                connection.close()
                raise
        raise TransportError("too many redirects", code="redirect", expected=f"at most {REDIRECTS_MAX}", found=url)

    def _request(self, url: str, have: int) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        parts = _split(url)
        headers = {"User-Agent": f"twinslot/{twinslot.__version__}", "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
            headers |= {"If-Range": self._validator} if self._validator else {}
        connection = self._connect(parts)
        try:
            connection.request(
                "GET", urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, "")), None, headers
            )
            if connection.sock is not None:
                connection.sock.settimeout(self.settings.read_timeout)
            return connection, connection.getresponse()
        except ssl.SSLCertVerificationError as e:
            connection.close()
            raise TransportError("the server is not the one it says", code="tls", found=e.verify_message) from e
        except (OSError, http.client.HTTPException) as e:
            connection.close()
            raise _Broken(str(e) or type(e).__name__) from e

    def _connect(self, parts: urllib.parse.SplitResult) -> http.client.HTTPConnection:
        assert parts.hostname is not None
        timeout = self.settings.connect_timeout
        if parts.scheme == "http":
            return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
        context = ssl.create_default_context(cafile=self.settings.ca_file or None)
        return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout, context=context)

    def _judge(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse, have: int) -> _Answer:
        """Is this the file, from the byte we asked for?"""
        status = response.status
        if status >= 500 or status in (408, 429):  # server's fault, or its wish that we wait (RFC 9110 15.5.9, 6585)
            raise _Broken(f"HTTP status {status} {response.reason}")
        if status not in (200, 206) or (status == 206 and not have):
            hint = "the file is not on the server" if status in (404, 410) else None
            raise TransportError(f"the server answered '{self.url}'", code=f"http-{status}", found=status, hint=hint)
        if response.headers.get("Content-Encoding", "identity") != "identity":
            found = response.headers["Content-Encoding"]
            raise TransportError("the server compresses what is compressed", code="encoding", found=found)
        start, length = (0, response.length) if status == 200 else self._parse_range(response, have)
        self._check_same(response, length)
        return _Answer(connection, response, start)

    def _parse_range(self, response: http.client.HTTPResponse, have: int) -> tuple[int, int | None]:
        text = response.headers.get("Content-Range", "")
        match = _RANGE.fullmatch(text)
        if match is None or int(match[1]) != have:
            raise TransportError(
                "the server sent another range than the one asked for",
                code="range",
                expected=f"bytes {have}-",
                found=text or "no Content-Range",
            )
        return have, None if match[3] == "*" else int(match[3])

    def _check_same(self, response: http.client.HTTPResponse, length: int | None) -> None:
        """The file must not be replaced while we are at it; If-Range already asks, this one believes nobody."""
        etag = response.headers.get("ETag", "")
        strong = "" if etag.startswith("W/") else etag  # a weak one does not promise the same bytes (RFC 9110, 8.8.1)
        validator = strong or response.headers.get("Last-Modified", "")
        changed = bool(self._validator and validator and validator != self._validator)
        changed |= self._length is not None and length is not None and length != self._length
        if changed:
            raise BundleError(
                "the file on the server was replaced during the download",
                code="changed",
                expected=self._validator or self._length,
                found=validator or length,
                hint="install again",
            )
        self._validator = self._validator or validator
        self._length = self._length if self._length is not None else length

    def _body(self, answer: _Answer, have: int) -> Iterator[bytes]:
        """What follows the first `have` bytes."""
        skip, began, got = have - answer.at, self.clock(), 0
        at = answer.at
        while True:
            try:
                chunk = answer.response.read1(CHUNK)
            except (OSError, http.client.HTTPException) as e:
                raise _Broken(str(e) or type(e).__name__) from e
            if not chunk:
                break
            at += len(chunk)
            got += len(chunk)
            if (waited := self.clock() - began) > self.settings.read_timeout:
                if got < self.settings.rate_floor * waited:
                    raise _Broken(f"only {got} bytes in {waited:.0f} seconds")
                began, got = self.clock(), 0
            dropped = min(skip, len(chunk))
            skip -= dropped
            if dropped < len(chunk):
                yield chunk[dropped:]
        if self._length is not None and at < self._length:
            raise _Broken(f"the connection ended after {at} of {self._length} bytes")


def _split(url: str) -> urllib.parse.SplitResult:
    try:
        parts = urllib.parse.urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
        parts = urllib.parse.SplitResult("", "", "", "", "")
    if not good:
        raise TransportError("this is not an address", code="url", expected="http://... or https://...", found=url)
    return parts


def _redirected(url: str, location: str) -> str:
    target = urllib.parse.urljoin(url, location)
    if not location or (_split(url).scheme == "https" and _split(target).scheme != "https"):
        raise TransportError(
            "the server redirects to where we do not follow", code="redirect", expected="https", found=location
        )
    return target
