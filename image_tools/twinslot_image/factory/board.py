"""What manufacture must know of a board, as a TOML file (docs/guide-release.md, "A whole disk").

    [disk]
    table = "gpt"                 # or "dos"
    first_mib = 12                # where the first partition starts; before it: firmware and environment
    slot_mib = 384
    data_mib = 240

    [disk.beside]                 # optional: payloads beside the root file system, MiB of a partition in either slot
    voices = 64

    [environment]
    device = "/dev/mmcblk0"       # as in the device's own fw_env.config
    offsets = [0x400000, 0x800000]
    size = 0x4000
    card_mib = 0                  # optional: size of the card that holds nothing but the environment
    default = "default-env.txt"   # optional: the board's own variables, name=value lines

    [firmware]                    # optional: the boot loader, where it stands on the disk
    file = "u-boot-sunxi-with-spl.bin"
    offset = 0x2000

Paths are relative to the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from twinslot.bootloader.uboot.rawenv import HEADER_SIZE, SIZE_LIMIT
from twinslot.core.manifest import NAME
from twinslot_image.description import read_toml
from twinslot_image.factory.layout import MIB, ROOT_PAYLOAD, DeviceLayout, DiskLayout, EnvironmentLayout
from twinslot_image.toml_table import Table

TOP_KEYS: Final = ("disk", "environment", "firmware")
DISK_KEYS: Final = ("table", "id", "first_mib", "slot_mib", "data_mib", "size_mib", "beside")
ENVIRONMENT_KEYS: Final = ("device", "offsets", "size", "card_mib", "default")
FIRMWARE_KEYS: Final = ("file", "offset")
DATA_MIN: Final = 4  # MiB; mke2fs(8) makes a journal from here on
SIZE_MAX: Final = 1 << 20  # MiB; a TiB, more than any partition of a device has
_DEVICE: Final = re.compile(r"/[^\s\0]{1,254}")
_ID_MAX: Final = (1 << 32) - 1  # a DOS table's number has 32 bits


@dataclass(frozen=True, slots=True)
class FactoryBoard:
    """The file, read.

    Attributes:
        layout: Where things go.
        firmware: The boot loader; None where it does not stand on this disk.
        default_environment: The board's own variables; None without.
    """

    layout: DeviceLayout
    firmware: Path | None
    default_environment: Path | None

    @property
    def files(self) -> tuple[Path, ...]:
        """What the file names."""
        return tuple(path for path in (self.firmware, self.default_environment) if path)


def read_board(path: Path) -> FactoryBoard:
    """Read and check the file.

    Raises:
        ImageError: `image.description`, naming the key.
    """
    top = Table(read_toml(path), path, "", TOP_KEYS)
    disk, environment = _needed(top, "disk", DISK_KEYS), _needed(top, "environment", ENVIRONMENT_KEYS)
    firmware = top.table("firmware", FIRMWARE_KEYS)
    at = firmware.number("offset", 0, SIZE_MAX * MIB) if firmware else None
    layout = DeviceLayout(_disk(disk), _environment(environment), at)
    layout.check()
    default = environment.path("default") if environment.has("default") else None
    return FactoryBoard(layout, firmware.path("file") if firmware else None, default)


def _needed(top: Table, key: str, keys: tuple[str, ...]) -> Table:
    top.get(key, dict)
    found = top.table(key, keys)
    assert found
    return found


def _disk(table: Table) -> DiskLayout:
    kind = table.choice("table", ("gpt", "dos"), "gpt")
    names = tuple(table.get("beside", dict, {}))
    beside = table.table("beside", names)
    for name in names:
        if not NAME.fullmatch(name) or name == ROOT_PAYLOAD or kind == "dos":
            raise table.bad("beside", f"names of payloads beside '{ROOT_PAYLOAD}', and a GPT", name)
    return DiskLayout(
        slot_mib=table.number("slot_mib", 1, SIZE_MAX),
        data_mib=table.number("data_mib", DATA_MIN, SIZE_MAX),
        table=kind,
        first_mib=table.number("first_mib", 1, SIZE_MAX, 1),
        size_mib=table.number("size_mib", 0, SIZE_MAX, 0),
        id=table.number("id", 1 if kind == "dos" else 0, _ID_MAX, None if kind == "dos" else 0),
        beside={name: beside.number(name, 1, SIZE_MAX) for name in names} if beside else {},
    )


def _environment(table: Table) -> EnvironmentLayout:
    offsets = table.get("offsets", list)
    if len(offsets) != 2 or not all(type(each) is int and 0 <= each < SIZE_MAX * MIB for each in offsets):
        raise table.bad("offsets", "two whole numbers, in bytes", offsets)
    return EnvironmentLayout(
        device=table.text("device", _DEVICE, "an absolute path without blanks"),
        offsets=(offsets[0], offsets[1]),
        size=table.number("size", HEADER_SIZE + 1, SIZE_LIMIT),
        card_mib=table.number("card_mib", 0, SIZE_MAX, 0),
    )
