"""The device's media: four files, and the loop devices that they are while the device has power."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from twinslot.bootloader.base import Place
from twinslot_image.factory.environment import RawEnvironment
from twinslot_lab.command import run
from twinslot_lab.errors import BoardError

NAMES: Final = ("slot_a", "slot_b", "data", "card")
# In bytes; tree/etc/fw_env.config has the same.
PLACES: Final = (Place("card", 0x0000, 0x4000), Place("card", 0x4000, 0x4000))
SLOT_SIZE: Final = 32 << 20  # bytes
DATA_SIZE: Final = 64 << 20
CARD_SIZE: Final = 64 << 10
HANG_SECONDS: Final = 60.0  # seconds for the kernel to let go of a loop device; only a hang reaches it


@dataclass(frozen=True, slots=True)
class Media:
    """The files in a folder."""

    folder: Path

    def file(self, name: str) -> Path:
        """One of `NAMES`."""
        return self.folder / f"{name}.img"

    @property
    def card(self) -> RawEnvironment:
        """The boot environment; only while no loop device stands on it."""
        return RawEnvironment(self.file("card"), PLACES)


class Loops:
    """The loop devices of all media.

    Each is marked at once to go when its last user goes, and this object is one: so none outlives this process and the
    device, however they end. `close` may be called twice.
    """

    def __init__(self, media: Media) -> None:
        """Attach all of them.

        Raises:
            BuildError: The kernel gives none.
        """
        self._devices = dict[str, Path]()
        self._held = ExitStack()
        try:
            for name in NAMES:
                self._attach(name, media.file(name))
        except BaseException:
            self.close()
            raise

    def __getitem__(self, name: str) -> Path:
        return self._devices[name]

    def close(self) -> None:
        """Let go, and wait until the kernel has.

        Raises:
            BoardError: Something else still uses one.
        """
        self._held.close()
        until = time.monotonic() + HANG_SECONDS
        while left := [str(device) for device in self._devices.values() if _backing(device)]:
            if time.monotonic() > until:
                raise BoardError(f"still in use: {', '.join(left)}")
            time.sleep(0.01)
        self._devices.clear()

    def _attach(self, name: str, file: Path) -> None:
        device = Path(run("losetup", "--find", "--show", file).strip())
        try:
            self._held.callback(os.close, os.open(device, os.O_RDONLY | os.O_CLOEXEC))
        finally:
            run("losetup", "--detach", device)  # it is in use: done at the last close (loop(4), autoclear)
        self._devices[name] = device


def _backing(device: Path) -> str:
    """The file on which it stands; empty: none."""
    try:
        return Path(f"/sys/block/{device.name}/loop/backing_file").read_text().strip()
    except OSError:
        return ""
