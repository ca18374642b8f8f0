"""What is tested, by name: a board of the lab with the emulated product, the reader's own system on it, or a real one.

`open_board` is the one place where a board is made, so that a test never says which kind it runs on.
"""

from __future__ import annotations

import shutil
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinslot_lab.board import Board
from twinslot_lab.build import BoardFiles
from twinslot_lab.demo import FACTORY
from twinslot_lab.errors import BoardError, LabError
from twinslot_lab.own import OwnTeam
from twinslot_lab.own import parse as parse_own
from twinslot_lab.qemu_board import HOST, QemuBoard
from twinslot_lab.release import ReleaseTeam


@dataclass(frozen=True, slots=True)
class EmulatedDevice:
    """A board in QEMU. `files` are built only when first asked for.

    Attributes:
        name: For people and for the memory of what is broken.
        team: Builds its releases.
    """

    name: str
    team: ReleaseTeam

    @property
    def host(self) -> str:
        """Our address, as the guest sees it."""
        return HOST

    @property
    def listen(self) -> str:
        """Our address on which to serve it."""
        return "127.0.0.1"

    @property
    def files(self) -> BoardFiles:
        """The board as it leaves the factory, release 1.0 in slot a; from the cache or built."""
        return self.team.factory(FACTORY)


@dataclass(frozen=True, slots=True)
class RealDevice:
    """A board on a desk: its file says how to reach console and power (serial_board.py)."""

    name: str
    file: Path
    data: dict[str, Any]

    @property
    def host(self) -> str:
        """Our address, as the board sees it."""
        return str(self.data.get("host", "127.0.0.1"))

    @property
    def listen(self) -> str:
        """Our address on which to serve it."""
        return str(self.data.get("listen", self.host))

    @property
    def images(self) -> Path:
        """Where its release team's images are."""
        return self.file.parent / str(self.data.get("images", "images"))


Device = EmulatedDevice | RealDevice


def find(name: str) -> Device:
    """The device of that name.

    Args:
        name: A board of the lab, such as `virt-arm64`, or the path of a TOML file (own.py, serial_board.py).

    Raises:
        LabError: There is none, or its file is wrong.
    """
    if not name.endswith(".toml"):
        return EmulatedDevice(name, ReleaseTeam(name))
    file = Path(name).absolute()
    try:
        data = tomllib.loads(file.read_text())
    except (OSError, ValueError) as e:
        raise LabError(f"the board's file '{file}' cannot be read: {e}") from e
    kind = data.get("kind")
    if kind == "real":
        return RealDevice(str(data.get("name", file.stem)), file, data)
    if kind == "emulated":
        own = parse_own(data, file.parent)
        return EmulatedDevice(own.name, OwnTeam(own))
    raise LabError(f"'{file}' is of kind '{kind}'", hint='kind = "emulated" or "real"')


def open_board(device: Device, folder: Path, *, running: bool = False) -> Board:
    """The board, off; or, with `running`, up and answering. Its disks and its log are in the folder.

    Raises:
        LabError: It could not be built, or did not come up.
    """
    if isinstance(device, RealDevice):
        return _open_real(device, folder, running=running)
    if running:
        return _thaw(device.files, folder)
    return QemuBoard(device.files, folder)


def _thaw(files: BoardFiles, folder: Path) -> QemuBoard:
    from twinslot_lab import snapshot

    frozen = snapshot.booted(files, folder / "first-start")
    folder.mkdir(parents=True, exist_ok=True)
    said = frozen.folder / "console.log"  # of the start that was frozen; QEMU appends to it
    if said.exists():
        shutil.copyfile(said, folder / "console.log")
    return frozen.start(folder)


def _open_real(device: RealDevice, folder: Path, *, running: bool) -> Board:
    from twinslot_lab.serial_board import SerialBoard

    board = SerialBoard.open(device.data, folder)
    if running:
        try:
            board.power_on()
            board.wait_up()
        except BaseException:
            with suppress(BoardError):  # the first cause counts
                board.cut()
            board.close()  # whoever opens the line next is to hear all of it
            raise
    return board
