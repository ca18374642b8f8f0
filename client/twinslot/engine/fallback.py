"""The way back is proven ahead of time: `scrub` reads the other slot whole, and each start of a kept system is noted.

Reading takes no lock, so that nothing that decides waits for it. What was found is stored under the lock, and only of a
slot that is still the one that was read.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Final

from twinslot.core.errors import DeviceError, Refusal, RefusedError
from twinslot.core.events import AuditEvent
from twinslot.core.model import PARTITION, SlotName, SlotRecord, SlotState, StoredPayload
from twinslot.core.progress import Meter, Observer, Phase, quiet
from twinslot.engine.edges import Device
from twinslot.engine.open_update import timestamp
from twinslot.engine.recover import Session, recovered
from twinslot.payloads.base import Tick
from twinslot.storage.slot_reader import SlotReader

STEP: Final = 1 << 20  # bytes read at once


@dataclass(frozen=True, slots=True)
class ScrubReport:
    """What came of a reading.

    Attributes:
        slot: That was read.
        release: What it holds.
        kept: False: an update took the slot meanwhile, so what was found says nothing and was not stored.
        error: Why it is not sound; None: it holds what was installed.
    """

    slot: SlotName
    release: str
    kept: bool
    error: DeviceError | None = None


# keeps: REQ-AUD-01
def scrub(device: Device, observer: Observer = quiet) -> ScrubReport:
    """Read the way back against the digests that were stored when it was installed, and store the date.

    A power cut leaves the date of the reading before.

    Raises:
        RefusedError: `refused.no-other-slot`: it holds no committed release, or an update has it.
        DeviceError: `device.record`: nothing is known of it, or the date cannot be stored.
    """
    with recovered(device, "scrub") as session:
        subject = _subject(session)
    error = _read(device, subject, observer)
    with recovered(device, "scrub") as session:
        kept = _is_still(session, subject)
        if kept:
            _keep(session, subject, error)
    return ScrubReport(subject.slot, subject.release.name, kept, error)


def note_start(session: Session) -> None:
    """Once in each boot of a system that is kept: it has started. A record that cannot be written costs the note."""
    record, device = session.update.record, session.device
    if record is None or not session.environment().is_kept(device.running):
        return
    try:
        known = record.slot(device.running)
        if known is not None and known.started_in != device.boot_id:
            record.save_slot(replace(known, started_at=timestamp(device.now()), started_in=device.boot_id))
    except DeviceError as e:
        session.update.announcer.tolerated(e)


def _subject(session: Session) -> SlotRecord:
    state = session.environment()
    slot = state.way_back(session.device.running)
    known = session.record.slot(slot)
    if state.states[slot] is not SlotState.GOOD or known is None or not known.payloads:
        what = f"slot '{slot}' holds no release that was committed"
        found = state.states[slot] if state.states[slot] is not SlotState.GOOD else "nothing known of what it holds"
        raise RefusedError(Refusal("no-other-slot", what, "a release with its digests", found, "see 'twinslot status'"))
    return known


def _is_still(session: Session, subject: SlotRecord) -> bool:
    """No update took the slot while it was read: then both say other things than before."""
    good = session.environment().states[subject.slot] is SlotState.GOOD
    return good and session.record.slot(subject.slot) == subject


def _keep(session: Session, subject: SlotRecord, error: DeviceError | None) -> None:
    announcer = session.update.announcer
    about: dict[str, Any] = {"slot": subject.slot, "release": subject.release.name}
    if error is None:
        now = timestamp(session.device.now())
        session.record.save_slot(replace(subject, read_at=now, unsound=""))
        announcer.announce(AuditEvent.SLOT_READ, None, **about)
    else:
        session.record.save_slot(replace(subject, unsound=str(error).partition(" (hint: ")[0]))
        announcer.announce(AuditEvent.SLOT_UNSOUND, None, **about, **error.as_dict())


def _read(device: Device, subject: SlotRecord, observer: Observer) -> DeviceError | None:
    """Every payload; None: all of them are what was installed."""
    meter = Meter(observer, device.monotonic)
    meter.begin(Phase.READ_BACK, sum(stored.size for stored in subject.payloads.values()))
    done = 0
    try:
        for name, stored in subject.payloads.items():
            place = device.places[subject.slot].get(name)
            if place is None:
                hint = "compare '[slots]' in the configuration"
                raise DeviceError(f"payload '{name}' has no place here any more", code="payload-unknown", hint=hint)
            reader = place.open_source()
            try:
                _check(reader, name, subject, stored, lambda at, before=done: meter.at(before + at))  # type: ignore[misc]
            finally:
                reader.close()
            done += stored.size
    except DeviceError as e:
        return e
    return None


# keeps: S14
def _check(reader: SlotReader, name: str, subject: SlotRecord, stored: StoredPayload, tick: Tick) -> None:
    reader.forget()  # what the kernel kept of it says nothing of the medium
    whole = hashlib.sha256()
    for offset in range(0, stored.size, STEP):
        length = min(STEP, stored.size - offset)
        piece = reader.read(offset, length)
        whole.update(piece)
        tick(offset + length)
    if whole.hexdigest() != stored.digest:
        raise DeviceError(
            f"payload '{name}' in slot '{subject.slot}' is not what was installed",
            code="slot-changed",
            expected=stored.digest,
            found=whole.hexdigest(),
            hint="install an image into that slot; until then nothing may be behind the running system",
        )
    if stored.type == PARTITION:
        _check_tail(reader, stored.size)


def _check_tail(reader: SlotReader, size: int) -> None:
    for offset in range(size, reader.size, STEP):
        if any(reader.read(offset, min(STEP, reader.size - offset))):
            found = f"something else at or after offset {offset}"
            what = f"'{reader.path}' is not zero after its payload"
            raise DeviceError(what, code="tail", expected="zeros", found=found)
