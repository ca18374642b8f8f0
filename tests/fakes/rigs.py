"""One rig per boot loader backend: the backend under test, and the means to look at and damage its store."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Protocol

import pytest

import waits
from simulation import rawcopy
from simulation.bootloader import SimulatedBootloader
from simulation.disk import SimulatedCard
from twinslot.bootloader.base import Bootloader
from twinslot.bootloader.hook import Hook
from twinslot.bootloader.uboot.backend import UBoot

REPOSITORY: Final = Path(__file__).parents[2]
FAKE_BIN: Final = REPOSITORY / "tests/fakes/bin"
HOOKS: Final = REPOSITORY / "bootloader_hooks"
HOOK: Final = HOOKS / "two-files/twinslot-hook"
ONE_SHOT: Final = HOOKS / "grub-once/twinslot-hook"
SIZE: Final = 0x2000
OFFSETS: Final = (0x1000, 0x5000)
DEFAULT: Final = {"bootcmd": "run boot_slot; reset", "slot": "a", "slot_a": "good", "slot_b": "good", "bootlimit": "3"}


class Rig(Protocol):
    """What the contract test needs of a backend."""

    boot: Bootloader

    def raw(self) -> list[bytes]:
        """The bytes of both copies."""
        ...

    def damage(self, copy: int) -> None:
        """Spoil one copy as a torn write does."""
        ...

    def seen(self) -> dict[str, str]:
        """What the boot loader would read, not asked of the backend under test; empty when both copies are lost."""
        ...


class UBootRig:
    """Two copies in a file or on a device, with the given tools."""

    def __init__(self, directory: Path, device: Path, bin_directory: str = "") -> None:
        self.device, self.config = device, directory / "fw_env.config"
        self.config.write_text("".join(f"{device} {offset:#x} {SIZE:#x}\n" for offset in OFFSETS))
        self.default = write_default(directory)
        self._printenv = f"{bin_directory}fw_printenv"
        self.boot: Bootloader = UBoot(
            self.config, fw_setenv=f"{bin_directory}fw_setenv", default_env=self.default, timeout=waits.HANG
        )

    def raw(self) -> list[bytes]:
        data = self.device.read_bytes()
        return [data[offset : offset + SIZE] for offset in OFFSETS]

    def put(self, copy: int, raw: bytes) -> None:
        with self.device.open("r+b") as stream:
            stream.seek(OFFSETS[copy])
            stream.write(raw)

    def damage(self, copy: int) -> None:
        self.put(copy, self.raw()[copy][: SIZE // 2] + b"\xa5" * 512)

    def seen(self) -> dict[str, str]:
        argv = [self._printenv, "-c", str(self.config), "-f", "/dev/null/none"]
        printed = subprocess.run(argv, capture_output=True, text=True).stdout
        return dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)


class HookRig:
    """A hook on its two files."""

    def __init__(self, directory: Path, hook: Path = HOOK, files: tuple[str, str] = ("env0", "env1")) -> None:
        self._files, self._hook = [directory / name for name in files], hook
        self.boot: Bootloader = Hook(hook, default_env=write_default(directory), timeout=waits.HANG)

    def raw(self) -> list[bytes]:
        return [file.read_bytes() if file.exists() else b"" for file in self._files]

    def damage(self, copy: int) -> None:
        data = self._files[copy].read_bytes()
        self._files[copy].write_bytes(data[: len(data) // 2])

    def seen(self) -> dict[str, str]:
        printed = subprocess.run([self._hook, "get-environment"], capture_output=True, text=True).stdout
        return dict(line.split("=", 1) for line in printed.splitlines())


class SimulatedRig:
    """The bootloader of the simulated board, on its card."""

    def __init__(self) -> None:
        self._card = SimulatedCard(0x6000)
        self._card.data[:] = b"\xff" * 0x6000  # erased: both copies are lost
        self.boot: Bootloader = SimulatedBootloader(self._card, DEFAULT)

    def raw(self) -> list[bytes]:
        return [self._card.read(place, rawcopy.SIZE) for place in rawcopy.PLACES]

    def damage(self, copy: int) -> None:
        middle = rawcopy.PLACES[copy] + rawcopy.SIZE // 2
        self._card.data[middle : middle + 512] = b"\xa5" * 512

    def seen(self) -> dict[str, str]:
        now = rawcopy.current(self._card)
        copy = None if now is None else rawcopy.copies(self._card)[now]
        return dict(copy[1]) if copy else {}


def write_default(directory: Path) -> Path:
    path = directory / "default-env.txt"
    path.write_text("# the product's default\n\n" + "".join(f"{name}={value}\n" for name, value in DEFAULT.items()))
    return path


def blank_file(directory: Path) -> Path:
    path = directory / "medium"
    path.write_bytes(b"\xff" * 0x8000)  # erased: both copies are lost
    return path


def fake_tools(directory: Path, _patch: pytest.MonkeyPatch, _stack: ExitStack) -> Rig:
    return UBootRig(directory, blank_file(directory), f"{FAKE_BIN}/")


def fake_tools_on_path(directory: Path, patch: pytest.MonkeyPatch, _stack: ExitStack) -> Rig:
    patch.setenv("PATH", str(FAKE_BIN), prepend=":")
    return UBootRig(directory, blank_file(directory))


def libubootenv(directory: Path, _patch: pytest.MonkeyPatch, _stack: ExitStack) -> Rig:
    return UBootRig(directory, blank_file(directory))


def libubootenv_on_loop(directory: Path, _patch: pytest.MonkeyPatch, stack: ExitStack) -> Rig:
    argv = ["losetup", "--find", "--show", str(blank_file(directory))]
    device = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
    stack.callback(subprocess.run, ["losetup", "--detach", device], check=True)
    return UBootRig(directory, Path(device))


def simulated(_directory: Path, _patch: pytest.MonkeyPatch, _stack: ExitStack) -> Rig:
    return SimulatedRig()


def two_files_hook(directory: Path, patch: pytest.MonkeyPatch, _stack: ExitStack) -> Rig:
    patch.setenv("TWINSLOT_HOOK_DIR", str(directory))
    return HookRig(directory)


def grub_once_hook(directory: Path, patch: pytest.MonkeyPatch, _stack: ExitStack) -> Rig:
    patch.setenv("TWINSLOT_HOOK_DIR", str(directory))
    return HookRig(directory, ONE_SHOT, ("twinslot.env", "twinslot.copy"))


Factory = Callable[[Path, pytest.MonkeyPatch, ExitStack], Rig]

# Add a backend here and the contract test runs against it.
BACKENDS: list[Factory] = [
    fake_tools_on_path,
    libubootenv,
    libubootenv_on_loop,
    two_files_hook,
    grub_once_hook,
    simulated,
]
NEEDS_ROOT: Final = {"libubootenv_on_loop"}
