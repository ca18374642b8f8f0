"""From a board's description to a board that can be switched on."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from twinslot.core.model import Floors, SlotName
from twinslot_image.factory import disk
from twinslot_image.factory.record import first_variables
from twinslot_image.factory.slot_image import make_slot_image
from twinslot_lab import kernel, rootfs, uboot
from twinslot_lab.cache import cached, fingerprint
from twinslot_lab.command import BUILD
from twinslot_lab.description import BoardDescription, load
from twinslot_lab.errors import as_build_error
from twinslot_lab.rootfs import Overlay


@dataclass(frozen=True, slots=True)
class BoardFiles:
    """What a board is started from. The files belong to the cache: copy, never change them.

    Attributes:
        board: Its description.
        folder: The directory of all of them.
    """

    board: BoardDescription
    folder: Path

    @property
    def firmware(self) -> Path:
        """U-Boot."""
        return self.folder / self.board.firmware.image

    @property
    def disk(self) -> Path:
        """The disk: the slot image in slot a, slot b blank, an empty data partition."""
        return self.folder / "disk.img"

    @property
    def card(self) -> Path:
        """What holds both copies of the factory environment: a card of its own, or the disk."""
        return self.folder / "card.img" if self.board.environment.card_mib else self.disk

    @property
    def slot(self) -> Path:
        """The slot image that slot a holds."""
        return self.folder / "slot.img"


def assemble(
    board: BoardDescription, folder: Path, firmware: Path, contents: Mapping[str, Path], variables: Mapping[str, str]
) -> None:
    """Put into a folder what `BoardFiles` names: firmware, disk, environment.

    Args:
        board: What it is for.
        folder: Must exist.
        firmware: U-Boot as built.
        contents: Images of partitions, by name.
        variables: The environment.
    """
    shutil.copy(firmware, folder / board.firmware.image)
    with as_build_error():
        disk.assemble(board.layout, folder / "disk.img", folder / "card.img", contents, variables, firmware)


def build_slot(
    board: BoardDescription, out: Path, *, debs: Sequence[Path] = (), overlays: Iterable[Overlay] = ()
) -> Path:
    """One slot image: the system, the packages, the overlays. The tree stands beside it as `<out>.tree`."""
    tree = out.with_name(out.name + ".tree")
    if tree.exists():
        shutil.rmtree(tree)
    rootfs.build_rootfs(board, tree, debs=debs, overlays=overlays)
    return make_slot(board, tree, out)


def make_slot(board: BoardDescription, tree: Path, out: Path) -> Path:
    """A tree as the image of one of this board's slots.

    Raises:
        BuildError: It does not fit, or the tree could not be read.
    """
    with as_build_error():
        return make_slot_image(tree, out, limit_mib=board.disk.slot_mib)


def make_data(board: BoardDescription, out: Path, record: Path | None = None) -> Path:
    """The data partition of a new board.

    Raises:
        BuildError: A program of the host failed.
    """
    with as_build_error():
        return disk.make_data(out, board.disk.data_mib, record)


def build_board(name: str = "virt-arm64", *, debs: Sequence[Path] = (), overlays: Sequence[Path] = ()) -> BoardFiles:
    """The board, from the cache or built (some two minutes from nothing, a second if nothing changed).

    Args:
        name: Which board.
        debs: The product's packages for slot a.
        overlays: Directories copied over the root file system of slot a.
    """
    board = load(name)
    firmware = build_parts(board)
    system = rootfs.system_tree(board)
    code = [Path(disk.__file__).parent, Path(rootfs.__file__), Path(uboot.__file__), Path(__file__)]
    key = fingerprint(str(firmware), str(system), vars_of(board), list(map(_digest, debs)), *overlays, *code)

    def make(work: Path) -> None:
        slot = build_slot(board, work / "slot.img", debs=debs, overlays=overlays)
        shutil.rmtree(work / "slot.img.tree")
        data = make_data(board, work / "data.img")
        assemble(board, work, firmware, {"slot_a": slot, "data": data}, first_variables(SlotName.A, Floors(1, 0, 1)))
        data.unlink()
        made_of = {"firmware": str(firmware), "system": str(system), "debs": [str(deb) for deb in debs]}
        (work / "board.json").write_text(json.dumps(made_of, indent=2) + "\n")

    return BoardFiles(board, cached("board", key, make, base=BUILD / "board" / board.name))


def build_parts(board: BoardDescription) -> Path:
    """Firmware, base and kernel side by side: none needs the other. Returns the firmware."""
    with ThreadPoolExecutor() as pool:
        parts = [pool.submit(make, board) for make in (uboot.build, rootfs.base_tar, kernel.packages)]
    firmware, *_ = [part.result() for part in parts]
    return firmware


def vars_of(board: BoardDescription) -> list[object]:
    """What of the description shapes the disk and the card."""
    return [asdict(board.disk), asdict(board.environment), board.firmware.place, board.firmware.offset]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
