"""The world behind the command line, made of the simulated board: its engine, its record, its environment."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulation.board import SimulatedBoard
from simulation.image import SmallImage, SmallStream
from twinslot.cli.direct import DirectClient
from twinslot.cli.main import main
from twinslot.cli.world import Front, JsonObject, ServiceClient, Verbs
from twinslot.config.options import Config, load
from twinslot.core import stored
from twinslot.core.boot_variables import read_state
from twinslot.core.errors import TransportError
from twinslot.core.model import SlotName
from twinslot.core.progress import Observer
from twinslot.core.transaction import Transaction
from twinslot.engine.cancellation import Cancellation
from twinslot.engine.install import InstallOptions
from twinslot.queries.diagnosis import Diagnosis
from twinslot.queries.log import LogQuery, rows_of
from twinslot.queries.preview import Preview

OLD = SmallImage("1.0", 10)
NEW = SmallImage("2.0", 20)
SICK = SmallImage("3.0", 30, well=False)

CONFIG = """
[device]
compatible = "sim"
[slots]
a = { rootfs = "/nowhere/a" }
b = { rootfs = "/nowhere/b" }
[trust]
roles = ["engineering"]
[record]
directory = "/nowhere/data"
"""


def write_config(root: Path, more: str = "") -> Path:
    """A configuration below a directory, for `--config-root`."""
    path = root / "etc/twinslot/config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(CONFIG + more)
    return root


class BoardWorld:
    """Implements `cli_world.World`. An image file holds the name of a release of the board.

    Args:
        board: Runs already.
        releases: By name.
    """

    def __init__(self, board: SimulatedBoard, *releases: SmallImage) -> None:
        self.board = board
        self.releases = {release.name: release for release in releases}
        self.root = True
        self.seconds = 0.0  # on the clock
        self.by_service: list[str] = []  # what was asked of the service
        self.closed = 0  # connections to the service
        self.before: Callable[[str], object] = lambda _: None  # called with each verb; may raise
        self.options: InstallOptions | None = None
        self.forecasted: JsonObject = {}  # what `install --dry-run` is to say

    def is_root(self) -> bool:
        return self.root

    def config(self, root: str) -> Config:
        return load(root)

    def engine(self, config: Config) -> Verbs:
        self.before("engine")
        return self.board.engine()

    def install(
        self,
        config: Config,
        source: str | int,
        options: InstallOptions,
        observer: Observer,
        cancelled: Cancellation,
    ) -> Transaction:
        self.options = options
        self.before("install")
        if isinstance(source, str):
            raise TransportError("the server does not answer", code="connect", found=source, hint="try again later")
        release = self.releases[os.read(source, 100).decode()]
        return self.board.engine().install(SmallStream(release), options, observer, cancelled)

    def service(self) -> ServiceClient:
        return _Service(self)

    def status(self, config: Config) -> JsonObject:
        self.before("status")
        return self._status()

    def history(self, config: Config, limit: int) -> list[JsonObject]:
        with self.board.open_record() as record:
            return [transaction.as_dict() for transaction in record.history(limit)]

    def doctor(self, config: Config) -> Diagnosis:
        raise NotImplementedError

    def log(self, config: Config, after: int, since: str, limit: int) -> JsonObject:
        self.before("log")
        with self.board.open_record() as record:
            return rows_of(record, LogQuery(after, since, limit)).as_dict()

    def head(self, config: Config, url: str) -> Front:
        raise TransportError("the server does not answer", code="connect", found=url)

    def preview(self, config: Config, front: Front) -> Preview:
        raise NotImplementedError

    def forecast(self, config: Config, source: str | int, options: InstallOptions) -> JsonObject:
        self.options = options
        return self.forecasted

    def monotonic(self) -> float:
        return self.seconds

    def pause(self, seconds: float) -> None:
        self.seconds += seconds

    def serve(self, config: Config) -> int:
        self.before("serve")
        return 0

    def _status(self) -> dict[str, Any]:
        state = read_state(self.board.environment())
        with self.board.open_record() as record:
            current, history = record.current(), record.history(1)
            known = {name: record.slot(name) for name in SlotName}
            failed = {str(sequence): reason for sequence, reason in record.failed().items()}
            floors = stored.write(state.floors.highest(record.floors()))
        slots = {
            str(name): {
                "state": state.states[name],
                "running": self.board.running is name,
                "release": stored.write(slot.release) if (slot := known[name]) else None,
                "installed_at": slot.installed_at if slot else None,
            }
            for name in SlotName
        }
        return {
            "version": "0",
            "running": self.board.running,
            "state": current.state if current else "idle",
            "slots": slots,
            "floors": floors,
            "transaction": current.as_dict() if current else None,
            "last": history[0].as_dict() if history else None,
            "failed": failed,
            "environment": {"settled": True, "lost": False, "copies": []},
        }


class _Service:
    """Implements `cli_world.ServiceClient` and notes what it was asked."""

    def __init__(self, world: BoardWorld) -> None:
        self._world = world
        self._direct = DirectClient(world, Config(device=None, slots=None, trust=None))  # type: ignore[arg-type]

    def install(
        self, source: str | int, options: JsonObject, observer: Observer, cancelled: Cancellation
    ) -> JsonObject:
        self._world.by_service.append("install")
        return self._direct.install(source, options, observer, cancelled)

    def commit(self, options: JsonObject, observer: Observer) -> JsonObject | None:
        self._world.by_service.append("commit")
        return self._direct.commit(options, observer)

    def rollback(self, options: JsonObject, observer: Observer) -> JsonObject:
        self._world.by_service.append("rollback")
        return self._direct.rollback(options, observer)

    def activate(self, options: JsonObject, observer: Observer) -> JsonObject:
        self._world.by_service.append("activate")
        return self._direct.activate(options, observer)

    def cancel(self) -> JsonObject:
        self._world.by_service.append("cancel")
        return self._direct.cancel()

    def log(self, after: int, since: str, limit: int) -> JsonObject:
        self._world.by_service.append("log")
        return self._direct.log(after, since, limit)

    def close(self) -> None:
        self._world.closed += 1


class Shell:
    """Types commands at the board's prompt."""

    def __init__(self, world: BoardWorld, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.world, self.directory, self._capsys = world, directory, capsys
        self.out = self.err = ""

    def __call__(self, *argv: str) -> int:
        """Run one command; `out` and `err` are what it said."""
        status = main([*argv, "--config-root", str(self.directory)], self.world)
        self.out, self.err = self._capsys.readouterr()
        return status

    def json(self, *argv: str) -> list[dict[str, Any]]:
        """Run one command with `--json`; its lines."""
        self(*argv, "--json")
        assert self.err == ""
        return [json.loads(line) for line in self.out.splitlines()]

    def image(self, name: str) -> str:
        """A file that the board takes for this release."""
        path = self.directory / f"{name}.twin"
        path.write_text(name)
        return str(path)

    def reboot(self) -> None:
        """Start the board again; no unit runs by itself."""
        self.world.board.start()
