"""The command line on the simulated board: what it was asked, and by which way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulation.board import SimulatedBoard
from simulation.image import SmallImage
from simulation.updater import NOWHERE, BoardUpdater
from twinslot.app.updater import JsonObject
from twinslot.cli.host import Host
from twinslot.cli.main import main
from twinslot.config.options import Config
from twinslot.core.progress import Observer
from twinslot.core.requests import ActivateOptions, CommitOptions, InstallOptions, RollbackOptions
from twinslot.core.transaction import Transaction
from twinslot.system.cancellation import Cancellation

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
    """A board, what a test says of the process that runs the command line, and what was asked of either.

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

    @property
    def host(self) -> Host:
        """What the command line takes."""
        return Host(
            is_root=lambda: self.root,
            local=lambda config: _Here(self, config),
            service=lambda: _Service(self),
            serve=self._serve,
            monotonic=lambda: self.seconds,
            pause=self._pause,
        )

    def _serve(self, config: Config, root: str) -> int:
        self.before("serve")
        return 0

    def _pause(self, seconds: float) -> None:
        self.seconds += seconds


class _Here(BoardUpdater):
    """In this process; notes the options of an install."""

    def __init__(self, world: BoardWorld, config: Config) -> None:
        super().__init__(world.board, config, world.releases, world.before)
        self._world = world

    def install(
        self,
        source: str | int,
        options: InstallOptions,
        observer: Observer,
        cancelled: Cancellation | None = None,
    ) -> Transaction:
        self._world.options = options
        return super().install(source, options, observer, cancelled)

    def forecast(self, source: str | int, options: InstallOptions) -> JsonObject:
        self._world.options = options
        return self._world.forecasted


class _Service(_Here):
    """Over the bus, as it were: notes what it was asked."""

    def __init__(self, world: BoardWorld) -> None:
        super().__init__(world, NOWHERE)

    def install(
        self,
        source: str | int,
        options: InstallOptions,
        observer: Observer,
        cancelled: Cancellation | None = None,
    ) -> Transaction:
        self._world.by_service.append("install")
        return super().install(source, options, observer, cancelled)

    def commit(self, options: CommitOptions, observer: Observer) -> Transaction | None:
        self._world.by_service.append("commit")
        return super().commit(options, observer)

    def rollback(self, options: RollbackOptions, observer: Observer) -> Transaction:
        self._world.by_service.append("rollback")
        return super().rollback(options, observer)

    def activate(self, options: ActivateOptions, observer: Observer) -> Transaction:
        self._world.by_service.append("activate")
        return super().activate(options, observer)

    def cancel(self) -> Transaction:
        self._world.by_service.append("cancel")
        return super().cancel()

    def log(self, after: int, since: str, limit: int) -> JsonObject:
        self._world.by_service.append("log")
        return super().log(after, since, limit)

    def close(self) -> None:
        self._world.closed += 1


class Shell:
    """Types commands at the board's prompt."""

    def __init__(self, world: BoardWorld, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.world, self.directory, self._capsys = world, directory, capsys
        self.out = self.err = ""

    def __call__(self, *argv: str) -> int:
        """Run one command; `out` and `err` are what it said."""
        status = main([*argv, "--config-root", str(self.directory)], self.world.host)
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
