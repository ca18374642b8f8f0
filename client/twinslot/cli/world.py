"""What the command line asks of everything else: one seam, so that tests can put another world behind it.

Nothing heavy is imported before a verb needs it: `status` costs little more than the interpreter.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from twinslot.core.errors import DeviceError, Refusal, RefusedError

if TYPE_CHECKING:
    from twinslot.config.options import Config
    from twinslot.core.model import CheckResult
    from twinslot.core.progress import Observer
    from twinslot.core.transaction import Transaction
    from twinslot.engine.cancellation import Cancellation
    from twinslot.engine.engine import BootReport
    from twinslot.engine.install import InstallOptions
    from twinslot.queries.diagnosis import Diagnosis
    from twinslot.queries.preview import Preview

JsonObject = dict[str, Any]
Front = tuple[bytes, bytes]  # trust section and manifest


class Verbs(Protocol):
    """The engine's verbs but `install`, as `engine.Engine` has them; see there."""

    def activate(self, *, reboot: bool = ...) -> Transaction:
        """Arm what was written."""
        ...

    def boot(self) -> BootReport:
        """Find out what happened."""
        ...

    def check(self, observer: Observer = ...) -> Transaction | None:
        """Run the health checks."""
        ...

    def examine(self, observer: Observer = ...) -> tuple[CheckResult, ...]:
        """Run the health checks; nothing follows."""
        ...

    def commit(self, *, force: str = ..., if_trial: bool = ..., observer: Observer = ...) -> Transaction | None:
        """Keep the system on trial."""
        ...

    def rollback(self, *, reason: str = ..., reboot: bool = ...) -> Transaction:
        """Go back."""
        ...

    def cancel(self) -> Transaction:
        """Drop what waits."""
        ...


class ServiceClient(Protocol):
    """The service on the bus (`bus.client`). Transactions are JSON-ready, as `Transaction.as_dict`.

    Every method raises `TwinslotError`, of the service's family or `DeviceError` when the bus or service is away.
    """

    def install(
        self, source: str | int, options: JsonObject, observer: Observer, cancelled: Cancellation
    ) -> JsonObject:
        """Install from a URL or an open descriptor; `options` are the fields of `InstallOptions`.

        Waits for the end, also after `cancelled` was set: then it is a `CancelledError`, unless it was too late.
        """
        ...

    def commit(self, options: JsonObject, observer: Observer) -> JsonObject | None:
        """Keep the system on trial; `options`: `force`."""
        ...

    def rollback(self, options: JsonObject, observer: Observer) -> JsonObject:
        """Go back; `options`: `reason`, `reboot`."""
        ...

    def activate(self, options: JsonObject, observer: Observer) -> JsonObject:
        """Arm what was written; `options`: `reboot`."""
        ...

    def cancel(self) -> JsonObject | None:
        """Stop the job that runs, or drop what waits."""
        ...

    def log(self, after: int, since: str, limit: int) -> JsonObject:
        """Rows of the audit, as `engine.log.LogPage.as_dict`."""
        ...

    def close(self) -> None:
        """End the connection; a job goes on."""
        ...


class World(Protocol):
    """Everything outside of the command line."""

    def is_root(self) -> bool:
        """Whether this process may change the device by itself."""
        ...

    def config(self, root: str) -> Config:
        """The configuration below a directory."""
        ...

    def engine(self, config: Config) -> Verbs:
        """The engine in this process."""
        ...

    def install(
        self,
        config: Config,
        source: str | int,
        options: InstallOptions,
        observer: Observer,
        cancelled: Cancellation,
    ) -> Transaction:
        """`Engine.install` from a URL or an open descriptor, which the caller keeps and closes."""
        ...

    def service(self) -> ServiceClient:
        """A connection to the service, for the caller to close."""
        ...

    def status(self, config: Config) -> JsonObject:
        """`engine.report.status`."""
        ...

    def history(self, config: Config, limit: int) -> list[JsonObject]:
        """`engine.report.history`."""
        ...

    def doctor(self, config: Config) -> Diagnosis:
        """`engine.doctor.doctor`."""
        ...

    def log(self, config: Config, after: int, since: str, limit: int) -> JsonObject:
        """`engine.log.read_log`, JSON-ready; 0 as limit: all."""
        ...

    def head(self, config: Config, url: str) -> Front:
        """`engine.preview.fetch_head`."""
        ...

    def preview(self, config: Config, front: Front) -> Preview:
        """`engine.preview.preview`."""
        ...

    def forecast(self, config: Config, source: str | int, options: InstallOptions) -> JsonObject:
        """`engine.forecast.forecast_here`."""
        ...

    def serve(self, config: Config) -> int:
        """Be the service until it is idle; returns an exit status."""
        ...

    def monotonic(self) -> float:
        """Seconds that only rise."""
        ...

    def pause(self, seconds: float) -> None:
        """Wait for a fault to pass."""
        ...


def require_root(
    world: World,
    why: str = "only root may change the device in this process",
    hint: str = "use 'sudo', or leave out '--no-service'",
) -> None:
    """Refuse early, instead of failing at the first device.

    Raises:
        RefusedError: `refused.not-root`.
    """
    if not world.is_root():
        raise RefusedError(Refusal("not-root", why, hint=hint))


class RealWorld:
    """Implements `World` with this machine."""

    def is_root(self) -> bool:
        """See `World`."""
        return os.geteuid() == 0

    def config(self, root: str) -> Config:
        """See `World`."""
        from twinslot.config.options import load

        return load(root)

    def engine(self, config: Config) -> Verbs:
        """See `World`."""
        from twinslot.engine.assemble import open_engine

        return open_engine(config, service_workers=False)

    def install(
        self,
        config: Config,
        source: str | int,
        options: InstallOptions,
        observer: Observer,
        cancelled: Cancellation,
    ) -> Transaction:
        """See `World`."""
        from twinslot.engine.assemble import open_engine, open_stream
        from twinslot.system.priority import lower_priority

        lower_priority(config.install.nice, config.install.io_priority)
        engine = open_engine(config, service_workers=False)  # first: it may refuse without starting a worker
        stream = open_stream(config, source, service_workers=False)
        with cancelled.ending(stream):  # also while the engine waits for lock and environment
            if cancelled.is_set():
                stream.close()
            return engine.install(stream, options, observer, cancelled)

    def service(self) -> ServiceClient:
        """See `World`."""
        with _bus_library():
            from twinslot.bus.client.client import connect
        return connect()

    def status(self, config: Config) -> JsonObject:
        """See `World`."""
        from twinslot.queries import status as report

        return report.status(config)

    def history(self, config: Config, limit: int) -> list[JsonObject]:
        """See `World`."""
        from twinslot.queries import status as report

        return report.history(config, limit)

    def doctor(self, config: Config) -> Diagnosis:
        """See `World`."""
        from twinslot.queries.doctor import doctor

        return doctor(config)

    def log(self, config: Config, after: int, since: str, limit: int) -> JsonObject:
        """See `World`."""
        from twinslot.queries.log import LogQuery, read_log

        return read_log(config, LogQuery(after, since, limit)).as_dict()

    def head(self, config: Config, url: str) -> Front:
        """See `World`."""
        from twinslot.queries.preview import fetch_head

        return fetch_head(config, url)

    def preview(self, config: Config, front: Front) -> Preview:
        """See `World`."""
        from twinslot.queries.preview import preview

        return preview(config, *front)

    def forecast(self, config: Config, source: str | int, options: InstallOptions) -> JsonObject:
        """See `World`."""
        from twinslot.queries.forecast import forecast_here

        return forecast_here(config, source, options).as_dict()

    def serve(self, config: Config) -> int:
        """See `World`."""
        from twinslot.service import run

        with _bus_library():
            return run(config)

    def monotonic(self) -> float:
        """See `World`."""
        return time.monotonic()

    def pause(self, seconds: float) -> None:
        """See `World`."""
        time.sleep(seconds)


@contextlib.contextmanager
def _bus_library() -> Iterator[None]:
    """A rescue system may lack the library of the bus.

    Raises:
        DeviceError: `device.bus`.
    """
    try:
        yield
    except ModuleNotFoundError as e:
        hint = "install python3-dbus-next, or use '--no-service'"
        raise DeviceError("the bus cannot be used", code="bus", found=f"no library '{e.name}'", hint=hint) from e
