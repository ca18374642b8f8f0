"""Sealing the audit with the device's key, and keeping it bounded: what `twinslot audit seal` does.

The key is asked without the lock, since a token may take its time: what was signed is stored only where it still is
the end. Of all processes that write rows this one alone has the key, and it parses nothing that came from outside
(S22).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from twinslot.core.audit_statements import CHECKPOINT, SEAL, end_statement
from twinslot.core.envelope import sign
from twinslot.core.events import AuditEvent
from twinslot.engine.edges import Device
from twinslot.engine.recover import recovered

if TYPE_CHECKING:  # whoever needs no signature loads no library for it
    from twinslot.trust.device_key import DeviceKey

LIMIT: Final = 4 << 20  # bytes of rows, some 8000 of them: 500 updates with all that belongs to them
KEPT: Final = 2 << 20  # bytes that stay of more; so one pruning in 250 updates
TRIES: Final = 3  # each finds a new end only if another process wrote a row meanwhile


@dataclass(frozen=True, slots=True)
class SealReport:
    """What was done.

    Attributes:
        sealed: Number of the last row that the key vouches for from now on; None: the last row is a seal already.
        pruned: Number of the last row that was dropped; None: none was.
    """

    sealed: int | None
    pruned: int | None


# keeps: S25
def seal(device: Device, key: DeviceKey, limit: int = LIMIT, keep: int = KEPT) -> SealReport:
    """Vouch for the rows up to now, and drop the oldest ones of an audit that grew too large.

    A power cut leaves the chain without the seal, or with it; pruned with its checkpoint, or not at all.

    Args:
        device: The edges.
        key: The device's own.
        limit: Bytes of rows from which on some are dropped.
        keep: Bytes that stay then.

    Raises:
        DeviceError: The record cannot be used, or the key cannot sign.
    """
    sealed = next((number for _ in range(TRIES) if (number := _sealed(device, key)) is not None), None)
    return SealReport(sealed or None, _pruned(device, key, limit, keep))


def _sealed(device: Device, key: DeviceKey) -> int | None:
    """Number of the row; 0: nothing is new; None: another process wrote a row meanwhile."""
    with recovered(device, "seal") as session:
        end = session.record.audit_end()
        if end.number == 0 or session.record.last_event() == AuditEvent.SEALED:
            return 0
    signed = sign(SEAL, end_statement(end), key.public, key.sign)
    with recovered(device, "seal") as session:
        if session.record.audit_end() != end:
            return None
        fields = {"seal": signed.as_dict(), "fingerprint": key.public.fingerprint}
        session.update.announcer.announce(AuditEvent.SEALED, None, **fields)
    return end.number


def _pruned(device: Device, key: DeviceKey, limit: int, keep: int) -> int | None:
    with recovered(device, "seal") as session:
        too_large = session.record.audit_bytes() > limit
        through = session.record.row_to_prune_to(keep) if too_large else None
    if through is None:
        return None
    signed = sign(CHECKPOINT, end_statement(through), key.public, key.sign)
    with recovered(device, "seal") as session:
        record = session.record
        fields = {"through": through.text, "fingerprint": key.public.fingerprint}
        session.update.announcer.announce_stored_by(
            lambda event, **detail: record.prune_audit(signed, event, **detail), AuditEvent.AUDIT_PRUNED, **fields
        )
    return through.number
