"""Bytes of an image over HTTP(S), front to back, whatever the network does.

Rules, beside those of connection.py (redirects, TLS) and retry.py (pauses, rates):

1. 4xx is final; 5xx and a broken connection are not, nor are 408 and 429.
2. A broken download goes on where it stopped (`Range`), and only if the server still has the same file (`If-Range`
   with its strong ETag or its date; RFC 9110, sections 13.1.5 and 14). A server that answers 200 starts from the
   front: what was read is skipped.
3. Another ETag or date alone is no other file, since several machines behind one name each have their own: then the
   file is read from its front again, and goes on where the same bytes came.
4. Whoever listens hears an empty chunk at least every ten seconds of a pause.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from twinslot.core.address import parse_address
from twinslot.core.errors import ImageError, TransportError
from twinslot.core.notes import Note
from twinslot.transport.http.answers import Pinned, Replaced, beyond, insist, is_all, part
from twinslot.transport.http.connection import Connection, Reply
from twinslot.transport.http.dial import Dialer, Dialing
from twinslot.transport.http.options import HttpSettings
from twinslot.transport.http.retry import Broken, RetryPolicy

__all__ = ["HttpSettings", "HttpSource"]


def _no_tick() -> None:
    """Who listens hears an empty chunk instead."""


@dataclass(slots=True)
class HttpSource:
    """One download.

    Args:
        url: http or https.
        settings: Limits of time and retries.
        sleep: Waits seconds.
        clock: Monotonic seconds.
        note: Told of tries that failed.
        dialing: Who makes the connections.

    Attributes:
        fetched: Bytes of bodies so far, those that were read again and skipped too.

    Raises:
        TransportError: `transport.url`.
    """

    url: str
    settings: HttpSettings = field(default_factory=HttpSettings)
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    note: Callable[[Note], None] = lambda _: None
    dialing: Dialing = Dialer
    fetched: int = field(init=False, default=0)
    _connection: Connection = field(init=False)
    _policy: RetryPolicy = field(init=False)
    _pinned: Pinned = field(init=False, default_factory=Pinned)
    _expected: int = field(init=False, default=0)
    _sum: int = field(init=False, default=0)  # CRC-32 of what was handed out, to know the file again by

    def __post_init__(self) -> None:
        address = parse_address(self.url)
        self._policy = RetryPolicy(self.settings, address, self.sleep, self.clock, note=self.note)
        dialer = self.dialing(address, self.settings, self._policy, _no_tick)
        self._connection = Connection(address, self.settings, self._policy, _no_tick, dialer)

    def going_on(self, connection: Connection, policy: RetryPolicy) -> HttpSource:
        """This source, which will begin with the answer that is open in `connection`: a whole file, unread.

        Takes the connection over, and what is left of its time and tries.
        """
        self._connection, self._policy = connection, policy
        return self

    def expect(self, length: int) -> None:
        """So long is the file at least, as it says itself: an answer that tells no length and ends before is broken."""
        self._expected = length

    def explain(self, error: ImageError) -> ImageError:
        """The error as it is; a file that was replaced has been noticed by its headers."""
        return error

    def chunks(self) -> Iterator[bytes]:
        """The bytes in order, each once, and empty chunks during pauses.

        Raises:
            TransportError: `transport.http-NNN`, `transport.network`, `transport.too-slow`, `transport.deadline`,
                `transport.redirect`, `transport.tls`, `transport.encoding`, `transport.range`, and
                `transport.changed`: the server replaced the file in the middle.
            DeviceError: `device.tls-files`: our own certificates cannot be read.
        """
        have = 0
        try:
            while True:
                began = have
                self._policy.begin()
                try:
                    for chunk in self._try(have):
                        have += len(chunk)
                        self._sum = zlib.crc32(chunk, self._sum)
                        yield chunk
                        self._policy.keep(have)
                    return
                except Broken as e:
                    self._connection.close()
                    for _ in self._policy.recover(e, have - began, have):
                        yield b""
        except Replaced as e:
            raise TransportError(
                "the file on the server was replaced during the download",
                code="changed",
                expected=e.before,
                found=e.after,
                hint="install again",
            ) from e
        finally:
            self.close()

    def close(self) -> None:
        """Drop the connection; may be called twice."""
        self._connection.close()

    def _try(self, have: int) -> Iterator[bytes]:
        """What follows the first `have` bytes, and empty chunks: signs of life."""
        if self._connection.reply is None:
            self._connection.get(self._pinned.range(have) if have else {})
        try:
            at = self._judge(self._connection.reply, have)
        except Replaced as e:
            at = self._judge_again(e, have)
        seen = 0  # CRC-32 of what is skipped
        while chunk := self._connection.read():
            skipped = chunk[: max(have - at, 0)]
            at += len(chunk)
            self.fetched += len(chunk)
            seen = zlib.crc32(skipped, seen)
            if skipped and at >= have and seen != self._sum:
                raise Replaced(f"{have} bytes", "other bytes in their place")
            yield chunk[len(skipped) :]  # may be empty while the front is skipped
            for _ in self._policy.spend(len(chunk), have):
                yield b""
        length = self._expected if self._pinned.length is None else self._pinned.length
        if at < length:
            raise Broken(f"the connection ended after {at} of {length} bytes")

    def _judge(self, reply: Reply | None, have: int, *, whole: bool = False) -> int:
        """Where in the file the answer begins, once it is of this file; `whole`: no range was asked for."""
        assert reply is not None
        response = reply.response
        if response.status == 416 and have:  # RFC 9110, section 15.5.17: the file is not longer than that
            if self._pinned.length in (None, have) and beyond(response) == have >= self._expected:
                self._pinned.length = have
                return have
            raise Replaced(f"more than {have} bytes", response.headers.get("Content-Range", "less"))
        start = 0 if whole else have
        if response.status == 206 and (start or is_all(response)):
            insist(reply.address, response, 206)
            self._pinned.check(response, part(response, start).total)
            return start
        insist(reply.address, response, 200)
        self._pinned.check(response, response.length)
        return 0

    def _judge_again(self, error: Replaced, have: int) -> int:
        """Validators say that it is another file: see whether the bytes are others, too.

        Raises:
            Replaced: It has another length, or we are asked not to believe validators already.
        """
        if self._pinned.loose or error.by_length:
            raise error
        self._pinned.loose = True
        self._connection.close()
        return self._judge(self._connection.get({}), have, whole=True)
