"""Boards for the tests of the boot script alone and of the whole product."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Protocol

import pytest

from board.tiny_slots import make_slot
from twinslot.core.model import Floors, SlotName
from twinslot_image.factory.disk import write_at
from twinslot_image.factory.record import first_variables
from twinslot_lab import uboot
from twinslot_lab.build import BoardFiles, assemble
from twinslot_lab.demo import FACTORY
from twinslot_lab.description import load
from twinslot_lab.plugin import BoardFactory
from twinslot_lab.qemu_board import QemuBoard
from twinslot_lab.release import LabRelease, ReleaseTeam


@pytest.fixture(autouse=True)
def told_in_its_own_name() -> Iterator[None]:
    """A socket or file that a test forgot to close is an error; without this, of whichever test runs at that time."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def tiny_board(tmp_path_factory: pytest.TempPathFactory) -> BoardFiles:
    """U-Boot with two slots that start, one that lacks its initrd beside them, and no operating system at all."""
    board = load()
    folder = tmp_path_factory.mktemp("tiny")
    slots = {f"slot_{name}": make_slot(name, tmp_path_factory.mktemp(name)) for name in ("a", "b")}
    assemble(board, folder, uboot.build(board), slots, first_variables(SlotName.A, Floors(1, 0, 1)))
    return BoardFiles(board, folder)


@pytest.fixture(scope="session")
def team() -> ReleaseTeam:
    """Builds and signs releases of the emulated product; shared, since each takes half a minute."""
    return ReleaseTeam()


class TrialFactory(Protocol):
    """Makes a board whose next boot tries a release, as after an install that was cut short right behind arming."""

    def __call__(self, release: LabRelease) -> QemuBoard:
        """The board, off. Slot a holds release 1.0, slot b the given one."""
        ...


@pytest.fixture
def trial_board(team: ReleaseTeam, board_factory: BoardFactory) -> TrialFactory:
    """See `TrialFactory`. The install itself has tests of its own; without it a failing trial takes half the time."""

    def make(release: LabRelease) -> QemuBoard:
        image = team.image(release)
        board = board_factory(files=team.factory(FACTORY))
        write_at(board.disk, board.files.board.disk.partitions()["slot_b"][0], image.slot)
        board.card.update_both(
            slot="b",
            slot_b="trial",
            upgrade_available="1",
            bootcount="0",
            ts_release=str(release.sequence),
            ts_release_epoch=str(release.epoch),
            ts_generation="2",
            ts_txn=f"{release.sequence:032x}",
        )
        return board

    return make
