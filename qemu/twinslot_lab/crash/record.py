"""A real board goes through a story on logged drives; the log is kept by what went into it.

The whole story: a good update (install, arm, reboot, trial, commit), then a bad one and its rollback. The short one
ends with the commit. Images come over the network, so that the data partition sees only what the client writes.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from twinslot_lab.build import BoardFiles
from twinslot_lab.cache import cached, fingerprint
from twinslot_lab.command import BUILD, run
from twinslot_lab.crash import log
from twinslot_lab.demo import BAD, FACTORY, GOOD
from twinslot_lab.errors import GuestError
from twinslot_lab.fileserver import FileServer
from twinslot_lab.product import Product
from twinslot_lab.progress import say
from twinslot_lab.qemu_board import QemuBoard
from twinslot_lab.release import Image, ReleaseTeam

WHOLE: Final = "whole"
SHORT: Final = "short"
_QUIET: Final = 12  # seconds at the end, so that the guest writes back what it still holds


@dataclass(frozen=True, slots=True)
class Recording:
    """A kept recording.

    Attributes:
        folder: `log`, `data`, `marks.json`; `disk.img` and `card.img` as the server's files were in the end.
        files: What the board was started from.
        images: Every release that may run.
    """

    folder: Path
    files: BoardFiles
    images: tuple[Image, ...]

    @property
    def disk(self) -> Path:
        """The disk before the first write."""
        return self.files.disk

    @property
    def card(self) -> Path:
        """The card before the first write."""
        return self.files.card

    @property
    def marks(self) -> list[tuple[int, str]]:
        """From which entry on the board did what."""
        return [(int(at), str(what)) for at, what in json.loads((self.folder / "marks.json").read_text())]


def record(story: str = WHOLE) -> Recording:
    """The recording of a story; from `build/crash`, or made (some minutes, 1.5 GB); older ones of it are removed then.

    Raises:
        LabError: The board did not do what the story says.
    """
    team = ReleaseTeam()
    files, good = team.factory(FACTORY), team.image(GOOD)
    images = (team.image(FACTORY), good, *((team.image(BAD),) if story == WHOLE else ()))
    key = fingerprint(story, str(files.folder), [str(image.path) for image in images], *_code())
    name, base = f"recording-{story}", BUILD / "crash"
    for older in (*base.glob(f"{name}-*"), *base.glob(f".{name}-*.new")):  # the latter: a recording that failed
        if key not in older.name:
            shutil.rmtree(older, ignore_errors=True)
    folder = cached(name, key, lambda work: _record(work, files, images[1:]), base=base)
    return Recording(folder, files, images)


def _code() -> tuple[Path, ...]:
    return Path(__file__), log.PLUGIN


def _record(work: Path, files: BoardFiles, images: tuple[Image, ...]) -> None:
    disk, card = work / "disk.img", work / "card.img"
    for source, copy in ((files.disk, disk), (files.card, card)):
        run("cp", "--sparse=always", source, copy)
    marks: list[tuple[int, str]] = []

    def mark(what: str) -> None:
        marks.append(((work / "log").stat().st_size // log.ENTRY.size, what))
        say(f"{marks[-1][0]:6d} entries: {what}")

    with log.served(work, disk, card) as drives, QemuBoard(files, work / "board", drives=drives) as board:
        mark("first start")
        board.power_on()
        board.wait_up(slot="a")
        for image in images:
            _update(board, image, mark)
        time.sleep(_QUIET)
    (work / "marks.json").write_text(json.dumps(marks) + "\n")
    for left in ("disk.img", "card.img"):
        (work / "board" / left).unlink(missing_ok=True)


def _update(board: QemuBoard, image: Image, mark: Callable[[str], None]) -> None:
    product, name = Product(board), image.release.name
    mark(f"install {name}")
    with FileServer(image.path.parent) as server:
        product.install(server.url(image.path.name), seconds=900)
    mark(f"restart into {name}")
    board.reboot()
    board.wait_up(600, slot="b", through_failures=True)
    mark(f"{name} is up")
    product.wait_idle()
    last: dict[str, Any] = product.history()[0]
    wanted = "committed" if image.release.motor == "ready" else "rolled-back"
    if last["release"]["name"] != name or last["outcome"] != wanted:
        raise GuestError(f"release {name} ended {last['outcome']}, not {wanted}: {last['reason']}")
    mark(f"{name}: {wanted}")
