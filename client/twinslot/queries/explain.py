"""`explain`: one update, replayed from its rows by the table. Changes nothing (S26)."""

from __future__ import annotations

from twinslot.config.options import Config
from twinslot.core.audit_explain import account_of
from twinslot.core.replay import UpdateAccount
from twinslot.storage.record.record import Record


def explain(config: Config, transaction: str) -> UpdateAccount:
    """Replay an update of this device. Only root may.

    Args:
        config: Of this device.
        transaction: Its id, the beginning of it, or `last`.

    Raises:
        RefusedError: `refused.transaction-unknown`.
        DeviceError: There is no record, or it cannot be read.
    """
    with Record(config.record.directory, lambda: "", read_only=True) as record:
        _, rows = record.snapshot()
    return account_of(rows, transaction)
