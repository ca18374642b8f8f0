"""Boards for tests of the boot script alone: real U-Boot, and slots whose kernel only says its name."""

from __future__ import annotations

import pytest

from board.tiny_slots import make_slot
from twinslot_lab import slotimage, uboot
from twinslot_lab.build import BoardFiles
from twinslot_lab.description import load


@pytest.fixture(scope="session")
def tiny_board(tmp_path_factory: pytest.TempPathFactory) -> BoardFiles:
    """U-Boot with two slots that start, one that lacks its initrd beside them, and no operating system at all."""
    board = load()
    folder = tmp_path_factory.mktemp("tiny")
    (folder / board.firmware.image).write_bytes(uboot.build(board).read_bytes())
    slots = {f"slot_{name}": make_slot(name, tmp_path_factory.mktemp(name)) for name in ("a", "b")}
    slotimage.make_disk(board, folder / "disk.img", slots)
    uboot.make_card(board, folder / "card.img", uboot.factory_environment(board))
    return BoardFiles(board, folder)
