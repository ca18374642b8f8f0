"""One run of bytes out of a file on a server, over as many requests as it takes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from twinslot.core.errors import TransportError
from twinslot.transport.answers import Pinned, Replaced, insist, part
from twinslot.transport.connection import Connection, Reply
from twinslot.transport.http import HttpSource
from twinslot.transport.patience import PROGRESS, Broken, Patience

_UNSATISFIED = re.compile(r"bytes \*/(\d{1,19})")  # what a 416 says of the length (RFC 9110, section 14.4)


class RangesRefused(Exception):  # noqa: N818 - no failure
    """The server gives this file only as a whole. Not an error for people: the caller streams it front to back.

    Attributes:
        source: The whole file from its first byte. It begins with the answer that is already on its way, so that
            nothing was fetched in vain, and goes on with the patience that is left. The catcher owns it: read
            `source.chunks()` or call `source.close()`.
    """

    def __init__(self, source: HttpSource) -> None:
        super().__init__("the server does not give parts of the file")
        self.source = source


@dataclass(slots=True)
class Way:
    """What all passages through one file share.

    Attributes:
        whole: Makes a source for the whole file.
        connect: Makes a connection towards it.
        connection: The one in use.
        patience: Of the whole download.
        tick: Hears that we live.
        pinned: Which file it is.
        fetched: Bytes of bodies so far.
    """

    whole: Callable[[], HttpSource]
    connect: Callable[[], Connection]
    connection: Connection
    patience: Patience
    tick: Callable[[], None]
    pinned: Pinned
    fetched: int = 0

    def refuse(self) -> RangesRefused:
        """Hand over the answer that is open."""
        source = self.whole().going_on(self.connection, self.patience)
        self.connection = self.connect()
        return RangesRefused(source)


class Passage:
    """The bytes from `start` to before `end`; taken in order, each once.

    Args:
        way: To the file.
        start: Offset of the first byte.
        end: Offset behind the last one.
        clip: A file that ends before `end` is no error: `end` moves there.
    """

    def __init__(self, way: Way, start: int, end: int, *, clip: bool = False) -> None:
        self._way, self._at, self.end, self._clip = way, start, end, clip
        self._reply: Reply | None = None
        self._stop = start  # offset behind the last byte of the open answer
        self._began = start  # of this try
        self._stingy = False  # the last answer was hardly worth its request

    def take(self, offset: int, length: int) -> bytes:
        """These bytes; what lies before them is dropped.

        Raises:
            RangesRefused: Instead of a part came the whole.
            TransportError: See `RangeSource.read`.
        """
        self._drop(offset - self._at)
        pieces = []
        while length and self._at < self.end:
            pieces.append(piece := self._piece(length))
            length -= len(piece)
        return b"".join(pieces)

    def begin(self) -> None:
        """Ask, without taking a byte: tells `end` of a clipped passage."""
        self._piece(0)

    def leave(self) -> None:
        """Taken or not, no more of it is wanted."""
        if self._reply is not None and self._way.connection.reply is self._reply:
            self._way.connection.close()

    def _drop(self, count: int) -> None:
        while count > 0:
            count -= len(self._piece(count))

    def _piece(self, limit: int) -> bytes:
        """The next bytes, at most `limit`, and at least one unless that is 0 or the end is reached."""
        way, piece = self._way, None
        while piece is None:
            try:
                piece = self._try(limit)
            except Broken as e:
                way.connection.close()
                for _ in way.patience.recover(e, self._at - self._began, way.fetched):
                    way.tick()
            except Replaced as e:
                way.connection.close()
                raise _changed(e) from e
            except TransportError:
                way.connection.close()
                raise
        way.tick()
        way.patience.keep(way.fetched)
        for _ in way.patience.spend(len(piece), way.fetched):
            way.tick()
        return piece

    def _try(self, limit: int) -> bytes:
        way = self._way
        if self._stingy:
            self._stingy = False
            raise Broken(f"the server gave only {self._at - self._began} bytes of {self.end - self._began}")
        if self._at < self.end and (self._reply is None or way.connection.reply is not self._reply):
            self._ask()  # also when another passage came between
        if not limit or self._reply is None:
            return b""
        piece = self._reply.read(min(limit, self._stop - self._at, way.patience.piece), way.patience)
        if not piece:
            raise Broken(f"the connection ended {self._stop - self._at} bytes early")
        self._at += len(piece)
        way.fetched += len(piece)
        if self._at == self._stop:
            self._finish()
        return piece

    def _finish(self) -> None:
        """The open answer is read to its end, which may lie before ours (RFC 9110, section 15.3.7)."""
        self._way.connection.finish()
        self._reply = None
        self._stingy = self._at < self.end and self._at - self._began < PROGRESS
        if not self._stingy:
            self._way.patience.succeeded()

    def _ask(self) -> None:
        way = self._way
        way.patience.begin()
        self._began, self._reply = self._at, None
        reply = way.connection.get(way.pinned.range(self._at, self.end - 1))
        way.patience.waited(len(str(reply.response.headers)), reply.took)  # many small parts are mostly heads
        if self._judge(reply):
            self._reply = reply

    def _judge(self, reply: Reply) -> bool:
        """Is it the part? False: there is none, and nobody misses it."""
        response = reply.response
        if response.status == 416:
            return self._beyond(response.headers.get("Content-Range", ""))
        insist(reply.address, response, 200, 206)
        if response.status == 200:
            self._way.pinned.check(response, response.length)
            raise self._way.refuse()
        held = part(response, self._at, self.end - 1)
        self._way.pinned.check(response, held.total)
        if held.total is not None and held.total < self.end:
            if not self._clip:
                raise too_short(self.end, held.total)
            self.end = held.total
        self._stop = held.last + 1
        return True

    def _beyond(self, content_range: str) -> bool:
        """The server says that the file ends before the first byte that we want (RFC 9110, section 15.5.17)."""
        match = _UNSATISFIED.fullmatch(content_range)
        if self._way.pinned.length is not None:  # and we ask for nothing beyond that
            raise Replaced(self._way.pinned.length, content_range or "less")
        if not (self._clip and match and int(match[1]) == self._at):
            raise too_short(self.end, match[1] if match else content_range or "less")
        self._way.pinned.length = self.end = self._at
        self._way.connection.close()
        return False


def too_short(end: int, size: object) -> TransportError:
    """What was asked for lies beyond the file's end: `transport.range`."""
    return TransportError(
        "the file on the server is shorter than what is asked for",
        code="range",
        expected=f"at least {end} bytes",
        found=size,
    )


def _changed(error: Replaced) -> TransportError:
    return TransportError(
        "the file on the server was replaced during the download",
        code="changed",
        expected=error.before,
        found=error.after,
        hint="begin anew: what was fetched before belongs to another file",
    )
