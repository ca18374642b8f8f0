"""The types of payloads that this client knows, and which place each configured payload has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from twinslot.config.options import SlotsConfig
from twinslot.core.errors import DeviceError
from twinslot.core.model import PARTITION, SlotName
from twinslot.payloads.base import PayloadHandler, PayloadPlace
from twinslot.payloads.partition.handler import PartitionHandler
from twinslot.storage.running_slot import RunningSlot

# The type word, as in the manifest and in `slots.types`, and what handles it.
HANDLERS: Final[dict[str, PayloadHandler]] = {PARTITION: PartitionHandler()}

Places = Mapping[SlotName, Mapping[str, PayloadPlace]]


def find_places(slots: SlotsConfig, running: RunningSlot) -> Places:
    """The places of both slots by payload name; nothing is opened.

    Raises:
        DeviceError: `device.config-value`: a type that this client does not know.
    """
    return {
        slot: {
            name: _handler(name, slots.type_of(name)).place(path, slot, name, running)
            for name, path in slots.of(slot).items()
        }
        for slot in SlotName
    }


def _handler(name: str, kind: str) -> PayloadHandler:
    if kind not in HANDLERS:
        known = " | ".join(sorted(HANDLERS))
        raise DeviceError(f"'slots.types.{name}' is wrong", code="config-value", expected=known, found=kind)
    return HANDLERS[kind]
