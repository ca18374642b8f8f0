"""All devices at once: whose turn it is, some of them at a time, each over a relay as on a device."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.rollout.member import FleetMember
from bench.rollout.scenario import RolloutScenario
from twinslot.core.errors import TwinslotError
from twinslot.fleet.relay import METHODS
from twinslot.fleet.server import RelayedServer, Server
from twinslot.transport.http.options import HttpSettings
from twinslot.worker.relay import Relay
from twinslot.worker.relayed import RelayClient


class CrowdLog:
    """Requests by kind and status, second by second of the server."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._guard = threading.Lock()
        self.seconds: Counter[int] = Counter()
        self.kinds: Counter[tuple[str, int]] = Counter()

    def now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def heard(self, kind: str, status: int) -> None:
        """A request was made; status 0: without an answer."""
        with self._guard:
            self.kinds[kind, status] += 1
            if kind != "lost":
                self.seconds[int(self.now())] += 1


class Crowd:
    """Runs the devices until the block ends.

    Args:
        members: All that answer.
        scenario: See there.
        url: Of the server.
        authorization: Kind and token, which the relay adds.
    """

    def __init__(
        self, members: Sequence[FleetMember], scenario: RolloutScenario, url: str, authorization: tuple[str, str]
    ) -> None:
        self.log = CrowdLog()
        self._scenario, self._url, self._authorization = scenario, url, authorization
        self._heap = [(member.first(), number, member) for number, member in enumerate(members)]
        heapq.heapify(self._heap)
        self._order = itertools.count(len(members))
        self._wake, self._over = threading.Condition(), False

    @contextlib.contextmanager
    def living(self) -> Iterator[CrowdLog]:
        """The devices live while the block runs."""
        with tempfile.TemporaryDirectory() as directory:
            token = Path(directory) / "token"
            token.write_text(self._authorization[1] + "\n")
            token.chmod(0o400)
            workers = [threading.Thread(target=self._work, args=(token,)) for _ in range(self._scenario.workers)]
            for worker in workers:
                worker.start()
            try:
                yield self.log
            finally:
                with self._wake:
                    self._over = True
                    self._wake.notify_all()
                for worker in workers:
                    worker.join()

    def _work(self, token: Path) -> None:
        with relayed(self._url, self._authorization[0], token) as server:
            while (found := self._next()) is not None:
                due = found.turn(self._now(), server, self.log.heard)
                with self._wake:
                    heapq.heappush(self._heap, (due, next(self._order), found))
                    self._wake.notify()

    def _next(self) -> FleetMember | None:
        """Whose turn it is; None: it is over."""
        with self._wake:
            while not self._over:
                if self._heap and (left := self._heap[0][0] - self._now()) <= 0:
                    return heapq.heappop(self._heap)[2]
                self._wake.wait(min(1.0, left / self._scenario.speed) if self._heap else 1.0)
        return None

    def _now(self) -> float:
        return self.log.now() * self._scenario.speed


@contextlib.contextmanager
def relayed(url: str, kind: str, token: Path) -> Iterator[Server]:
    """A way to the server by a relay of its own, as the fleet process of a device has it."""
    settings = HttpSettings(
        schemes=("http",), credential_for=url, credential_kind=kind, credential_file=str(token), read_timeout=60
    )
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    relay = Relay(theirs, url, settings, METHODS)

    def serve() -> None:
        with contextlib.suppress(TwinslotError):  # it ends when we hang up
            relay.run()
        relay.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with ours:
            yield RelayedServer(RelayClient(ours), pause=0.2)
    finally:
        thread.join()
        theirs.close()
