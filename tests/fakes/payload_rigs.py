"""One rig per type of payload: a place of that type, and the means to look at and damage its medium."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Protocol

from fakes.file_payload import FileHandler
from simulation.disk import SimulatedDisk
from twinslot.core.model import SECTOR, SlotName
from twinslot.payloads.base import PayloadPlace
from twinslot.payloads.partition.handler import PartitionPlace
from twinslot.payloads.select import HANDLERS
from twinslot.storage.running_slot import RunningSlot
from twinslot.storage.slot_reader import SlotReader, open_reader

SIZE: Final = 1 << 16  # bytes of a partition
OTHER: Final = RunningSlot(SlotName.A, frozenset(), ())  # the place is slot b's


class Rig(Protocol):
    """What the contract test needs of a place."""

    place: PayloadPlace

    def found(self) -> bytes:
        """What the next start takes from the place once its slot is selected; empty: nothing counts."""
        ...

    def damage(self, offset: int) -> None:
        """Change a byte on the medium, behind everything that the client may have in a cache."""
        ...


class SimulatedPartition:
    """On the disk of the simulation, which loses what was not flushed."""

    def __init__(self, directory: Path) -> None:
        self.disk, self._file = SimulatedDisk("slot_b", SIZE), directory / "content"
        self.disk.fill(b"\xee" * SIZE)
        self.place: PayloadPlace = PartitionPlace(Path("slot_b"), lambda _: self.disk, self._reader)

    def _reader(self, _: Path) -> SlotReader:
        self._file.write_bytes(self.disk.content())
        return open_reader(self._file)

    def found(self) -> bytes:
        content = self.disk.content()
        return content if any(content[:SECTOR]) else b""

    def damage(self, offset: int) -> None:
        content = bytearray(self.disk.content())
        content[offset] ^= 1
        self.disk.fill(bytes(content))


class LoopPartition:
    """The handler of the table on a block device."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._file = directory / "disk"
        self._file.write_bytes(b"\xee" * SIZE)
        argv = ["losetup", "--find", "--show", str(self._file)]
        device = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
        stack.callback(subprocess.run, ["losetup", "--detach", device], check=True)
        self._device = Path(device)
        self.place = HANDLERS["partition"].place(self._device, SlotName.B, "rootfs", OTHER)

    def found(self) -> bytes:
        content = self._file.read_bytes()
        return content if any(content[:SECTOR]) else b""

    def damage(self, offset: int) -> None:
        self._device.read_bytes()  # so that the device's cache has the bytes of before
        with self._file.open("r+b") as file:
            file.seek(offset)
            byte = file.read(1)
            file.seek(offset)
            file.write(bytes([byte[0] ^ 1]))


class FileDirectory:
    """The second type: a file on the data partition."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / "model"
        self.place: PayloadPlace = FileHandler().place(self._directory, SlotName.B, "model", OTHER)

    def found(self) -> bytes:
        whole, selected = self._directory / "whole", self._directory / "selected"
        return selected.read_bytes() if selected.exists() else whole.read_bytes() if whole.exists() else b""

    def damage(self, offset: int) -> None:
        content = bytearray((self._directory / "whole").read_bytes())
        content[offset] ^= 1
        (self._directory / "whole").write_bytes(content)


Factory = Callable[[Path, ExitStack], Rig]


def partition(directory: Path, _: ExitStack) -> Rig:
    return SimulatedPartition(directory)


def partition_on_loop(directory: Path, stack: ExitStack) -> Rig:
    return LoopPartition(directory, stack)


def file(directory: Path, _: ExitStack) -> Rig:
    return FileDirectory(directory)


# Add a type here and the contract test runs against it.
TYPES: Final[dict[str, list[Factory]]] = {"partition": [partition, partition_on_loop], "file": [file]}
NEEDS_ROOT: Final = {"partition_on_loop"}
