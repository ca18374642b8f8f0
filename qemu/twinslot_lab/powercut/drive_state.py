"""What a cut left on the drives, read without booting, and what the boot script must make of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinslot_lab.build import BoardFiles
from twinslot_lab.crash.bootmodel import Card, power_on
from twinslot_lab.qemu_board import QemuBoard

_MAGIC_AT, _MAGIC = (
    1024,
    bytes.fromhex("e2e1f5e0"),
)  # EROFS_SUPER_MAGIC_V1 in the superblock (Linux fs/erofs/erofs_fs.h)


@dataclass(frozen=True, slots=True)
class DriveState:
    """The environment after a cut.

    Attributes:
        copies: Both copies as they stand, JSON-ready.
        variables: Those of the copy that counts.
        slot: What the next start must run; empty: nothing can.
    """

    copies: tuple[dict[str, Any], dict[str, Any]]
    variables: Mapping[str, str]
    slot: str

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"copies": list(self.copies), "next": self.slot}


def look(board: QemuBoard) -> DriveState:
    """Read the drives of a board that is off. A slot loads if its superblock stands: it is written last (S5)."""
    raw = [_read(board.card.path, place.offset, place.size) for place in board.card.places]
    card = Card.read(raw[0], raw[1])
    whole = {slot: _has_superblock(board.disk, board.files, slot) for slot in ("a", "b")}
    copies = [{"good": c.good, "flags": c.flags, "variables": dict(c.variables)} for c in card.copies]
    return DriveState((copies[0], copies[1]), card.variables, power_on(card, lambda slot: whole[slot]).slot or "")


def _has_superblock(disk: Path, files: BoardFiles, slot: str) -> bool:
    start, _ = files.board.disk.partitions()[f"slot_{slot}"]
    return _read(disk, start + _MAGIC_AT, len(_MAGIC)) == _MAGIC


def _read(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)
