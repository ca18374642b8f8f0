"""One device of the fleet: the real client of a server (`fleet.run.FleetRun`), its timer, its restarts, its network."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Final, cast

from bench.rollout.engine import DevicePower, PowerLostError, SimulatedService
from bench.rollout.scenario import RolloutScenario
from twinslot.app.updater import Updater
from twinslot.core.backoff import Moment
from twinslot.core.errors import TransportError, TwinslotError
from twinslot.fleet.ddi import Home
from twinslot.fleet.decide import Wishes
from twinslot.fleet.run import FleetRun, Setting
from twinslot.fleet.server import Server, ServerAnswer
from twinslot.fleet.state import FleetState

_EPOCH: Final = 1.8e9  # seconds since 1970 when the story begins
_FALLS_BACK: Final = 0.3  # how often a power cut during a trial was its last try
Heard = Callable[[str, int], None]  # is told each request's kind, and its status; 0: no answer


@dataclass
class MemberBooks:
    """What a device was seen to do that it must not.

    Attributes:
        false: Successes that it told of a release that it had not committed.
        faults: Errors that nobody expected.
        cuts: How often its power went.
        errors: Codes of runs that ended badly, and how often.
    """

    false: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    cuts: int = 0
    errors: dict[str, int] = field(default_factory=dict)


class FleetMember:
    """A device.

    Args:
        home: Its own resource at the server.
        service: Its engine.
        scenario: See there.
        lossy: How often its requests fail.
    """

    def __init__(self, home: Home, service: SimulatedService, scenario: RolloutScenario, lossy: float) -> None:
        self.service, self.lossy, self.books = service, lossy, MemberBooks()
        self.ordered: dict[str, str] = {}  # release by the server's id of its order
        self._home, self._scenario = home, scenario
        self._random = random.Random(f"{scenario.seed}/{service.name}")
        self._state = FleetState(home.url)
        self._boots, self._verdict = 1, 0.0

    def first(self) -> float:
        """When its first run is due."""
        return self._random.uniform(0, self._scenario.timer)

    @property
    def busy(self) -> bool:
        """Whether it has read an order of which the server does not know the end yet."""
        closed = {action.id for action in self._state.actions if action.closed}
        return bool(set(self.ordered) - closed)

    def turn(self, now: float, server: Server, heard: Heard) -> float:
        """What the device does at this time; when it wants its next turn.

        Args:
            now: Seconds since the story began, the device's own.
            server: The way to the server.
            heard: See there.
        """
        if self.service.trial and now >= self._verdict:
            self.service.judge()
        power = self.service.power
        try:
            self._run(now, MemberServer(server, self, heard))
            power.step()
        except PowerLostError:
            self.books.cuts += 1
            return self._started(now)
        except Exception as e:  # noqa: BLE001 - whatever a device dies of is the finding
            self.books.faults.append(repr(e))
        if self.service.wants_restart:
            return self._started(now)
        if self.service.trial:
            return max(self._verdict, now) + self._random.uniform(0, self._scenario.spread)
        return now + self._scenario.timer + self._random.uniform(0, self._scenario.spread)

    def _started(self, now: float) -> float:
        again = bool(self.service.trial)
        if again and self._random.random() < _FALLS_BACK:
            self.service.leave()
        self.service.start()
        self._boots += 1
        self._verdict = now + self._random.uniform(*self._scenario.trial)
        return now + self._scenario.start + self._random.uniform(0, self._scenario.spread)

    def _run(self, now: float, server: MemberServer) -> None:
        setting = Setting(
            home=self._home,
            wishes=Wishes("install", 3),
            confirmation="wait",
            compatible=("pump",),
            attributes={},
            moment=Moment(_EPOCH + now, f"{self._boots:032x}", now),
            jitter=self._random.random(),
            look=0.01,
        )
        run = FleetRun(setting, lambda: cast("Updater", self.service), server, self._keep)
        _, error = run.run(self._state)
        if error is not None:
            self._note(error)

    def _note(self, error: TwinslotError) -> None:
        self.books.errors[error.code] = self.books.errors.get(error.code, 0) + 1

    def _keep(self, state: FleetState) -> None:
        self.service.power.step()
        self._state = state
        self.service.power.step()


class MemberServer:
    """The server over a network that may be bad. Implements `Server`.

    Args:
        server: The way without faults.
        member: Whose network it is.
        heard: See there.
    """

    def __init__(self, server: Server, member: FleetMember, heard: Heard) -> None:
        self._server, self._member, self._heard, self.wait = server, member, heard, 0.0
        self._random = random.Random()

    def ask(self, method: str, url: str, body: Any = None) -> ServerAnswer:
        """See `Server`. A bad network loses the request, or the answer.

        Raises:
            TransportError: There is no answer.
        """
        self._member.service.power.step()
        kind = _kind(method, url)
        self._judge(url, body)
        before, behind = self._random.random(), self._random.random()
        if before < self._member.lossy / 2:
            self._heard("lost", 0)
            raise _lost()
        try:
            answer = self._server.ask(method, url, body)
        except TransportError:
            self._heard(kind, 0)
            raise
        self._heard(kind, answer.status)
        self.wait = max(self.wait, answer.wait)
        if answer.good and "/deploymentBase/" in url and method == "GET":
            self._member.ordered[_action(url)] = _release(answer.body)
        if behind < self._member.lossy / 2:
            raise _lost()
        self._member.service.power.step()
        return answer

    def _judge(self, url: str, body: Any) -> None:
        """No success may be told of a release that was not committed."""
        status = (body or {}).get("status") or {}
        if "/deploymentBase/" not in url or status.get("execution") != "closed":
            return
        release = self._member.ordered.get(_action(url), "?")
        if status["result"]["finished"] == "success" and self._member.service.ends.get(release) != "committed":
            self._member.books.false.append(f"{release}: {status['details']}"[:200])


def _action(url: str) -> str:
    return url.partition("/deploymentBase/")[2].partition("?")[0].partition("/")[0]


def _release(order: bytes) -> str:
    """Name of the image that an order has."""
    (chunk,) = json.loads(order)["deployment"]["chunks"]
    return PurePath(chunk["artifacts"][0]["filename"]).stem


def _kind(method: str, url: str) -> str:
    if url.endswith("/feedback"):
        return "feedback"
    return {"PUT": "attributes", "GET": "order" if "Base/" in url or "cancelAction" in url else "poll"}[method]


def _lost() -> TransportError:
    return TransportError("the server gives no answer", code="network", found="a bad network")


def made(home: Home, name: str, scenario: RolloutScenario, draw: random.Random) -> FleetMember | None:
    """A device of this fleet; None: one that never answers."""
    kind = draw.random()
    releases = (scenario.good, scenario.bad)
    fails = frozenset(each.name for each in releases if draw.random() < each.fails)
    seed = draw.random()
    if kind < scenario.silent:
        return None
    lossy = scenario.lossy if kind < scenario.silent + scenario.bad_network else 0.0
    edge = scenario.silent + scenario.bad_network + scenario.cut
    cuts = scenario.cuts if not lossy and kind < edge else 0.0
    power = DevicePower(random.Random(seed), cuts)
    service = SimulatedService(name, {each.name: each for each in releases}, fails, power, lossy / 3)
    return FleetMember(home, service, scenario, lossy)
