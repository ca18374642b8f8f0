"""What a device is asked that changes nothing, in this process.

Nothing heavy is imported before a query needs it: `status` costs little more than the interpreter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from twinslot.app.updater import Front, JsonObject
    from twinslot.config.options import Config
    from twinslot.core.manifest import Attachment
    from twinslot.core.replay import UpdateAccount
    from twinslot.core.requests import InstallOptions
    from twinslot.queries.diagnosis import Diagnosis
    from twinslot.queries.preview import Preview


class LocalQueries:
    """The part of `DeviceUpdater` that looks, in this process: nothing is locked, repaired or written (S26).

    Args:
        config: Of this device.
    """

    def __init__(self, config: Config) -> None:
        self.config = config

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

    def metrics(self) -> str:
        """See `DeviceUpdater`."""
        from twinslot.queries.metrics import metrics

        return metrics(self.config)

    def doctor(self) -> Diagnosis:
        """See `DeviceUpdater`."""
        from twinslot.queries.doctor import doctor

        return doctor(self.config)

    def running_release(self) -> JsonObject:
        """See `Updater`."""
        from twinslot.queries.running import running_release

        return running_release(self.config)

    def running_attachment(self, wanted: str) -> tuple[Attachment, bytes]:
        """See `Updater`."""
        from twinslot.queries.running import running_attachment

        return running_attachment(self.config, wanted)

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

    def head(self, url: str) -> Front:
        """See `DeviceUpdater`."""
        from twinslot.queries.preview import fetch_head

        return fetch_head(self.config, url)

    def attachment(self, url: str, wanted: str) -> tuple[Front, bytes]:
        """See `DeviceUpdater`."""
        from twinslot.queries.preview import fetch_attachment

        return fetch_attachment(self.config, url, wanted)

    def waiting_release(self) -> JsonObject:
        """See `Updater`."""
        from twinslot.queries.running import waiting_release

        return waiting_release(self.config)

    def waiting_attachment(self, wanted: str) -> tuple[Attachment, bytes]:
        """See `Updater`."""
        from twinslot.queries.running import waiting_attachment

        return waiting_attachment(self.config, wanted)

    def preview(self, front: Front) -> Preview:
        """See `DeviceUpdater`."""
        from twinslot.queries.preview import preview

        return preview(self.config, *front)

    def forecast(self, source: str | int, options: InstallOptions) -> JsonObject:
        """See `DeviceUpdater`."""
        from twinslot.queries.forecast import forecast_here

        return forecast_here(self.config, source, options).as_dict()
