"""What a device is asked that may change it, in this process, with its engine.

Nothing heavy is imported before a verb needs it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from twinslot.app.queries import LocalQueries

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from twinslot.app.updater import JsonObject
    from twinslot.config.options import Config
    from twinslot.core.model import CheckResult
    from twinslot.core.origin import Origin
    from twinslot.core.progress import Observer
    from twinslot.core.requests import ActivateOptions, CommitOptions, InstallOptions, RollbackOptions
    from twinslot.core.stream import ImageStream
    from twinslot.core.transaction import Transaction
    from twinslot.engine.engine import BootReport, Engine
    from twinslot.engine.fallback import ScrubReport
    from twinslot.engine.poll import PollReport
    from twinslot.engine.report import ReportRun
    from twinslot.engine.sealing import SealReport
    from twinslot.policy.held import HeldInhibitors
    from twinslot.system.cancellation import Cancellation


class LocalUpdater(LocalQueries):
    """Implements `DeviceUpdater` with the engine of this process. Holds nothing between calls.

    Args:
        config: Of this device.
        service_workers: Workers behind systemd's sockets; otherwise they are started as children.
        origin: Who asks; None: whoever started this process.
    """

    def __init__(self, config: Config, *, service_workers: bool = False, origin: Origin | None = None) -> None:
        super().__init__(config)
        self._service_workers, self._origin = service_workers, origin

    def engine(self) -> Engine:
        """The engine on this machine; tests and the lab give one on edges of their own."""
        from twinslot.engine.assemble import open_engine

        return open_engine(self.config, service_workers=self._service_workers, origin=self._origin)

    def stream(self, source: str | int) -> ImageStream:
        """The image, through a worker; the trust process, which judges its head, starts beside it.

        Where systemd starts the workers the engine was loaded long before, and asks for it when it comes to that.
        """
        from twinslot.engine.streams import open_stream
        from twinslot.worker import launch

        if not self._service_workers:
            launch.start_ahead("verify")
        return open_stream(self.config, source, service_workers=self._service_workers)

    def install(
        self,
        source: str | int,
        options: InstallOptions,
        observer: Observer,
        cancelled: Cancellation | None = None,
    ) -> Transaction:
        """See `Updater`; lowers the priority of this thread."""
        from twinslot.system.cancellation import Cancellation
        from twinslot.system.priority import lower_priority
        from twinslot.worker import launch

        lower_priority(self.config.install.nice, self.config.install.io_priority)
        cancelled = cancelled or Cancellation()
        try:
            stream = self.stream(source)  # first: the workers start while the engine is still being loaded
            with contextlib.closing(stream), cancelled.ending(stream):  # also while it waits for lock and environment
                engine = self.engine()
                if cancelled.is_set():
                    stream.close()
                return engine.install(stream, options, observer, cancelled)
        finally:
            launch.end_ahead()

    def activate(self, options: ActivateOptions, observer: Observer) -> Transaction:  # noqa: ARG002 - has none
        """See `Updater`."""
        return self.engine().activate(reboot=options.reboot, outside_window=options.outside_window)

    def commit(self, options: CommitOptions, observer: Observer) -> Transaction | None:
        """See `Updater`. The unit's sandbox has no room for the product's checks: twinslot-check.service runs them."""
        return self.engine().commit(
            force=options.force, if_trial=options.if_trial, may_check=not options.if_trial, observer=observer
        )

    def rollback(self, options: RollbackOptions, observer: Observer) -> Transaction:  # noqa: ARG002 - has none
        """See `Updater`."""
        return self.engine().rollback(reason=options.reason, reboot=options.reboot)

    def cancel(self) -> Transaction:
        """See `Updater`."""
        return self.engine().cancel()

    def approve(self, release: str) -> Transaction:
        """See `Updater`."""
        return self.engine().approve(release)

    def hold(self, seconds: float) -> Transaction:
        """See `Updater`."""
        return self.engine().hold(seconds)

    def inhibit(self, what: str, who: str, why: str) -> int:
        """See `Updater`."""
        from twinslot.core.inhibitors import asked_for
        from twinslot.system.caller import this_process

        return self.held().hold(asked_for(what, who, why), self._origin or this_process())

    def held(self) -> HeldInhibitors:
        """Inhibitors of this machine; tests give others."""
        from twinslot.policy.held import HeldInhibitors

        return HeldInhibitors()

    def decline(self, action: str, why: str) -> None:
        """See `Updater`."""
        self.engine().decline(action, why)

    def close(self) -> None:
        """Holds nothing."""

    def poll(self, *, if_due: bool, service_workers: bool, directory: Path | None = None) -> PollReport:
        """See `DeviceUpdater`."""
        from twinslot.engine.poll import poll
        from twinslot.worker import launch

        get_worker = launch.connect if service_workers else launch.start
        return poll(self.config, get_worker, self.engine, if_due=if_due, directory=directory)

    def scrub(self, observer: Observer) -> ScrubReport:
        """See `DeviceUpdater`; lowers the priority of this thread."""
        from twinslot.system.priority import lower_priority

        lower_priority(self.config.install.nice, self.config.install.io_priority)
        return self.engine().scrub(observer)

    def report(self, *, if_due: bool, service_workers: bool) -> ReportRun:
        """See `DeviceUpdater`."""
        from twinslot.engine.report import report
        from twinslot.worker import launch

        return report(self.config, launch.connect if service_workers else launch.start, if_due=if_due)

    def report_to(self, directory: Path) -> ReportRun:
        """See `DeviceUpdater`."""
        from twinslot.engine.report import report_to

        return report_to(self.config, directory)

    def metrics_to(self, path: Path) -> None:
        """See `DeviceUpdater`."""
        from twinslot.engine.report import write_figures

        write_figures(path, self.metrics().encode())

    def device_key(self, *, make: bool) -> JsonObject:
        """See `DeviceUpdater`."""
        if make:
            from twinslot.engine.device_key import made_device_key

            return made_device_key(self.config, self._origin)
        from twinslot.queries.device_key import device_key

        return device_key(self.config)

    def decryption_key(self, *, make: bool) -> JsonObject:
        """See `DeviceUpdater`."""
        from twinslot.engine.decryption_key import make_decryption_key
        from twinslot.queries.decryption_key import public_key

        made = make and make_decryption_key(self.config)
        return public_key(self.config) | {"made": made}

    def retire(self, reason: str) -> Mapping[str, Any]:
        """See `DeviceUpdater`."""
        from twinslot.engine.device_key import retire_plan, this_device_key

        return self.engine().retire(retire_plan(self.config), lambda: this_device_key(self.config), reason)

    def seal_audit(self) -> SealReport:
        """See `DeviceUpdater`."""
        from twinslot.engine.device_key import this_device_key

        return self.engine().seal(this_device_key(self.config))

    def go_on(self) -> Transaction | None:
        """See `DeviceUpdater`."""
        return self.engine().go_on()

    def watch(self) -> tuple[CheckResult, ...]:
        """See `DeviceUpdater`."""
        return self.engine().watch()

    def boot(self) -> BootReport:
        """See `DeviceUpdater`."""
        return self.engine().boot()

    def check(self, observer: Observer) -> Transaction | None:
        """See `DeviceUpdater`."""
        return self.engine().check(observer)

    def examine(self, observer: Observer) -> tuple[CheckResult, ...]:
        """See `DeviceUpdater`."""
        return self.engine().examine(observer)
