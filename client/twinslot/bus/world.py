"""What the service asks of everything else: one seam, so that tests can put another world behind it."""

from __future__ import annotations

from typing import Any, Protocol

from twinslot.config.options import Config
from twinslot.core.origin import Origin
from twinslot.core.progress import Observer
from twinslot.core.transaction import Transaction
from twinslot.engine.cancellation import Cancellation
from twinslot.engine.install import InstallOptions

JsonObject = dict[str, Any]


class Verbs(Protocol):
    """The verbs that the bus offers, as `engine.Engine` has them. Blocking; one at a time."""

    def activate(self, *, reboot: bool) -> Transaction:
        """Arm what was written."""
        ...

    def commit(self, *, force: str, if_trial: bool, observer: Observer) -> Transaction | None:
        """Keep the system on trial."""
        ...

    def rollback(self, *, reason: str, reboot: bool) -> Transaction:
        """Go back."""
        ...

    def cancel(self) -> Transaction:
        """Drop what waits."""
        ...


class World(Protocol):
    """Everything outside of the bus. All methods block; all may raise `TwinslotError`."""

    def engine(self, origin: Origin) -> Verbs:
        """The engine for somebody; opened anew for each job, it holds nothing between them."""
        ...

    def install(
        self,
        source: str | int,
        options: InstallOptions,
        observer: Observer,
        cancelled: Cancellation,
        origin: Origin,
    ) -> Transaction:
        """Install from a URL or an open descriptor, which stays the caller's to close.

        `cancelled` may be set at any time from another thread, even before this begins.
        """
        ...

    def install_defaults(self) -> InstallOptions:
        """What holds for options that a caller leaves out."""
        ...

    def status(self) -> JsonObject:
        """`engine.report.status`."""
        ...

    def history(self, limit: int) -> list[JsonObject]:
        """`engine.report.history`."""
        ...

    def log(self, after: int, since: str, limit: int) -> JsonObject:
        """`engine.log.read_log`; the chain is checked unless it goes on after a row."""
        ...


class RealWorld:
    """Implements `World` with this machine and with the workers behind systemd's sockets."""

    def __init__(self, config: Config) -> None:
        self._config = config

    def engine(self, origin: Origin) -> Verbs:
        """See `World`."""
        from twinslot.engine.assemble import open_engine

        return open_engine(self._config, service_workers=True, origin=origin)

    def install(
        self,
        source: str | int,
        options: InstallOptions,
        observer: Observer,
        cancelled: Cancellation,
        origin: Origin,
    ) -> Transaction:
        """See `World`."""
        from twinslot.engine.assemble import open_engine, open_stream
        from twinslot.system.priority import lower_priority

        lower_priority(self._config.install.nice, self._config.install.io_priority)
        # First the engine: it may refuse without starting a worker.
        engine = open_engine(self._config, service_workers=True, origin=origin)
        stream = open_stream(self._config, source, service_workers=True)
        with cancelled.ending(stream):  # also while the engine waits for lock and environment
            if cancelled.is_set():
                stream.close()
            return engine.install(stream, options, observer, cancelled)

    def install_defaults(self) -> InstallOptions:
        """See `World`."""
        return InstallOptions(reboot=self._config.install.reboot == "automatic")

    def status(self) -> JsonObject:
        """See `World`."""
        from twinslot.queries import status as report

        return report.status(self._config)

    def history(self, limit: int) -> list[JsonObject]:
        """See `World`."""
        from twinslot.queries import status as report

        return report.history(self._config, limit)

    def log(self, after: int, since: str, limit: int) -> JsonObject:
        """See `World`."""
        from twinslot.queries.log import LogQuery, read_log

        return read_log(self._config, LogQuery(after, since, limit)).as_dict()
