"""Payloads that are the content of one partition of a slot. The boot loader's choice of the slot selects them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from twinslot.core.manifest import Payload
from twinslot.core.model import PARTITION, SlotName, StoredPayload
from twinslot.payloads.base import Tick
from twinslot.payloads.partition.on_medium import digest_on
from twinslot.payloads.partition.writer import PayloadWriter
from twinslot.storage import mounts
from twinslot.storage.base import TargetDevice
from twinslot.storage.blockdev import open_target
from twinslot.storage.running_slot import RunningSlot
from twinslot.storage.slot_reader import SlotReader, open_reader


class PartitionTarget:
    """One partition, opened for writing; implements `PayloadTarget`. Owns the device."""

    def __init__(self, device: TargetDevice) -> None:
        self._device = device

    @property
    def size(self) -> int:
        """Bytes of the whole partition."""
        return self._device.size

    def sink(self, payload: Payload, run: Executor | None, monotonic: Callable[[], float]) -> PayloadWriter:
        """See `PayloadTarget`."""
        return PayloadWriter(self._device, payload, run, monotonic=monotonic)

    def digest(self, stored: StoredPayload, tick: Tick) -> str:
        """See `PayloadTarget`; the tail must be zeros."""
        return digest_on(self._device, stored, tick)

    def close(self) -> None:
        """Release the device."""
        self._device.close()


@dataclass(frozen=True, slots=True)
class PartitionPlace:
    """One partition of one slot; implements `PayloadPlace`.

    Attributes:
        path: Of the device, as configured.
        open_device: Opens it for writing, exclusively; raises as `open_target` of `storage.blockdev`.
        open_reading: Opens it for reading; raises as `open_reader`.
    """

    path: Path
    open_device: Callable[[Path], TargetDevice]
    open_reading: Callable[[Path], SlotReader] = open_reader

    @property
    def type(self) -> str:
        """See `PayloadPlace`."""
        return PARTITION

    def room(self) -> int | None:
        """See `PayloadPlace`."""
        return mounts.size_of(self.path)

    def open_target(self) -> PartitionTarget:
        """See `PayloadPlace`."""
        return PartitionTarget(self.open_device(self.path))

    def open_source(self) -> SlotReader:
        """See `PayloadPlace`."""
        return self.open_reading(self.path)

    def switch(self) -> None:
        """Nothing: the arming write selects the slot, and with it this partition."""

    def commit(self) -> None:
        """Nothing: the other slot's partition stays as the way back."""

    def revert(self) -> None:
        """Nothing: the boot environment points at the other slot's partition."""


class PartitionHandler:
    """Payloads that are a partition's content; implements `PayloadHandler`."""

    def place(self, path: Path, slot: SlotName, name: str, running: RunningSlot) -> PartitionPlace:  # noqa: ARG002
        """See `PayloadHandler`."""
        return PartitionPlace(path, lambda device: open_target(device, running.devices))
