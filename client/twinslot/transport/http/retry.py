"""When to try again, when to give up, and how fast to go: shared by whatever reads over HTTP.

Rules:

1. Tries are spaced by a doubling, jittered pause up to a bound; a server that says `Retry-After` is given that time, up
   to the same bound. The count starts anew after a try that brought something at more than the rate floor.
2. Slower than the rate floor over a read timeout counts as broken. Only time spent waiting for the server counts: we
   may be the slow ones, while flash is written.
3. Bytes are spent from a bucket that fills at the rate limit and holds `BURST` seconds' worth.
4. Every pause is cut into naps of at most `TICK`, so that whoever listens hears that we live.
5. A server that never answered, and refuses the connection or has a name that does not exist, is tried `FEW` times
   again at most: then the address is wrong, and minutes do not mend it.
6. Whoever listens is told of each try that failed, and how long the pause is.
"""

from __future__ import annotations

import http.client
import random
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from twinslot.core.errors import TransportError
from twinslot.core.notes import Note, Retry
from twinslot.transport.http.options import HttpSettings
from twinslot.transport.http.timed_socket import TICK

CHUNK: Final = 256 * 1024  # bytes read at once
SMALL: Final = 1024  # bytes read at once under the lowest rate limits
FIRST_PAUSE: Final = 0.5  # seconds before the second try
BURST: Final = 1.0  # seconds; what a pause of the writer may save up of the rate limit
FEW: Final = 3  # further tries towards a server that is not there
PROGRESS: Final = 1024  # bytes; a try that brought less counts as failed, so that dripping bytes are no way to hold us


class Broken(Exception):  # noqa: N818 - never leaves the transport
    """This try failed in a way that another one may mend.

    Attributes:
        code: For the error when none does.
        wait: Seconds for which the server wants to be left alone; 0: it did not say.
        absent: There is no such server: nobody listens there, or the name does not exist.
    """

    def __init__(self, found: object, code: str = "network", wait: float = 0.0) -> None:
        super().__init__(in_words(found))
        self.code, self.wait = code, wait
        missing = isinstance(found, socket.gaierror) and found.errno in (socket.EAI_NONAME, socket.EAI_NODATA)
        self.absent = missing or isinstance(found, ConnectionRefusedError)


def in_words(found: object) -> str:
    """What went wrong on the way to a server, for people."""
    match found:
        case ssl.SSLError():
            return f"the encrypted connection failed: {(found.reason or 'it ended').lower().replace('_', ' ')}"
        case socket.gaierror():
            return f"the server's name was not found: {found.strerror}"
        case OSError() if found.strerror:
            return found.strerror[:1].lower() + found.strerror[1:]
        case http.client.RemoteDisconnected():
            return "the server closed the connection without an answer"
        case http.client.IncompleteRead():
            return "the answer ended early"
        case http.client.BadStatusLine() | http.client.UnknownProtocol():
            return "the answer is not HTTP"
        case _:
            return str(found) or "no reason is known"


@dataclass(slots=True)
class _SharedBudget:
    """What files that are fetched side by side spend together.

    Attributes:
        until: When the deadline comes; None: nothing was asked yet.
        due: When the bucket will have paid for what was read.
        answered: A server has answered.
    """

    until: float | None = None
    due: float = float("-inf")
    answered: bool = False


class RetryPolicy:
    """The policy of one download, over all its tries and requests.

    Args:
        settings: Its measures.
        name: The address, for messages.
        sleep: Waits seconds.
        clock: Monotonic seconds.
        beside: Of another file, whose deadline and rate limit this one shares.
        note: Told of tries that failed.
    """

    def __init__(
        self,
        settings: HttpSettings,
        name: object,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        beside: RetryPolicy | None = None,
        note: Callable[[Note], None] = lambda _: None,
    ) -> None:
        self._settings, self._name, self._sleep, self.clock = settings, name, sleep, clock
        self._note = note
        self._shared: _SharedBudget = beside._shared if beside else _SharedBudget()
        self._failures = 0
        self._waited = (0, 0.0)  # bytes and seconds for the server, in this try
        self._window = (0, 0.0)  # bytes and seconds towards the rate floor

    @property
    def piece(self) -> int:
        """Bytes to read at once: a quarter of a second of the rate limit."""
        limit = self._settings.rate_limit
        return max(SMALL, min(CHUNK, limit // 4)) if limit else CHUNK

    def begin(self) -> None:
        """A try begins; the first one starts the deadline."""
        if self._shared.until is None:
            self._shared.until = self.clock() + (self._settings.deadline or float("inf"))
        self._waited = (0, 0.0)

    def left(self) -> float:
        """Seconds until the deadline."""
        return float("inf") if self._shared.until is None else self._shared.until - self.clock()

    def answered(self) -> None:
        """The server said something."""
        self._shared.answered = True

    def waited(self, got: int, seconds: float) -> None:
        """So many bytes took the server so long.

        Raises:
            Broken: `too-slow`.
        """
        self._waited = (self._waited[0] + got, self._waited[1] + seconds)
        got, seconds = self._window[0] + got, self._window[1] + seconds
        self._window = (got, seconds)
        if seconds > self._settings.read_timeout:
            self._window = (0, 0.0)
            if got < self._settings.rate_floor * seconds:
                raise Broken(f"only {got} bytes in {seconds:.0f} seconds", code="too-slow")

    def keep(self, have: int) -> None:
        """Is there time left?

        Raises:
            TransportError: `transport.deadline`.
        """
        if self._shared.until is not None and self.clock() > self._shared.until:
            expected = f"everything within {self._settings.deadline:g} seconds"
            raise TransportError(
                "the download takes too long", code="deadline", expected=expected, found=f"{have} bytes"
            )

    def succeeded(self) -> None:
        """A request was answered in full; if that was fast enough, earlier failures are forgotten."""
        if self._waited[0] >= self._settings.rate_floor * self._waited[1]:
            self._failures = 0

    def recover(self, last: Broken, new: int, have: int) -> Iterator[None]:
        """Pause before the next try; yields before each nap.

        Args:
            last: What went wrong.
            new: Bytes of progress in this try. Bytes that were read before and skipped are none: a server that starts
                anew each time may never get further.
            have: Bytes in all, for messages.

        Raises:
            TransportError: With the code of `last`: given up; `transport.deadline`.
        """
        progressed = new >= max(PROGRESS, self._settings.rate_floor * self._waited[1])
        self._failures = 1 if progressed else self._failures + 1
        self._window = (0, 0.0)
        self.keep(have)
        retries = self._settings.retries
        if last.absent and not self._shared.answered:
            retries = min(retries, FEW)
        if self._failures > retries:
            raise self._given_up(last, have) from last
        pause = max(self._pause(), min(last.wait, self._settings.retry_wait))
        self._note(Retry(str(last), self._failures + 1, retries + 1, pause))
        for nap in _naps(pause):
            yield
            self.keep(have)
            self._sleep(nap)

    def spend(self, count: int, have: int) -> Iterator[None]:
        """Wait until the rate limit allows what was just read; yields between naps.

        Raises:
            TransportError: `transport.deadline`.
        """
        if not self._settings.rate_limit:
            return
        now = self.clock()
        self._shared.due = max(self._shared.due, now - BURST) + count / self._settings.rate_limit
        for number, nap in enumerate(_naps(self._shared.due - now)):
            if number:
                yield
                self.keep(have)
            self._sleep(nap)

    def _pause(self) -> float:
        """Doubling, capped, and between half and the whole of it, so that a fleet does not knock in step."""
        longest = min(self._settings.retry_wait, FIRST_PAUSE * 2.0 ** min(self._failures - 1, 30))
        return random.uniform(longest / 2, longest)  # noqa: S311 - spreading load, not a secret

    def _given_up(self, last: Broken, have: int) -> TransportError:
        times = "once" if self._failures == 1 else f"{self._failures} times"
        hint = f"{have} bytes had arrived; try again later"
        if last.absent and not self._shared.answered:
            hint = "is the address right, and does the server run?"
        return TransportError(
            f"the download from '{self._name}' failed {times} without progress", code=last.code, found=last, hint=hint
        )


def _naps(seconds: float) -> Iterator[float]:
    """A pause in pieces."""
    while seconds > 0:
        yield min(seconds, TICK)
        seconds -= TICK
