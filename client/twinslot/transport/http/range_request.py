"""One run of bytes out of a file on a server, over as many requests as it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from twinslot.core.errors import TransportError
from twinslot.transport.http.answers import WHOLE, Pinned, Replaced, beyond, insist, part
from twinslot.transport.http.connection import Connection, Reply
from twinslot.transport.http.download import HttpSource
from twinslot.transport.http.retry import PROGRESS, Broken, RetryPolicy

FEW: Final = 3  # requests of a stream that are sent one at a time


class RangesRefused(Exception):  # noqa: N818 - no failure
    """The server gives this file only as a whole. Not an error for people: the caller streams it front to back.

    Attributes:
        source: The whole file from its first byte. It begins with the answer that is already on its way, so that
            nothing was fetched in vain, and goes on with the policy that is left. The catcher owns it: read
            `source.chunks()` or call `source.close()`.
    """

    def __init__(self, source: HttpSource) -> None:
        super().__init__("the server does not give parts of the file")
        self.source = source


@dataclass(slots=True)
class FetchMethod:
    """What all passages through one file share.

    Attributes:
        whole: Makes a source for the whole file.
        connections: Towards it; passages take turns.
        policy: Of the whole download.
        tick: Hears that we live.
        pinned: Which file it is.
        ahead: Bytes that may still be missing of one answer when the next is asked for; 0: one request at a time.
        fetched: Bytes of bodies so far.
        front: The first bytes of the file, by which it is known again where its validators say something else.
    """

    whole: Callable[[], HttpSource]
    connections: list[Connection]
    policy: RetryPolicy
    tick: Callable[[], None]
    pinned: Pinned
    ahead: int
    fetched: int = 0
    front: bytes = b""

    def knows(self, error: Replaced) -> bool:
        """Another ETag or date: is it the same file all the same, on another machine behind the same name?

        Raises as `RangeRequest.take`.
        """
        if self.pinned.loose or error.by_length or not self.front:
            return False
        self.close()
        self.pinned.loose = True
        return RangeRequest(self, 0, len(self.front)).take(0, len(self.front)) == self.front

    def turn(self, number: int) -> Connection:
        """The connection for a request that so many of the same stream went before.

        The second one costs round trips and a TLS handshake of some 4 KB, so it is not for a few requests.
        """
        return self.connections[number % 2 if self.ahead and number >= FEW else 0]

    def close(self) -> None:
        """Drop all connections."""
        for connection in self.connections:
            connection.close()


class RangeRequest:
    """The bytes from `start` to before `end`; taken in order, each once.

    Args:
        way: To the file.
        start: Offset of the first byte.
        end: Offset behind the last one.
        number: How many went before it in the same stream.
        clip: A file that ends before `end` is no error: `end` moves there.
    """

    def __init__(self, way: FetchMethod, start: int, end: int, number: int = 0, *, clip: bool = False) -> None:
        self._way, self._at, self.end, self._clip = way, start, end, clip
        self._connection = way.turn(number)
        self._then: RangeRequest | None = None  # what is read next
        self._early = False  # asked for while another answer was being read
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
        if self._at < self.end:
            self._connection.leave()

    def then(self, other: RangeRequest) -> None:
        """Ask for the other one as soon as so little of this one is missing that its answer need not wait long."""
        self._then = other if other._connection is not self._connection else None

    def ahead(self) -> None:
        """Ask, and do not wait."""
        size = self._way.pinned.length
        if self._reply is None and (size is None or self.end <= size):
            self._early = True
            self._connection.send(self._way.pinned.range(self._at, self.end - 1))

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
                self._connection.close()
                if self._early:  # perhaps the server wants one connection from us, not two
                    way.ahead, self._early = 0, False
                    self._connection = way.turn(0)
                for _ in way.policy.recover(e, self._at - self._began, way.fetched):
                    way.tick()
            except Replaced as e:
                self._connection.close()
                if not way.knows(e):
                    raise _changed(e) from e
            except TransportError:
                self._connection.close()
                raise
        way.tick()
        way.policy.keep(way.fetched)
        for _ in way.policy.spend(len(piece), way.fetched):
            way.tick()
        return piece

    def _try(self, limit: int) -> bytes:
        way = self._way
        if self._stingy:
            self._stingy = False
            raise Broken(f"the server gave only {self._at - self._began} bytes of {self.end - self._began}")
        if self._at < self.end and (self._reply is None or self._connection.reply is not self._reply):
            self._ask()  # also when another passage came between
        if not limit or self._reply is None:
            return b""
        if self._then is not None and way.ahead and self.end - self._at <= way.ahead:
            self._then.ahead()
            self._then = None
        piece = self._connection.read(min(limit, self._stop - self._at))
        if not piece:
            raise Broken(f"the connection ended {self._stop - self._at} bytes early")
        self._at += len(piece)
        way.fetched += len(piece)
        if self._at == self._stop:
            self._finish()
        return piece

    def _finish(self) -> None:
        """The open answer is read to its end, which may lie before ours (RFC 9110, section 15.3.7)."""
        self._connection.finish()
        self._reply = None
        self._stingy = self._at < self.end and self._at - self._began < PROGRESS
        if not self._stingy:
            self._way.policy.succeeded()

    def _ask(self) -> None:
        way = self._way
        way.policy.begin()
        self._began, self._reply = self._at, None
        if way.pinned.length is not None and self.end > way.pinned.length and not self._clip:
            raise _too_short(self.end, way.pinned.length)
        reply = self._connection.get(way.pinned.range(self._at, self.end - 1))
        way.policy.waited(len(str(reply.response.headers)), reply.took)  # many small parts are mostly heads
        self._reply = reply if self._judge(reply) else None
        self._early = False

    def _judge(self, reply: Reply) -> bool:
        """Is it the part? False: there is none, and nobody misses it."""
        response = reply.response
        if response.status == 416:
            return self._beyond(beyond(response))
        insist(reply.address, response, 200, 206)
        if response.status in WHOLE:
            self._way.pinned.check(response, response.length)
            raise self._refused()
        held = part(response, self._at, self.end - 1)
        self._way.pinned.check(response, held.total)
        if held.total is not None and held.total < self.end:
            if not self._clip:
                raise _too_short(self.end, held.total)
            self.end = held.total
        self._stop = held.last + 1
        return True

    def _refused(self) -> RangesRefused:
        """Hand over the open answer, and the connection with it; whoever still asks gets another."""
        source = self._way.whole().going_on(self._connection.give_away(), self._way.policy)
        self._way.close()
        return RangesRefused(source)

    def _beyond(self, size: int | None) -> bool:
        """The server says that the file ends before the first byte that we want (RFC 9110, section 15.5.17)."""
        told = "less" if size is None else size
        if self._way.pinned.length is not None:  # and we ask for nothing beyond that
            raise Replaced(self._way.pinned.length, told)
        if not (self._clip and size == self._at):
            raise _too_short(self.end, told)
        self._way.pinned.length = self.end = self._at
        self._connection.finish()
        return False


def _too_short(end: int, size: object) -> TransportError:
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
