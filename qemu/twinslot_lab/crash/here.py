"""The story of two payloads, recorded on this machine: a good update and its commit, a bad one and its rollback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import twinslot
from twinslot.core.transaction import Outcome
from twinslot_lab.build import BoardFiles
from twinslot_lab.cache import cached, fingerprint
from twinslot_lab.command import BUILD, run
from twinslot_lab.crash import log, loops
from twinslot_lab.crash.host import HostDevice, devices_of
from twinslot_lab.crash.record import Recording
from twinslot_lab.crash.small import SmallTeam
from twinslot_lab.demo import BAD, FACTORY, GOOD
from twinslot_lab.errors import LabError
from twinslot_lab.progress import say
from twinslot_lab.release import Image

TWO_PAYLOADS: Final = "two-payloads"


def record_here() -> Recording:
    """The recording of the story; from `build/crash`, or made in seconds. Needs root, for loop devices and mounts.

    Raises:
        LabError: The device did not do what the story says, or this machine cannot be it.
    """
    team = SmallTeam()
    files, images = team.factory(FACTORY), tuple(map(team.image, (FACTORY, GOOD, BAD)))
    code = (Path(twinslot.__file__).parent, Path(__file__).parent)
    key = fingerprint(str(files.folder), [str(image.path) for image in images], *code)
    name = f"recording-{TWO_PAYLOADS}"
    folder = cached(name, key, lambda work: _record(work, team, files, images), base=BUILD / "crash", keep=0)
    return Recording(folder, files, images)


def _record(work: Path, team: SmallTeam, files: BoardFiles, images: tuple[Image, ...]) -> None:
    disk, card = work / "disk.img", work / "card.img"
    for source, copy in ((files.disk, disk), (files.card, card)):
        run("cp", "--sparse=always", source, copy)
    marks: list[tuple[int, str]] = []

    def mark(what: str) -> None:
        marks.append(((work / "log").stat().st_size // log.ENTRY.size, what))
        say(f"{marks[-1][0]:6d} entries: {what}")

    factory, *updates = images
    with (
        log.served(work, disk, card) as drives,
        loops.exported(work, drives) as exports,
        devices_of(files.board, exports) as devices,
        HostDevice(team, devices, work, factory) as device,
    ):
        mark("first start")
        device.start()
        for image in updates:
            _update(device, image, mark)
    (work / "marks.json").write_text(json.dumps(marks) + "\n")


def _update(device: HostDevice, image: Image, mark: Callable[[str], None]) -> None:
    name = image.release.name
    mark(f"install {name}")
    device.install(image)
    mark(f"restart into {name}")
    device.start()
    wanted = Outcome.COMMITTED if image.release.motor == "ready" else Outcome.ROLLED_BACK
    last = device.newest()
    if last.release.name != name or last.outcome is not wanted:
        raise LabError(f"release {name} ended {last.outcome}, not {wanted}: {last.reason}")
    mark(f"{name}: {wanted}")
