"""pytest fixtures that give a test a board. Loaded with pytest; imports nothing heavy until a test asks."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from twinslot_lab.build import BoardFiles
    from twinslot_lab.qemu_board import QemuBoard

_FAILED = pytest.StashKey[bool]()


class BoardFactory(Protocol):
    """Makes boards with their own disks; off at first, cut when the test ends."""

    def __call__(
        self,
        name: str = "board",
        files: BoardFiles | None = None,
        *,
        extra: tuple[str, ...] = (),
        drives: Mapping[str, str] | None = None,
        stop_on_reset: bool = False,
    ) -> QemuBoard:
        """A board in the directory `name` of the test's artifacts; the options are those of `QemuBoard`."""
        ...


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember failures, so that the disks of a failed test are kept."""
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
    return report


@pytest.fixture(scope="session")
def board_files() -> BoardFiles:
    """The board as built from this checkout: TWINSLOT_BOARD names it, TWINSLOT_DEBS lists packages to install."""
    from twinslot_lab.build import build_board

    debs = [Path(word) for word in os.environ.get("TWINSLOT_DEBS", "").split(os.pathsep) if word]
    return build_board(os.environ.get("TWINSLOT_BOARD", "virt-arm64"), debs=debs)


@pytest.fixture
def artifacts(request: pytest.FixtureRequest) -> Path:
    """An empty directory of this test: build/artifacts/<test>. Console logs stay, disks only after a failure."""
    from twinslot_lab.command import BUILD

    folder = BUILD / "artifacts" / re.sub(r"[^\w.-]+", "_", request.node.nodeid)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def board_factory(request: pytest.FixtureRequest, board_files: BoardFiles, artifacts: Path) -> Iterator[BoardFactory]:
    """See `BoardFactory`."""
    from twinslot_lab.qemu_board import QemuBoard

    boards: list[QemuBoard] = []

    def make(
        name: str = "board",
        files: BoardFiles | None = None,
        *,
        extra: tuple[str, ...] = (),
        drives: Mapping[str, str] | None = None,
        stop_on_reset: bool = False,
    ) -> QemuBoard:
        board = QemuBoard(
            files or board_files, artifacts / name, extra=extra, drives=drives, stop_on_reset=stop_on_reset
        )
        boards.append(board)
        return board

    yield make
    for board in boards:
        board.cut()
        if not request.node.stash.get(_FAILED, False):
            board.disk.unlink(missing_ok=True)


@pytest.fixture
def fresh_board(board_factory: BoardFactory) -> QemuBoard:
    """A board as it leaves the factory, started and up."""
    board = board_factory()
    board.power_on()
    board.wait_up()
    return board
