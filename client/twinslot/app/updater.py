"""What a device can be asked, whoever asks.

`Updater` is what any caller may ask, in this process (`local.LocalUpdater`) or over the bus (`bus.client.BusUpdater`).
`DeviceUpdater` adds what takes the files, devices or health checks of this machine. The command line and the service
take these and do not know the engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from twinslot.core.manifest import Attachment
    from twinslot.core.model import CheckResult
    from twinslot.core.progress import Observer
    from twinslot.core.replay import UpdateAccount
    from twinslot.core.requests import ActivateOptions, CommitOptions, InstallOptions, RollbackOptions
    from twinslot.core.transaction import Transaction
    from twinslot.engine.engine import BootReport
    from twinslot.engine.fallback import ScrubReport
    from twinslot.engine.poll import PollReport
    from twinslot.engine.report import ReportRun
    from twinslot.engine.sealing import SealReport
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

    def waiting_release(self) -> JsonObject:
        """What came with the update that waits: `queries.running.waiting_release`."""
        ...

    def waiting_attachment(self, wanted: str) -> tuple[Attachment, bytes]:
        """One attachment of it, by name or type."""
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

    def poll(self, *, if_due: bool, service_workers: bool, directory: Path | None = None) -> PollReport:
        """Ask the repository for news: `engine.poll.poll`.

        Args:
            if_due: See there.
            directory: See there.
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

    def attachment(self, url: str, wanted: str) -> tuple[Front, bytes]:
        """The same, and one attachment, by name or type: `queries.preview.fetch_attachment`."""
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
