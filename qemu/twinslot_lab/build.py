"""From a board's description to a board that can be switched on."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from twinslot_lab import kernel, rootfs, slotimage, uboot
from twinslot_lab.cache import cached, fingerprint
from twinslot_lab.command import BUILD
from twinslot_lab.description import BoardDescription, load
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
        """GPT disk: the slot image in slot a, slot b blank, an empty data partition."""
        return self.folder / "disk.img"

    @property
    def card(self) -> Path:
        """The card with both copies of the factory environment."""
        return self.folder / "card.img"

    @property
    def slot(self) -> Path:
        """The slot image that slot a holds."""
        return self.folder / "slot.img"


def build_slot(
    board: BoardDescription, out: Path, *, debs: Sequence[Path] = (), overlays: Iterable[Overlay] = ()
) -> Path:
    """One slot image: the system, the packages, the overlays. The tree stands beside it as `<out>.tree`."""
    tree = out.with_name(out.name + ".tree")
    if tree.exists():
        shutil.rmtree(tree)
    rootfs.build_rootfs(board, tree, debs=debs, overlays=overlays)
    return slotimage.build(tree, out, limit_mib=board.disk.slot_mib)


def build_board(name: str = "virt-arm64", *, debs: Sequence[Path] = (), overlays: Sequence[Path] = ()) -> BoardFiles:
    """The board, from the cache or built (some ten minutes from nothing, a second if nothing changed).

    Args:
        name: Which board.
        debs: The product's packages for slot a.
        overlays: Directories copied over the root file system of slot a.
    """
    board = load(name)
    with ThreadPoolExecutor() as pool:  # what does not need the other; each is a host program most of the time
        parts = [pool.submit(make, board) for make in (uboot.build, rootfs.base_tar, kernel.packages)]
    firmware, *_ = [part.result() for part in parts]
    system = rootfs.system_tree(board)
    code = [Path(slotimage.__file__), Path(rootfs.__file__), Path(uboot.__file__), Path(__file__)]
    key = fingerprint(str(firmware), str(system), vars_of(board), list(map(_digest, debs)), *overlays, *code)

    def make(work: Path) -> None:
        shutil.copy(firmware, work / board.firmware.image)
        slot = build_slot(board, work / "slot.img", debs=debs, overlays=overlays)
        shutil.rmtree(work / "slot.img.tree")
        data = slotimage.make_data(work / "data.img", board.disk.data_mib)
        slotimage.make_disk(board, work / "disk.img", {"slot_a": slot, "data": data})
        data.unlink()
        uboot.make_card(board, work / "card.img", uboot.factory_environment(board))
        made_of = {"firmware": str(firmware), "system": str(system), "debs": [str(deb) for deb in debs]}
        (work / "board.json").write_text(json.dumps(made_of, indent=2) + "\n")

    return BoardFiles(board, cached("board", key, make, base=BUILD / "board" / board.name))


def vars_of(board: BoardDescription) -> list[object]:
    """What of the description shapes the disk and the card."""
    return [board.disk.slot_mib, board.disk.data_mib, board.environment.offsets, board.environment.size]


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
