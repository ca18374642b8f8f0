"""The end of the audit in the boot environment: what is written there, and whether the rows still fit it (S25)."""

from __future__ import annotations

from twinslot.core.audit_chain import ChainEnd
from twinslot.core.boot_variables import BootState
from twinslot.core.errors import DeviceError
from twinslot.core.events import AuditEvent
from twinslot.engine.announce import Announcer
from twinslot.storage.record.record import Record


def audit_end(announcer: Announcer) -> ChainEnd | None:
    """Where the audit ends now; None: that cannot be told, and the anchor stays.

    Whatever stands in the record, or is not there, a decision is written (S12).
    """
    try:
        end = announcer.record.audit_end() if announcer.record else None
        return end and ChainEnd.parse(end.text)
    except DeviceError as e:
        announcer.tolerated(e)
        return None


# keeps: S25
def tell_break(announcer: Announcer, state: BootState | None) -> None:
    """Announce once that rows which the boot environment knows of are not there: the next decision anchors others.

    Raises:
        DeviceError: The record cannot be read.
    """
    record, anchor = announcer.record, state.anchor if state else None
    if record is None or anchor is None:
        return
    kind = break_of(record, anchor)
    if kind and record.told_break() != anchor.text:
        end = record.audit_end()
        if announcer.note(AuditEvent.AUDIT_BROKEN, None, anchor=anchor.text, end=end.text, kind=kind):
            record.keep_break(anchor.text)


# keeps: S25
def break_of(record: Record, anchor: ChainEnd) -> str:
    """What was done to the rows that an anchor stands for, as event `audit-broken` has it; empty: they are there.

    Raises:
        DeviceError: The record cannot be read.
    """
    start, end = record.audit_start(), record.audit_end()
    if anchor.number < start.number:
        return ""  # in what the checkpoint stands for
    found = start.hash if anchor.number == start.number else record.audit_hash(anchor.number)
    if found == anchor.hash:
        return ""
    if end.number == 0 or record.fresh:
        return "begun-anew"
    return "cut-off" if end.number < anchor.number else "rewritten"
