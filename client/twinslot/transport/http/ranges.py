"""Parts of a file over HTTP(S): only what is asked for, whatever the network does.

Rules, beside those of http.py:

1. One request, one range. Multipart answers are refused by some servers and ignored by others.
2. Spans that follow each other in the file become one request when the gap between them is at most `GAP` bytes.
   Where many requests remain, two connections take turns: the next request is sent while the answer before it comes.
3. A server that does not know ranges is no error: `RangesRefused` hands over the whole file, already on its way.
4. What was answered first is pinned by its strong ETag, date and length: nothing of another file is ever joined to it.
   Where only ETag or date differ, as between machines behind one name, the file's front is fetched again: if it is the
   same (`know_by`), they are not looked at any more. Whoever reads has digests of all that follows.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from twinslot.core.address import parse_address
from twinslot.core.errors import TransportError
from twinslot.core.notes import Note
from twinslot.core.span import Span
from twinslot.transport.http.answers import Pinned
from twinslot.transport.http.coalesce import coalesce
from twinslot.transport.http.connection import Connection
from twinslot.transport.http.dial import Dialer, Dialing, check_scheme
from twinslot.transport.http.download import HttpSource
from twinslot.transport.http.options import HttpSettings
from twinslot.transport.http.range_request import FetchMethod, RangeRequest, RangesRefused
from twinslot.transport.http.retry import RetryPolicy

__all__ = ["GAP", "HttpSettings", "RangeSource", "RangesRefused", "open_optional"]

_MISSING: Final = ("transport.http-403", "transport.http-404", "transport.http-410")
AHEAD: Final = 1 << 20  # bytes; within its time to send them, a server does not lose patience with the answer behind
GAP: Final = 1024  # bytes; about what another request costs on the wire (docs/decisions/0012-ranges.md)


class RangeSource:
    """Parts of one file, over one or two connections that stay open between requests. Not for two threads at once.

    Nothing is sent before the first `read` or `stream`. Keeps no file and no state: what a power cut must not lose is
    the caller's.

    Args:
        url: http or https.
        settings: Limits of time and retries; `deadline` runs from the first request.
        tick: Called whenever bytes arrived and at least every ten seconds of a pause: a sign of life. What it raises
            ends the download.
        gap: Bytes between two spans that are read and thrown away rather than paid with another request.
        ahead: Bytes that may still be missing of one answer when the next request is sent; 0: one at a time, over one
            connection.
        beside: Another file of the same update: both keep to one deadline and one rate limit.
        sleep: Waits seconds.
        clock: Monotonic seconds.
        note: Told of tries that failed.
        dialing: Who makes the connections; None: as `beside` does, or this process.

    Raises:
        TransportError: `transport.url`, `transport.scheme`.
    """

    def __init__(
        self,
        url: str,
        settings: HttpSettings | None = None,
        *,
        tick: Callable[[], None] = lambda: None,
        gap: int = GAP,
        ahead: int = AHEAD,
        beside: RangeSource | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        note: Callable[[Note], None] = lambda _: None,
        dialing: Dialing | None = None,
    ) -> None:
        settings = settings or HttpSettings()
        address = parse_address(url)
        check_scheme(address, settings)
        self._gap, self._front = gap, b""
        policy = RetryPolicy(settings, address, sleep, clock, beside._way.policy if beside else None, note)
        self._dialing: Dialing = dialing or (beside._dialing if beside else Dialer)
        dialer = self._dialing(address, settings, policy, tick)
        self._way: FetchMethod = FetchMethod(
            whole=lambda: HttpSource(url, settings, sleep, clock, dialing=self._dialing),
            connections=[Connection(address, settings, policy, tick, dialer) for _ in range(2 if ahead else 1)],
            policy=policy,
            tick=tick,
            pinned=Pinned(),
            ahead=ahead,
        )

    @property
    def size(self) -> int | None:
        """Bytes of the whole file, once an answer told it."""
        return self._way.pinned.length

    @property
    def fetched(self) -> int:
        """Bytes of bodies read from the network so far, gaps and repeated bytes too; no headers."""
        return self._way.fetched

    def read(self, offset: int, length: int) -> bytes:
        """These bytes, all of them.

        Raises:
            RangesRefused: The server gives only the whole.
            TransportError: `transport.http-NNN`: a final refusal; `transport.network`, `transport.too-slow`: given up
                after the retries; `transport.deadline`; `transport.redirect`, `transport.url`, `transport.tls`,
                `transport.encoding`; `transport.range`: another part than the one asked for, or beyond the file's end;
                `transport.changed`: the file was replaced since the first answer: begin anew with a new source.
            DeviceError: `device.tls-files`: our own certificates cannot be read.
        """
        return b"".join(data for _, data in self.stream([Span(offset, length)]))

    def stream(self, spans: Iterable[Span]) -> Generator[tuple[Span, bytes], None, None]:
        """Each span with its bytes, whole, in the order asked; near neighbours in one request.

        Holds one span and one small buffer. `spans` is read ahead by at most two requests' worth (`RUN_MAX` spans
        each).
        Spans may overlap or go back: they are asked for again. Empty ones cost nothing. Closing the generator, or a
        `read` between two spans, drops the request that is under way; the stream then asks for what it still lacks.

        Raises:
            As `read`.
        """
        batches = map(self._batch, itertools.count(), coalesce(spans, self._gap))
        for batch, following in itertools.pairwise(itertools.chain(batches, [None])):
            assert batch is not None
            try:
                if batch.request and following and following.request:
                    batch.request.then(following.request)
                yield from self._read(batch)
            except BaseException:  # the caller's leaving too
                for each in (batch, following):
                    if each and each.request:
                        each.request.leave()
                raise

    def know_by(self, front: bytes) -> None:
        """These first bytes of the file tell it from every other: a digest of all that follows is among them."""
        self._way.front = front

    @property
    def loose(self) -> bool:
        """Machines behind this name disagree about ETag or date."""
        return self._way.pinned.loose

    def close(self) -> None:
        """Drop the connections; may be called twice. The next `read` opens another."""
        self._way.close()

    def keep_front(self, length: int) -> None:
        """Fetch the first bytes, at most `length`, and serve them from memory from now on.

        A file that is shorter, even empty, is no error. Raises otherwise as `read`.
        """
        request = RangeRequest(self._way, 0, length, clip=True)
        try:
            request.begin()
            self._front = self._way.front = request.take(0, request.end)
        finally:
            request.leave()

    def _batch(self, number: int, run: list[Span]) -> _Batch:
        """The request that a run needs, unless it is in memory or empty."""
        missing = [span for span in run if span.length and span.end > len(self._front)]
        return _Batch(run, RangeRequest(self._way, missing[0].offset, missing[-1].end, number) if missing else None)

    def _read(self, batch: _Batch) -> Iterator[tuple[Span, bytes]]:
        for span in batch.run:
            if not span.length:
                yield span, b""
            elif span.end <= len(self._front):
                yield span, self._front[span.offset : span.end]
            elif batch.request is not None:
                yield span, batch.request.take(span.offset, span.length)


@dataclass(frozen=True, slots=True)
class _Batch:
    """A run of spans and where their bytes come from; None: no network needed."""

    run: list[Span]
    request: RangeRequest | None


def open_optional(
    url: str,
    settings: HttpSettings | None = None,
    *,
    first: int = 4096,
    tick: Callable[[], None] = lambda: None,
    beside: RangeSource | None = None,
    note: Callable[[Note], None] = lambda _: None,
) -> RangeSource | None:
    """A file that need not be there, such as a patch beside an image; None: it is not (404, 410, or S3's 403).

    Asks for the first bytes with a GET, as some servers and signed addresses do not take HEAD. They are kept: a later
    `read` or span inside them costs no request. `size` is known afterwards if the server knows it. The caller closes
    the source.

    Args:
        url: http or https.
        settings: Limits of time and retries; a sidecar is hardly worth many retries.
        first: Bytes to ask for; a shorter file is no error.
        tick: As in `RangeSource`.
        beside: As in `RangeSource`.
        note: As in `RangeSource`.

    Raises:
        RangesRefused: It is there, but only as a whole.
        TransportError: As `RangeSource.read`.
    """
    source = RangeSource(url, settings, tick=tick, beside=beside, note=note)
    try:
        source.keep_front(first)
    except TransportError as e:
        source.close()
        if e.code in _MISSING:
            return None
        raise
    return source
