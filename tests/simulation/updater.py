"""The one fake of `app.DeviceUpdater`: the client's own, on the engine and the record of a simulated board."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from simulation.image import SmallImage, SmallStream
from twinslot.app.local import LocalUpdater
from twinslot.app.updater import Front, JsonObject
from twinslot.cli.host import Host
from twinslot.config import options as config
from twinslot.config.options import Config
from twinslot.core import stored
from twinslot.core.boot_variables import read_state
from twinslot.core.errors import DeviceError, TransportError
from twinslot.core.model import SlotName
from twinslot.core.stream import ImageStream
from twinslot.engine.engine import Engine
from twinslot.queries.log import LogQuery, rows_of
from twinslot.storage.record.record import Record

if TYPE_CHECKING:
    from simulation.board import SimulatedBoard

NOWHERE = Config(  # the board's edges know better
    device=config.DeviceConfig(compatible=("sim",)),
    slots=config.SlotsConfig(a={}, b={}),
    trust=config.TrustConfig(root=Path("/nowhere"), roles=("engineering",)),
    trial=config.TrialConfig(deadline=20),  # seconds; bounds the patience of the units
)


class BoardUpdater(LocalUpdater):
    """An image file holds the name of a release of the board; no address answers.

    Args:
        board: Runs already.
        config: As the command line read it.
        releases: By name.
        before: Called with the name of what is about to be done; may raise.
    """

    def __init__(
        self,
        board: SimulatedBoard,
        config: Config = NOWHERE,
        releases: dict[str, SmallImage] | None = None,
        before: Callable[[str], object] = lambda _: None,
    ) -> None:
        super().__init__(config)
        self._board, self._releases, self._before = board, releases or {}, before

    def engine(self) -> Engine:
        self._before("engine")
        return self._board.engine()

    def stream(self, source: str | int) -> ImageStream:
        if isinstance(source, str):
            raise TransportError("the server does not answer", code="connect", found=source, hint="try again later")
        return SmallStream(self._releases[os.read(source, 100).decode()])

    def head(self, url: str) -> Front:
        raise TransportError("the server does not answer", code="connect", found=url)

    def history(self, limit: int) -> list[JsonObject]:
        with self._record() as record:
            return [transaction.as_dict() for transaction in record.history(limit)]

    def log(self, after: int, since: str, limit: int) -> JsonObject:
        self._before("log")
        with self._record() as record:
            return rows_of(record, LogQuery(after, since, limit)).as_dict()

    def status(self) -> JsonObject:
        self._before("status")
        state = read_state(self._board.environment())
        with self._record() as record:
            current, history = record.current(), record.history(1)
            known = {name: record.slot(name) for name in SlotName}
            failed = {str(sequence): reason for sequence, reason in record.failed().items()}
            floors = stored.write(state.floors.highest(record.floors()))
        slots = {
            str(name): {
                "state": state.states[name],
                "running": self._board.running is name,
                "release": stored.write(slot.release) if (slot := known[name]) else None,
                "installed_at": slot.installed_at if slot else None,
            }
            for name in SlotName
        }
        return {
            "version": "0",
            "running": self._board.running,
            "state": current.state if current else "idle",
            "slots": slots,
            "floors": floors,
            "transaction": current.as_dict() if current else None,
            "last": history[0].as_dict() if history else None,
            "failed": failed,
            "environment": {"settled": True, "lost": False, "copies": []},
        }

    def _record(self) -> Record:
        """Beside the board's own, whose reads are counted and may fail."""
        if self._board.record_broken:
            raise DeviceError("the data partition is gone", code="record")
        return Record(self._board.data, lambda: "", read_only=True)


def board_host(board: SimulatedBoard) -> Host:
    """What the command line takes when it runs on the board: its units are root, its clock is the board's."""
    return Host(
        is_root=lambda: True,
        config=lambda _: NOWHERE,
        local=lambda found: BoardUpdater(board, found),
        monotonic=board.clock,
        pause=board.wait,
    )
