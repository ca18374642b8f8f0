"""A simulated board with the fleet process on it: the real engine, record and audit; a server of any kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from fakes.hawkbit import FakeHawkbit
from simulation.board import SimulatedBoard
from simulation.image import SmallImage, SmallStream
from simulation.updater import NOWHERE, BoardUpdater
from twinslot.app.updater import JsonObject
from twinslot.core.backoff import Moment
from twinslot.core.errors import TransportError, TwinslotError
from twinslot.core.origin import NOBODY, Origin, OriginKind
from twinslot.core.progress import Observer
from twinslot.core.requests import ActivateOptions, InstallOptions
from twinslot.core.stream import ImageHead, ImageStream
from twinslot.core.transaction import Transaction
from twinslot.engine.engine import Engine
from twinslot.fleet.ddi import home
from twinslot.fleet.decide import Wishes
from twinslot.fleet.run import FleetRun, Setting
from twinslot.fleet.server import Server, ServerAnswer
from twinslot.fleet.state import FleetState, read_state, write_state
from twinslot.system.cancellation import Cancellation

CONTROLLER = "pump-1"
LONG = 100_000.0  # seconds; longer than any pause


class ModelServer:
    """Asks the server on paper without a network. Implements `Server`.

    Args:
        hawkbit: See there.
        authorization: As the relay would add it.
    """

    def __init__(self, hawkbit: FakeHawkbit, authorization: str) -> None:
        self.hawkbit, self._authorization, self.wait = hawkbit, authorization, 0.0

    def ask(self, method: str, url: str, body: Any = None) -> ServerAnswer:
        assert url.startswith(self.hawkbit.url), url
        content = b"" if body is None else json.dumps(body).encode()
        headers = {"authorization": self._authorization}
        status, told, said = self.hawkbit.answer(method, url.removeprefix(self.hawkbit.url), headers, content)
        wait = float(told.get("Retry-After", "0"))
        self.wait = max(self.wait, wait)
        return ServerAnswer(status, said, wait)


class BoardService(BoardUpdater):
    """The update service of the board, as the bus gives it to the fleet process: rows say which server's order it was.

    Args:
        board: Runs already.
        releases: By file name of the image.
        during: Called with what stops an install, before its first byte comes.
        named: File name of the image at an address.
    """

    def __init__(
        self,
        board: SimulatedBoard,
        releases: dict[str, SmallImage],
        during: Callable[[Cancellation], object] = lambda _: None,
        named: Callable[[str], str] = lambda url: PurePath(url).name,
    ) -> None:
        super().__init__(board, NOWHERE, releases)
        self._during, self._who, self._named = during, NOBODY, named

    def engine(self) -> Engine:
        return Engine(replace(self._board.device(), origin=self._who))

    def stream(self, source: str | int) -> ImageStream:
        name = self._named(str(source))
        return SmallStream(self._releases[name]) if name in self._releases else _Nothing(SmallImage("none", 1))

    def install(
        self,
        source: str | int,
        options: InstallOptions,
        observer: Observer,
        cancelled: Cancellation | None = None,
    ) -> Transaction:
        self._who = _order(options.action)
        self._during(cancelled or Cancellation())
        return super().install(source, options, observer, cancelled)

    def activate(self, options: ActivateOptions, observer: Observer) -> Transaction:
        self._who = NOBODY
        return super().activate(options, observer)

    def decline(self, action: str, why: str) -> None:
        self._who = _order(action)
        super().decline(action, why)

    def status(self) -> JsonObject:
        return json.loads(json.dumps(super().status(), default=str))  # type: ignore[no-any-return] # as over the bus

    def log(self, after: int, since: str, limit: int) -> JsonObject:
        return json.loads(json.dumps(super().log(after, since, limit)))  # type: ignore[no-any-return]


class _Nothing(SmallStream):
    """No answer comes."""

    def head(self) -> ImageHead:
        raise TransportError("the server does not answer", code="network")


def _order(action: str) -> Origin:
    return Origin(OriginKind.SERVER, uid=990, action=action)


@dataclass
class FleetBoard:
    """Both sides.

    Attributes:
        board: The device.
        server: Where it asks.
        url: The server's address.
        releases: By file name of the image.
        before: Called with a name before each step of the fleet process: a request, or the state being kept; may raise.
        during: See `BoardService`.
        named: See `BoardService`.
        changes: Of the setting.
        soft: See `Wishes`.
    """

    board: SimulatedBoard
    server: Server
    url: str
    releases: dict[str, SmallImage]
    before: Callable[[str], object] = lambda _: None
    during: Callable[[Cancellation], object] = lambda _: None
    named: Callable[[str], str] = lambda url: PurePath(url).name
    changes: dict[str, Any] = field(default_factory=dict)
    runs: int = 0
    seconds: float = 0.0
    soft: str = "install"
    tenant: str = "DEFAULT"
    controller: str = CONTROLLER

    def run(self, *, later: float = LONG) -> TwinslotError | None:
        """One run of the fleet process, so many seconds after the last one; what went wrong."""
        self.runs += 1
        self.seconds += later
        moment = Moment(self.seconds, f"{self.board.starts:032x}", self.seconds)
        setting = Setting(
            home=home(self.url, self.tenant, self.controller),
            wishes=Wishes(self.soft, 3),
            confirmation="wait",
            compatible=("sim",),
            attributes={},
            moment=moment,
            jitter=0.5,
            look=0.01,
        )
        setting = replace(setting, **self.changes)
        run = FleetRun(setting, self._connect, _Watched(self.server, self.before), self._save)
        return run.run(self.state)[1]

    @property
    def state(self) -> FleetState:
        """As it was kept."""
        return read_state(self.board.data, home(self.url, self.tenant, self.controller).url)

    def lose_state(self) -> None:
        """It was on another medium, say."""
        (self.board.data / "fleet/state.json").unlink()

    def live(self) -> TwinslotError | None:
        """A run, then what the device does by itself, then another run."""
        error = self.run()
        if self.board.wants_reboot:
            self.board.live()
        return self.run() or error

    def service(self) -> BoardService:
        """The update service."""
        return BoardService(self.board, self.releases, self.during, self.named)

    def _connect(self) -> BoardService:
        return self.service()

    def _save(self, state: FleetState) -> None:
        self.before("save")
        write_state(self.board.data, state)
        self.before("saved")


class _Watched:
    """A server, with something called before and after each request."""

    def __init__(self, server: Server, before: Callable[[str], object]) -> None:
        self._server, self._before, self.wait = server, before, server.wait

    def ask(self, method: str, url: str, body: Any = None) -> ServerAnswer:
        self._before(f"{method} {url}")
        answer = self._server.ask(method, url, body)
        self.wait = self._server.wait
        self._before(f"answered {method} {url}")
        return answer


def fleet_board(directory: Path, server: Server, url: str, *images: SmallImage) -> FleetBoard:
    """A board that runs release 1.0 and restarts itself into a trial."""
    old = SmallImage("1.0", 10)
    board = SimulatedBoard(directory, old, *images)
    board.restarts = True
    board.live()
    return FleetBoard(board, server, url, {f"{image.name}.twin": image for image in images})
