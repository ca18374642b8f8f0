"""What the engine does with the places of a slot, whatever types of payloads they keep: open all, read back, tell."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping

from twinslot.core.errors import DeviceError
from twinslot.core.model import SlotName, SlotRecord, StoredPayload
from twinslot.core.transaction import Outcome, Transaction
from twinslot.engine.edges import Device
from twinslot.payloads.base import PayloadTarget
from twinslot.payloads.local_content import LocalContent
from twinslot.storage.record.record import Record
from twinslot.storage.slot_reader import SlotReader

log = logging.getLogger(__name__)


@contextlib.contextmanager
def open_targets(device: Device, slot: SlotName) -> Iterator[Mapping[str, PayloadTarget]]:
    """All places of a slot for writing, by payload name, or none; closed afterwards.

    Raises:
        RefusedError: One is in use, or of the running slot (S1).
        DeviceError: One cannot be opened.
    """
    with contextlib.ExitStack() as stack:
        targets = {}
        for name, place in device.places[slot].items():
            targets[name] = place.open_target()
            stack.callback(targets[name].close)
        yield targets


@contextlib.contextmanager
def open_local_content(device: Device, record: Record, target: SlotName) -> Iterator[LocalContent]:
    """What the device holds before an install into this slot; the places of the running slot are closed afterwards."""
    running = record.slot(device.running)
    if not device.delta.reuse:
        yield LocalContent(target, device.running, documents=device.documents)
        return
    with contextlib.ExitStack() as stack:
        readers = _open_sources(device, stack)
        unfinished = _unfinished(record, target)
        installed = _payloads(running)
        yield LocalContent(target, device.running, device.lists, readers, installed, unfinished, device.documents)


def _open_sources(device: Device, stack: contextlib.ExitStack) -> Mapping[str, SlotReader]:
    """All of the running slot, or none: without them everything is fetched."""
    readers = {}
    try:
        for name, place in device.places[device.running].items():
            readers[name] = place.open_source()
            stack.callback(readers[name].close)
    except DeviceError as e:
        log.warning("nothing is reused from the running slot, all is fetched: %s", e)
        return {}
    return readers


def _payloads(slot: SlotRecord | None) -> Mapping[str, StoredPayload]:
    return slot.payloads if slot else {}


def _unfinished(record: Record, target: SlotName) -> bool:
    last = next((t for t in record.history(10) if t.target is target and t.kind == "install"), None)
    return last is not None and last.outcome is Outcome.ABANDONED


# keeps: S14
def check_target(device: Device, transaction: Transaction) -> None:
    """Read a slot back against the digests stored when it was installed.

    Raises:
        DeviceError: `device.slot-changed`, or the slot cannot be read.
    """
    with open_targets(device, transaction.target) as targets:
        for name, stored in transaction.payloads.items():
            if name not in targets:
                hint = "compare '[slots]' in the configuration"
                raise DeviceError(f"payload '{name}' has no place here any more", code="payload-unknown", hint=hint)
            found = targets[name].digest(stored, lambda _: None)
            if found != stored.digest:
                raise DeviceError(
                    f"payload '{name}' in slot '{transaction.target}' is not what was installed",
                    code="slot-changed",
                    expected=stored.digest,
                    found=found,
                    hint="install an image into that slot",
                )
