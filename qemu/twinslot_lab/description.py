"""A board as data: `qemu/boards/<name>.toml`, read once, unknown or missing keys refused."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from twinslot_lab.command import ROOT
from twinslot_lab.envcard import Place
from twinslot_lab.errors import LabError

BOARDS = ROOT / "qemu" / "boards"
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Machine:
    """The emulator and what is plugged in. `watchdog` is the QEMU device that resets the machine, or empty."""

    emulator: str
    machine: str
    cpu: str
    cpus: int
    memory_mib: int
    accel: str
    watchdog: str
    devices: list[str]


@dataclass(frozen=True, slots=True)
class Firmware:
    """U-Boot: Debian source package and suite, and how it is configured and compiled."""

    source: str
    suite: str
    defconfig: str
    cross_compile: str
    image: str


@dataclass(frozen=True, slots=True)
class Environment:
    """Where the two copies of the environment stand on the card; bytes, and MiB for the card itself."""

    offsets: list[int]
    size: int
    card_mib: int

    @property
    def place(self) -> Place:
        """The same for `EnvCard`."""
        return Place((self.offsets[0], self.offsets[1]), self.size)


@dataclass(frozen=True, slots=True)
class Disk:
    """Partition sizes in MiB."""

    slot_mib: int
    data_mib: int


@dataclass(frozen=True, slots=True)
class System:
    """The root file system: suite, packages, kernel, modules, and the units that do not run here."""

    suite: str
    architecture: str
    elf_machine: str
    kernel: str
    packages: list[str]
    initrd_modules: list[str]
    modules: list[str]
    masked_units: list[str]


@dataclass(frozen=True, slots=True)
class BoardDescription:
    """Everything that is particular to one board."""

    name: str
    machine: Machine
    firmware: Firmware
    environment: Environment
    disk: Disk
    system: System

    @property
    def hooks(self) -> Path:
        """The board's own part of `bootloader_hooks/uboot`."""
        return ROOT / "bootloader_hooks" / "uboot" / self.name


_TABLES: dict[str, type[Any]] = {
    "machine": Machine,
    "firmware": Firmware,
    "environment": Environment,
    "disk": Disk,
    "system": System,
}


def load(name: str = "virt-arm64") -> BoardDescription:
    """Read a board's description.

    Raises:
        LabError: There is no such board, or its file lacks a key or has one that nobody knows.
    """
    path = BOARDS / f"{name}.toml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in BOARDS.glob("*.toml")))
        raise LabError(f"no board '{name}'", hint=f"there is: {known}")
    return parse(tomllib.loads(path.read_text()))


def parse(data: dict[str, Any]) -> BoardDescription:
    """Check and convert the TOML data; errors as for `load`."""
    _same_keys("the board", set(data), {"name", *_TABLES})
    tables: dict[str, Any] = {}
    for key, kind in _TABLES.items():
        _same_keys(f"table [{key}]", set(data[key]), {field.name for field in fields(kind)})
        tables[key] = kind(**data[key])
    return BoardDescription(name=data["name"], **tables)


def _same_keys(where: str, found: set[str], wanted: set[str]) -> None:
    if found != wanted:
        odd = ", ".join(sorted(found ^ wanted))
        raise LabError(f"{where} has unknown or missing keys: {odd}")
