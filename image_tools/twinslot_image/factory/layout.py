"""Where things stand on a new device's disk: partitions and both copies of the boot environment. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from twinslot.bootloader.base import Place
from twinslot.core.errors import ImageError

MIB: Final = 1 << 20
SECTOR: Final = 512  # bytes; in which sfdisk(8) counts
PARTITIONS: Final = ("slot_a", "slot_b", "data")  # in the order of the table
ROOT_PAYLOAD: Final = "rootfs"  # the payload from which the device starts
_SPACE: Final = uuid.UUID("6f2e6a0c-3c4e-5b0a-9a0e-7a1f0d2b8c11")  # name space for fixed ids; any constant
_TYPE: Final = {  # "Linux filesystem data" (UAPI discoverable partitions), "Linux" (sfdisk --list-types)
    "gpt": "0FC63DAF-8483-4772-8E79-3D69D8477DE4",
    "dos": "83",
}


def fixed_id(name: str) -> str:
    """A UUID that is always the same for a name."""
    return str(uuid.uuid5(_SPACE, name))


@dataclass(frozen=True, slots=True)
class DiskLayout:
    """The partition table, `gpt` or `dos`, and sizes in MiB.

    Attributes:
        slot_mib: Size of the partition of the root file system, in either slot.
        data_mib: Size of the data partition, which holds the record.
        table: `gpt` or `dos`.
        first_mib: Where the first partition starts; everything before it belongs to table, firmware and environment.
        size_mib: Of the whole disk; 0: as much as it takes.
        id: The disk's number in a DOS table.
        beside: Payloads beside the root file system, each with a partition of so many MiB in either slot; a GPT only.
    """

    slot_mib: int
    data_mib: int
    table: str = "gpt"
    first_mib: int = 1
    size_mib: int = 0
    id: int = 0
    beside: Mapping[str, int] = field(default_factory=dict)

    def partition(self, name: str) -> str:
        """A partition as the kernel's command line names it: `PARTLABEL=slot_a`, `PARTUUID=74736c31-01`."""
        if self.table == "gpt":
            return f"PARTLABEL={name}"
        return f"PARTUUID={self.id:08x}-{PARTITIONS.index(name) + 1:02x}"

    def device(self, name: str) -> str:
        """The link that udev makes for it."""
        kind, _, value = self.partition(name).partition("=")
        return f"/dev/disk/by-{kind.lower()}/{value}"

    def partitions(self) -> dict[str, tuple[int, int]]:
        """Partition name -> start and size in bytes, in the order of the table."""
        sizes = dict(zip(PARTITIONS, (self.slot_mib, self.slot_mib, self.data_mib), strict=True))
        sizes |= {f"{payload}_{slot}": mib for payload, mib in self.beside.items() for slot in "ab"}
        places, at = dict[str, tuple[int, int]](), self.first_mib * MIB
        for name, mib in sizes.items():
            places[name] = (at, mib * MIB)
            at += mib * MIB
        return places

    def names_of(self, slot: str) -> dict[str, str]:
        """Payload name -> name of its partition in a slot, `a` or `b`; the root file system first."""
        return {ROOT_PAYLOAD: f"slot_{slot}"} | {name: f"{name}_{slot}" for name in self.beside}

    def payloads(self, slot: str) -> dict[str, tuple[int, int]]:
        """Payload name -> start and size in bytes of its partition in a slot."""
        places = self.partitions()
        return {payload: places[name] for payload, name in self.names_of(slot).items()}

    def size(self) -> int:
        """Bytes of the whole disk: what was said, or the partitions and one MiB behind them for a second GPT.

        Raises:
            ImageError: `image.description`: the partitions do not fit.
        """
        last_start, last_size = max(self.partitions().values())
        needed = last_start + last_size + (MIB if self.table == "gpt" else 0)
        size = self.size_mib * MIB or needed
        if size < needed:
            what = "the partitions do not fit on the disk"
            raise ImageError(what, code="description", expected=f"{needed} bytes or more", found=f"{size} bytes")
        return size

    @property
    def table_end(self) -> int:
        """The first byte behind the partition table: a GPT has a header and 128 entries of 128 bytes (UEFI 5.3)."""
        return (2 + 32) * SECTOR if self.table == "gpt" else SECTOR

    def script(self) -> str:
        """The partition table in the language of sfdisk(8)."""
        label = fixed_id("disk") if self.table == "gpt" else f"{self.id:#010x}"
        lines = [f"label: {self.table}", f"label-id: {label}"]
        for name, (start, size) in self.partitions().items():
            named = f", uuid={fixed_id(name)}, name={name}" if self.table == "gpt" else ""
            lines.append(f"start={start // SECTOR}, size={size // SECTOR}, type={_TYPE[self.table]}{named}")
        return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class EnvironmentLayout:
    """Where the two copies of the environment stand: the device's name of it, bytes, MiB for a card of their own.

    `card_mib` 0: they stand on the disk, before the first partition.
    """

    device: str
    offsets: tuple[int, int]
    size: int
    card_mib: int = 0

    @property
    def places(self) -> tuple[Place, Place]:
        """Both, as the client reads them from /etc/fw_env.config."""
        first, second = (Place(self.device, offset, self.size) for offset in self.offsets)
        return first, second

    @property
    def fw_env_config(self) -> str:
        """The text of /etc/fw_env.config."""
        lines = [f"{self.device}  {offset:#x}  {self.size:#x}\n" for offset in self.offsets]
        return "# device  offset  size\n" + "".join(lines)


@dataclass(frozen=True, slots=True)
class DeviceLayout:
    """All that manufacture must know of where things go.

    Attributes:
        disk: The partition table.
        environment: Where its copies stand.
        firmware_at: Byte of the disk at which the machine looks for the boot loader; None: not on this disk.
    """

    disk: DiskLayout
    environment: EnvironmentLayout
    firmware_at: int | None = None

    def check(self) -> None:
        """Refuse a layout of which one part would overwrite another.

        Raises:
            ImageError: `image.description`.
        """
        first, second = sorted(self.environment.offsets)
        end = self.environment.card_mib * MIB or self.disk.first_mib * MIB
        if first + self.environment.size > second or second + self.environment.size > end:
            where = "the end of the card" if self.environment.card_mib else "the first partition"
            what = "the copies of the environment overlap something"
            found = f"copies at bytes {first} and {second}, of {self.environment.size}"
            raise ImageError(what, code="description", expected=f"two before {where} at byte {end}", found=found)
        if not self.environment.card_mib and first < self.disk.table_end:
            what = "the first copy of the environment overlaps the partition table"
            raise ImageError(
                what, code="description", expected=f"an offset from {self.disk.table_end} on", found=str(first)
            )
        self.disk.size()

    def check_firmware(self, size: int) -> None:
        """Refuse a boot loader of so many bytes that reaches into what follows it.

        Raises:
            ImageError: `image.description`.
        """
        start = self.firmware_at or 0
        on_disk = () if self.environment.card_mib else self.environment.offsets
        follows = min([self.disk.first_mib * MIB, *(offset for offset in on_disk if offset >= start)])
        end = start + size
        if self.disk.table == "gpt" and start < self.disk.table_end:
            what = "the firmware would overwrite the partition table"
            raise ImageError(what, code="description", expected=f"an offset from {self.disk.table_end} on", found=start)
        if end > follows:
            what = "the firmware reaches into what follows it"
            raise ImageError(what, code="description", expected=f"an end at byte {follows} or before", found=f"{end}")
