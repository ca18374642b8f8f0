"""A board as data: `qemu/boards/<name>.toml`, read once, unknown or missing keys refused.

What several boards share of the root file system stands in `qemu/systems/<base>.toml`; a board's own lists add to it.
"""

from __future__ import annotations

import tomllib
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from twinslot_image.factory.layout import DeviceLayout, DiskLayout, EnvironmentLayout
from twinslot_lab.command import ROOT
from twinslot_lab.errors import LabError

BOARDS = ROOT / "qemu" / "boards"
SYSTEMS = ROOT / "qemu" / "systems"


@dataclass(frozen=True, slots=True)
class EmulatedMachine:
    """The emulator and what is plugged in.

    Attributes:
        emulator: QEMU's program.
        machine: `-M`.
        cpu: `-cpu`.
        cpus: How many; some machines have a fixed number.
        memory_mib: RAM.
        accel: `-accel`.
        watchdog: QEMU device that resets the machine, and the kernel module that drives it; empty: none.
        devices: More of QEMU's devices.
        disk: `virtio`, or `sd` for the machine's own card slot.
        network: QEMU network device; empty: the machine's own.
        arguments: More of QEMU's arguments.
    """

    emulator: str
    machine: str
    cpu: str
    cpus: int
    memory_mib: int
    accel: str
    watchdog: str
    devices: list[str]
    disk: str
    network: str
    arguments: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ConsoleDescription:
    """The serial console: its name in the guest, and where the lab's agent answers (`virtio-serial` or `console`)."""

    device: str
    agent: str


@dataclass(frozen=True, slots=True)
class Firmware:
    """U-Boot: Debian source package and suite, how it is configured and compiled, and where the machine finds it.

    Attributes:
        place: `bios`: QEMU loads it; `disk`: it stands on the disk, `offset` bytes from the start.
    """

    source: str
    suite: str
    defconfig: str
    cross_compile: str
    image: str
    place: str
    offset: int = 0


@dataclass(frozen=True, slots=True)
class SystemDescription:
    """The root file system: suite, packages, kernel, modules, and the units and generators that do not run here.

    Attributes:
        base: Name of the shared part.
        left_out: What the packages bring and nobody here reads, as glob patterns below the root.
        dtb: Device tree of the kernel package that a slot holds as /boot/dtb; empty: the firmware passes one.
    """

    base: str
    suite: str
    architecture: str
    kernel: str
    packages: list[str]
    initrd_modules: list[str]
    modules: list[str]
    masked_units: list[str]
    masked_generators: list[str]
    left_out: list[str]
    dtb: str = ""


@dataclass(frozen=True, slots=True)
class Quirks:
    """Where the emulated board differs from a real one.

    Attributes:
        reset: `machine`: it resets itself; `harness`: it hangs instead, and the test harness resets it.
        timeout_factor: How many times as long as elsewhere things may take here before they count as failed.
    """

    reset: str = "machine"
    timeout_factor: int = 1

    def named(self) -> list[str]:
        """One sentence for each, for reports."""
        said = []
        if self.reset == "harness":
            said.append("the machine cannot reset itself: the test harness does it")
        if self.timeout_factor != 1:
            said.append(f"the machine is slow: timeouts in the guest are {self.timeout_factor} times as long")
        return said


@dataclass(frozen=True, slots=True)
class BoardDescription:
    """Everything that is particular to one board."""

    name: str
    machine: EmulatedMachine
    console: ConsoleDescription
    firmware: Firmware
    environment: EnvironmentLayout
    disk: DiskLayout
    system: SystemDescription
    quirks: Quirks = field(default_factory=Quirks)

    @property
    def hooks(self) -> Path:
        """The board's own part of `bootloader_hooks/uboot`."""
        return ROOT / "bootloader_hooks" / "uboot" / self.name

    @property
    def layout(self) -> DeviceLayout:
        """What manufacture has to know of it."""
        firmware = self.firmware
        return DeviceLayout(self.disk, self.environment, firmware.offset if firmware.place == "disk" else None)


_TABLES: dict[str, type[Any]] = {
    "machine": EmulatedMachine,
    "console": ConsoleDescription,
    "firmware": Firmware,
    "environment": EnvironmentLayout,
    "disk": DiskLayout,
    "system": SystemDescription,
    "quirks": Quirks,
}
_CHOICES = {
    ("machine", "disk"): ("virtio", "sd"),
    ("console", "agent"): ("virtio-serial", "console"),
    ("firmware", "place"): ("bios", "disk"),
    ("disk", "table"): ("gpt", "dos"),
    ("quirks", "reset"): ("machine", "harness"),
}


def names() -> list[str]:
    """All boards."""
    return sorted(file.stem for file in BOARDS.glob("*.toml"))


def load(name: str = "virt-arm64") -> BoardDescription:
    """Read a board's description.

    Raises:
        LabError: There is no checkout, no such board, or its file lacks a key or has one that nobody knows.
    """
    if not BOARDS.is_dir():
        hint = "set TWINSLOT_CHECKOUT to the directory of one"
        raise LabError(f"boards are built from a checkout of Twinslot; '{ROOT}' is none", hint=hint)
    path = BOARDS / f"{name}.toml"
    if not path.is_file():
        raise LabError(f"no board '{name}'", hint=f"there is: {', '.join(names())}")
    return parse(tomllib.loads(path.read_text()))


def parse(data: dict[str, Any]) -> BoardDescription:
    """Check and convert the TOML data; errors as for `load`."""
    data = dict(data)
    if "system" in data:
        data["system"] = _with_base(data["system"])
    _check_keys("the board", set(data), BoardDescription)
    tables = {key: _table(key, data[key]) for key in _TABLES if key in data}
    return BoardDescription(name=data["name"], **tables)


def _table(key: str, values: dict[str, Any]) -> Any:
    _check_keys(f"table [{key}]", set(values), _TABLES[key])
    for (table, name), known in _CHOICES.items():
        if table == key and values.get(name, known[0]) not in known:
            raise LabError(f"[{key}] {name} is '{values[name]}', expected one of: {', '.join(known)}")
    return _TABLES[key](**{name: tuple(value) if name == "offsets" else value for name, value in values.items()})


def _with_base(own: dict[str, Any]) -> dict[str, Any]:
    """The shared part with the board's own keys; lists of both are put together."""
    path = SYSTEMS / f"{own.get('base', '')}.toml"
    if not path.is_file():
        raise LabError(f"[system] base: there is no '{path.name}' in {SYSTEMS}")
    merged = tomllib.loads(path.read_text())
    for key, value in own.items():
        merged[key] = merged[key] + value if isinstance(merged.get(key), list) else value
    return merged


def _check_keys(where: str, found: set[str], kind: type[Any]) -> None:
    known = {field.name for field in fields(kind)}
    needed = {field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING}
    if odd := (found - known) | (needed - found):
        raise LabError(f"{where} has unknown or missing keys: {', '.join(sorted(odd))}")
