"""The fixtures that give a test a board. docs/testing-your-device.md shows them at work."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from twinslot_lab.board import Board
    from twinslot_lab.boot_log import BootLog
    from twinslot_lab.broken import BrokenBoards
    from twinslot_lab.build import BoardFiles
    from twinslot_lab.device import Device
    from twinslot_lab.image_factory import ImageFactory, ReadyImages
    from twinslot_lab.power import Power
    from twinslot_lab.present_console import PresentConsole
    from twinslot_lab.product import Product
    from twinslot_lab.qemu_board import QemuBoard
    from twinslot_lab.release import Image

_WATCH = pytest.StashKey["BoardWatch"]()

Serve = Callable[["Image | Path"], str]


@dataclass
class BoardWatch:
    """What a test uses, remembered for the case that it fails."""

    boards: dict[Path, Board | None] = field(default_factory=dict)  # by folder; None: it never came to be
    power: list[Power] = field(default_factory=list)
    has_failed: bool = False

    @classmethod
    def of(cls, item: pytest.Item) -> BoardWatch:
        """That of one test."""
        return item.stash.setdefault(_WATCH, cls())

    def failed(self, report: pytest.TestReport) -> None:
        """Gather the evidence and name it in the report."""
        self.has_failed = True
        if report.when == "teardown":
            return
        for folder, board in self.boards.items():
            from twinslot_lab.evidence import gather  # a test without a board does without the lab's libraries

            report.sections.append((f"board in {folder}", "\n".join(gather(board, folder))))
        for power in self.power:
            if power.account:
                again = f"repeat with --power-seed={power.seed}"
                report.sections.append(("power", "\n".join([*power.account, again])))


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


@pytest.fixture(scope="session")
def board_files(pytestconfig: pytest.Config) -> BoardFiles:
    """The bare board of the lab as built from this checkout; TWINSLOT_DEBS lists packages to install."""
    from twinslot_lab import inputs
    from twinslot_lab.build import build_board
    from twinslot_lab.plugin import board_name

    debs = [Path(word) for word in os.environ.get("TWINSLOT_DEBS", "").split(os.pathsep) if word]
    files = build_board(board_name(pytestconfig), debs=debs)
    inputs.note([files.board.name])
    return files


@pytest.fixture(scope="session")
def device(pytestconfig: pytest.Config) -> Device:
    """What is tested: `--board`, else TWINSLOT_BOARD, else `twinslot_board` in pytest's ini file, else virt-arm64."""
    from twinslot_lab.device import find
    from twinslot_lab.plugin import board_name

    return find(board_name(pytestconfig))


@pytest.fixture(scope="session")
def broken_boards(tmp_path_factory: pytest.TempPathFactory) -> BrokenBoards:
    """The memory of this session, shared by the workers of pytest-xdist."""
    from twinslot_lab.broken import BrokenBoards

    base = tmp_path_factory.getbasetemp()
    return BrokenBoards((base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "broken-boards")


@pytest.fixture
def artifacts(request: pytest.FixtureRequest) -> Iterator[Path]:
    """An empty directory of this test: build/artifacts/<test>. Console logs stay; the rest only after a failure."""
    from twinslot_lab.command import BUILD

    folder = BUILD / "artifacts" / re.sub(r"[^\w.-]+", "_", request.node.nodeid)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    yield folder
    if not BoardWatch.of(request.node).has_failed:
        for large in (*folder.rglob("*.img"), *folder.rglob("memory")):  # drives, and boards that were frozen
            large.unlink()


def _nothing() -> None:
    """A board that has no line to let go."""


@pytest.fixture
def _watch(request: pytest.FixtureRequest) -> Iterator[BoardWatch]:
    """Cuts every board of the test when it ends."""
    watch = BoardWatch.of(request.node)
    yield watch
    with ExitStack() as stack:  # every one, also if one of them fails
        for board in filter(None, watch.boards.values()):
            stack.callback(getattr(board, "close", _nothing))  # a real one's serial line: two would share what is said
            stack.callback(board.cut)


@pytest.fixture
def board_factory(request: pytest.FixtureRequest, artifacts: Path, _watch: BoardWatch) -> BoardFactory:
    """See `BoardFactory`."""
    from twinslot_lab.qemu_board import QemuBoard

    def make(
        name: str = "board",
        files: BoardFiles | None = None,
        *,
        extra: tuple[str, ...] = (),
        drives: Mapping[str, str] | None = None,
        stop_on_reset: bool = False,
    ) -> QemuBoard:
        files = files or request.getfixturevalue("board_files")
        folder = artifacts / name
        board = QemuBoard(files, folder, extra=extra, drives=drives, stop_on_reset=stop_on_reset)
        _watch.boards[folder] = board
        return board

    return make


@pytest.fixture
def board(
    request: pytest.FixtureRequest, device: Device, artifacts: Path, broken_boards: BrokenBoards, _watch: BoardWatch
) -> Board:
    """The device, up: an emulated one goes on from a snapshot (some seconds), a real one is switched on."""
    from twinslot_lab.device import open_board

    folder = artifacts / "board"
    with broken_boards.coming_up(device.name, request.node.nodeid):
        _watch.boards[folder] = None
        _watch.boards[folder] = board = open_board(device, folder, running=True)
    return board


@pytest.fixture
def fresh_board(board_factory: BoardFactory, board_files: BoardFiles) -> QemuBoard:
    """A bare board as it leaves the factory, in its first start, up."""
    board = board_factory(files=board_files)
    board.power_on()
    board.wait_up()
    return board


@pytest.fixture
def power(board: Board, pytestconfig: pytest.Config, _watch: BoardWatch) -> Power:
    """The power of `board`: on, off, cut, cut_after, cut_within, reset. Drawn moments follow `--power-seed`."""
    from twinslot_lab.power import Power

    seed = pytestconfig.getoption("--power-seed")
    power = Power(board, secrets.randbelow(1 << 31) if seed is None else seed)
    _watch.power.append(power)
    return power


@pytest.fixture
def console(board: Board) -> PresentConsole:
    """The serial console of `board`, through all its starts."""
    from twinslot_lab.present_console import PresentConsole

    return PresentConsole(board)


@pytest.fixture
def boot_log(board: Board) -> BootLog:
    """What `board` said in its last start, from the firmware on: `boot_log.text`, `"words" in boot_log`."""
    from twinslot_lab.boot_log import BootLog
    from twinslot_lab.present_console import PresentConsole

    return BootLog(PresentConsole(board), getattr(board, "log", None))


@pytest.fixture
def product(board: Board) -> Product:
    """The update client on `board`, asked by its own JSON."""
    from twinslot_lab.product import Product

    return Product(board)


@pytest.fixture
def image_factory(device: Device) -> ImageFactory | ReadyImages:
    """Makes signed update images for the device, see `ImageFactory`; those of a real board stand ready in a folder."""
    from twinslot_lab.device import EmulatedDevice
    from twinslot_lab.image_factory import ImageFactory, ReadyImages

    if isinstance(device, EmulatedDevice):
        return ImageFactory(device.team)
    return ReadyImages(device.images)


@pytest.fixture
def serve(device: Device) -> Iterator[Serve]:
    """Puts an image (or any file) on a web server; returns its address as the board reaches it."""
    from twinslot_lab.fileserver import FileServer
    from twinslot_lab.release import Image

    with ExitStack() as stack:

        def start(what: Image | Path) -> str:
            path = what.path if isinstance(what, Image) else what
            server = FileServer(path.parent, listen=device.listen, seen_as=device.host)
            return stack.enter_context(server).url(path.name)

        yield start
