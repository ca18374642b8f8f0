"""What a device can be asked, whoever asks: the one interface between the surfaces and the engine.

`Updater` is what any caller may ask, in this process (`LocalUpdater`) or over the bus (`bus.client.BusUpdater`).
`DeviceUpdater` adds what takes the files, devices or health checks of this machine. The command line and the service
take these and do not know the engine.

Nothing heavy is imported before a verb needs it: `status` costs little more than the interpreter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from twinslot.config.options import Config
    from twinslot.core.manifest import Attachment
    from twinslot.core.model import CheckResult
    from twinslot.core.origin import Origin
    from twinslot.core.progress import Observer
    from twinslot.core.replay import UpdateAccount
    from twinslot.core.requests import ActivateOptions, CommitOptions, InstallOptions, RollbackOptions
    from twinslot.core.stream import ImageStream
    from twinslot.core.transaction import Transaction
    from twinslot.engine.engine import BootReport, Engine
    from twinslot.engine.fallback import ScrubReport
    from twinslot.engine.poll import PollReport
    from twinslot.engine.report import ReportRun
    from twinslot.engine.sealing import SealReport
    from twinslot.policy.held import HeldInhibitors
    from twinslot.queries.diagnosis import Diagnosis
    from twinslot.queries.preview import Preview
    from twinslot.system.cancellation import Cancellation

JsonObject = dict[str, Any]
Front = tuple[bytes, bytes]  # trust section and manifest


class Updater(Protocol):
    """A device, asked from anywhere. All methods block and raise `TwinslotError`; see `engine.Engine` for the verbs."""

    def status(self) -> JsonObject:
        """What `twinslot status` prints: `queries.status.status`."""
        ...

    def history(self, limit: int) -> list[JsonObject]:
        """At most so many past updates, newest first, each as `Transaction.as_dict`."""
        ...

    def log(self, after: int, since: str, limit: int) -> JsonObject:
        """Rows of the audit as `queries.log.LogPage.as_dict`; the arguments are those of `queries.log.LogQuery`."""
        ...

    def running_release(self) -> JsonObject:
        """What came with the running release: `queries.running.running_release`."""
        ...

    def running_attachment(self, wanted: str) -> tuple[Attachment, bytes]:
        """One attachment of the running release, by name or type."""
        ...

    def attest(self, nonce: str) -> JsonObject:
        """What the device says of itself, signed: `queries.attest.attest`. `nonce`: of whoever asks, hex, or empty."""
        ...

    def install(
        self,
        source: str | int,
        options: InstallOptions,
        observer: Observer,
        cancelled: Cancellation | None = None,
    ) -> Transaction:
        """Install from a URL or an open descriptor, which stays the caller's to close.

        Args:
            source: URL or descriptor.
            options: See there.
            observer: Is given the progress.
            cancelled: Set from another thread to stop, even before this begins. Then this waits for the end all the
                same: a `CancelledError`, unless it was too late.
        """
        ...

    def activate(self, options: ActivateOptions, observer: Observer) -> Transaction:
        """Arm what was written."""
        ...

    def commit(self, options: CommitOptions, observer: Observer) -> Transaction | None:
        """Keep the system on trial; None: nothing was on trial, and that was fine."""
        ...

    def rollback(self, options: RollbackOptions, observer: Observer) -> Transaction:
        """Leave the trial, or try the other slot again."""
        ...

    def cancel(self) -> Transaction | None:
        """Drop what waits; None: an install that runs was stopped."""
        ...

    def approve(self, release: str) -> Transaction:
        """Agree to the update of this name that waits."""
        ...

    def hold(self, seconds: float) -> Transaction:
        """Put the update that waits off for so long, as far as the device allows."""
        ...

    def inhibit(self, what: str, who: str, why: str) -> int:
        """Say that the device is in use, until the descriptor that this returns and all copies of it are closed.

        Args:
            what: What must not happen: words of `core.inhibitors.WORDS` with colons between; empty: `restart`.
            who: Name of who uses it, for people.
            why: A clause, for people.
        """
        ...

    def decline(self, action: str, why: str) -> None:
        """Leave a row of a server's order that cannot be carried out as it stands.

        Args:
            action: Name of the order, as for `InstallOptions.action`.
            why: A sentence.

        Raises:
            RefusedError: `refused.order`: always, since that is what the row says.
        """
        ...

    def close(self) -> None:
        """Give back what the way to the device holds; a job that runs goes on."""
        ...


class DeviceUpdater(Updater, Protocol):
    """This device, asked by a process that runs on it."""

    def poll(self, *, if_due: bool, service_workers: bool) -> PollReport:
        """Ask the repository for news: `engine.poll.poll`.

        Args:
            if_due: See there.
            service_workers: Workers behind systemd's sockets; otherwise they are started as children.
        """
        ...

    def scrub(self, observer: Observer) -> ScrubReport:
        """Read the slot to go back to whole, at low priority."""
        ...

    def report(self, *, if_due: bool, service_workers: bool) -> ReportRun:
        """Tell the maker what is new: `engine.report.report`. Args as `poll`."""
        ...

    def report_to(self, directory: Path) -> ReportRun:
        """Write what the audit has into a directory: `engine.report.report_to`."""
        ...

    def metrics(self) -> str:
        """What `twinslot metrics` prints: `queries.metrics.metrics`."""
        ...

    def metrics_to(self, path: Path) -> None:
        """Replace a file by it, whole or not at all."""
        ...

    def doctor(self) -> Diagnosis:
        """All that may be wrong with what updates depend on."""
        ...

    def device_key(self, *, make: bool) -> JsonObject:
        """The public part of this device's own key as `PublicPart.as_dict`, and whether it was `made` by this call."""
        ...

    def decryption_key(self, *, make: bool) -> JsonObject:
        """The public half of the key that opens encrypted images, and whether it was `made` by this call."""
        ...

    def retire(self, reason: str) -> Mapping[str, Any]:
        """Take the device out of service; the signed receipt."""
        ...

    def explain(self, transaction: str) -> UpdateAccount:
        """One update, replayed from its rows by the table: `queries.explain.explain`."""
        ...

    def export_audit(self, path: Path | None) -> bytes:
        """Write the audit with its signed end to a file; None: give it back instead."""
        ...

    def seal_audit(self) -> SealReport:
        """Have the device's key vouch for the rows up to now."""
        ...

    def head(self, url: str) -> Front:
        """The beginning of an image behind a URL."""
        ...

    def preview(self, front: Front) -> Preview:
        """Whether this device would take the image."""
        ...

    def forecast(self, source: str | int, options: InstallOptions) -> JsonObject:
        """What an install would fetch: `queries.forecast.Forecast.as_dict`."""
        ...

    def go_on(self) -> Transaction | None:
        """Ask policy again for an update that waits; None: nothing is under way."""
        ...

    def watch(self) -> tuple[CheckResult, ...]:
        """Look at the signals of the release that was committed last; empty: nothing is watched."""
        ...

    def boot(self) -> BootReport:
        """After each start: find out what happened, repair, record."""
        ...

    def check(self, observer: Observer) -> Transaction | None:
        """Run the health checks; on trial they decide. None: nothing is on trial, and none was run."""
        ...

    def examine(self, observer: Observer) -> tuple[CheckResult, ...]:
        """Run the health checks; nothing follows."""
        ...


class LocalUpdater:
    """Implements `DeviceUpdater` with the engine of this process. Holds nothing between calls.

    Args:
        config: Of this device.
        service_workers: Workers behind systemd's sockets; otherwise they are started as children.
        origin: Who asks; None: whoever started this process.
    """

    def __init__(self, config: Config, *, service_workers: bool = False, origin: Origin | None = None) -> None:
        self.config = config
        self._service_workers, self._origin = service_workers, origin

    def engine(self) -> Engine:
        """The engine on this machine; tests and the lab give one on edges of their own."""
        from twinslot.engine.assemble import open_engine

        return open_engine(self.config, service_workers=self._service_workers, origin=self._origin)

    def stream(self, source: str | int) -> ImageStream:
        """The image, through a worker."""
        from twinslot.engine.assemble import open_stream

        return open_stream(self.config, source, service_workers=self._service_workers)

    def status(self) -> JsonObject:
        """See `Updater`."""
        from twinslot.queries.status import status

        return status(self.config)

    def history(self, limit: int) -> list[JsonObject]:
        """See `Updater`."""
        from twinslot.queries.status import history

        return history(self.config, limit)

    def log(self, after: int, since: str, limit: int) -> JsonObject:
        """See `Updater`."""
        from twinslot.queries.log import LogQuery, read_log

        return read_log(self.config, LogQuery(after, since, limit)).as_dict()

    def attest(self, nonce: str) -> JsonObject:
        """See `Updater`."""
        from twinslot.queries.attest import attest

        return attest(self.config, nonce)

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

        lower_priority(self.config.install.nice, self.config.install.io_priority)
        engine = self.engine()  # first: it may refuse without starting a worker
        stream = self.stream(source)
        cancelled = cancelled or Cancellation()
        with cancelled.ending(stream):  # also while the engine waits for lock and environment
            if cancelled.is_set():
                stream.close()
            return engine.install(stream, options, observer, cancelled)

    def activate(self, options: ActivateOptions, observer: Observer) -> Transaction:  # noqa: ARG002 - has none
        """See `Updater`."""
        return self.engine().activate(reboot=options.reboot)

    def commit(self, options: CommitOptions, observer: Observer) -> Transaction | None:
        """See `Updater`."""
        return self.engine().commit(force=options.force, if_trial=options.if_trial, observer=observer)

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

    def poll(self, *, if_due: bool, service_workers: bool) -> PollReport:
        """See `DeviceUpdater`."""
        from twinslot.engine.poll import poll
        from twinslot.worker import launch

        get_worker = launch.connect if service_workers else launch.start
        return poll(self.config, get_worker, self.engine, if_due=if_due)

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

    def metrics(self) -> str:
        """See `DeviceUpdater`."""
        from twinslot.queries.metrics import metrics

        return metrics(self.config)

    def metrics_to(self, path: Path) -> None:
        """See `DeviceUpdater`."""
        from twinslot.engine.report import replace_file

        replace_file(path, self.metrics().encode())

    def doctor(self) -> Diagnosis:
        """See `DeviceUpdater`."""
        from twinslot.queries.doctor import doctor

        return doctor(self.config)

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

    def running_release(self) -> JsonObject:
        """See `Updater`."""
        from twinslot.queries.running import running_release

        return running_release(self.config)

    def running_attachment(self, wanted: str) -> tuple[Attachment, bytes]:
        """See `Updater`."""
        from twinslot.queries.running import running_attachment

        return running_attachment(self.config, wanted)

    def retire(self, reason: str) -> Mapping[str, Any]:
        """See `DeviceUpdater`."""
        from twinslot.engine.device_key import retire_plan, this_device_key

        return self.engine().retire(retire_plan(self.config), lambda: this_device_key(self.config), reason)

    def explain(self, transaction: str) -> UpdateAccount:
        """See `DeviceUpdater`."""
        from twinslot.queries.explain import explain

        return explain(self.config, transaction)

    def export_audit(self, path: Path | None) -> bytes:
        """See `DeviceUpdater`."""
        from twinslot.queries.audit import export_audit, export_audit_to

        if path is None:
            return export_audit(self.config)
        export_audit_to(self.config, path)
        return b""

    def seal_audit(self) -> SealReport:
        """See `DeviceUpdater`."""
        from twinslot.engine.device_key import this_device_key

        return self.engine().seal(this_device_key(self.config))

    def head(self, url: str) -> Front:
        """See `DeviceUpdater`."""
        from twinslot.queries.preview import fetch_head

        return fetch_head(self.config, url)

    def preview(self, front: Front) -> Preview:
        """See `DeviceUpdater`."""
        from twinslot.queries.preview import preview

        return preview(self.config, *front)

    def forecast(self, source: str | int, options: InstallOptions) -> JsonObject:
        """See `DeviceUpdater`."""
        from twinslot.queries.forecast import forecast_here

        return forecast_here(self.config, source, options).as_dict()

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


class ServiceUpdater(LocalUpdater):
    """As `LocalUpdater`, in the process of the service.

    That process reads what workers send, so it never has the device's key (S22): what needs it is asked of another.

    Args:
        config: Of this device.
        config_root: Below which it was read.
        origin: Who asks.
    """

    def __init__(self, config: Config, config_root: str, origin: Origin) -> None:
        super().__init__(config, service_workers=True, origin=origin)
        self._config_root = config_root

    # keeps: S22
    def attest(self, nonce: str) -> JsonObject:
        """See `Updater`."""
        from twinslot.system.apart import answer_of

        return answer_of("attest", *(("--nonce", nonce) if nonce else ()), config_root=self._config_root)
