"""`python -m twinslot_lab try`: the story, and on a terminal a shell in its device. Everything goes away in the end."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from twinslot_lab.errors import LabError
from twinslot_lab.fileserver import FileServer
from twinslot_lab.network_faults import NetworkFaults, Proxy
from twinslot_lab.try_device import needs, story
from twinslot_lab.try_device.machine import LocalDevice
from twinslot_lab.try_device.media import Media
from twinslot_lab.try_device.releases import FACTORY, PLAY, STORY, TryRelease, TryTeam
from twinslot_lab.try_device.story_output import StoryPrinter

HOST = "127.0.0.1"
SLOW = 2 << 20  # bytes a second of the second address: time to cut the power


@dataclass(frozen=True, slots=True)
class TryBench:
    """A device that is powered off, and its web server."""

    machine: LocalDevice
    team: TryTeam
    server: str
    port: int


def run(words: argparse.Namespace) -> int:
    """The exit status: 0, or 130 when a key stopped it.

    Raises:
        LabError: This machine lacks something, or the story went wrong.
    """
    needs.check(Path(sys.prefix), os.geteuid())
    shell = sys.stdin.isatty() and sys.stdout.isatty() and not (words.story or words.json)
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGHUP, _stop)
    printer = StoryPrinter(sys.stderr if words.json else sys.stdout, story.STEPS)
    try:
        report = _try(printer, words.folder.resolve(), shell=shell)
    except KeyboardInterrupt:
        printer.line("\nstopped; the device is taken away")
        return 130
    if words.json:
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    return 0


def _try(printer: StoryPrinter, folder: Path, *, shell: bool) -> dict[str, Any]:
    printer.line("A device is made of loop devices and name spaces of this machine, with the real client in two slots.")
    printer.line(f"No emulation, nothing outside of {folder}, all of it goes away. About half a minute.")
    releases = (*STORY, *PLAY) if shell else STORY
    with workbench(folder / "device", releases, FACTORY, printer.note) as bench:
        printer.note(f"{printer.seconds:.1f} s: keys, {len(releases)} signed images and their patches are made")
        made = printer.seconds
        told = story.Story(bench.machine, bench.team, bench.server, bench.port, printer)
        told.live()
        facts = {"seconds": printer.seconds, "made_seconds": made, "updates": told.updates, "cut": told.cut}
        report = facts | {"steps": printer.told}
        path = folder / "report.json"
        path.write_text(json.dumps(report, indent=2) + "\n")
        printer.line(f"\n{printer.seconds:5.1f} s  all of it ended as it must; report: {path}\n")
        if shell:
            from twinslot_lab.try_device.shell import play

            play(bench.machine, printer)
    printer.line("the device is taken away. Next: 'make demo', the same on an emulated board with U-Boot and systemd")
    return report


@contextlib.contextmanager
def workbench(
    folder: Path, releases: Sequence[TryRelease], factory: TryRelease, told: Callable[[str], object] = lambda _: None
) -> Iterator[TryBench]:
    """A new device and its releases, until the block ends; then nothing of it is left.

    Args:
        folder: Of its own; removed.
        releases: To be built and served, in this order.
        factory: The one in slot a.
        told: Hears of each release before it is made, some seconds of work.

    Raises:
        LabError: Another one is in this folder, or a tool refused.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder.parent), contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        team = TryTeam(folder)
        for number, release in enumerate(releases, 1):
            told(
                f"release {release.name} is built, signed and compared with the one before: {number} of {len(releases)}"
            )
            team.make(release)
        team.forge(releases[-1])
        media = Media(folder / "media")
        team.manufacture(media, factory)
        server = stack.enter_context(FileServer(team.served, seen_as=HOST))
        slow = stack.enter_context(Proxy(server.port, NetworkFaults(rate=SLOW)))
        address = f"http://{HOST}:{server.port}"
        settings = {"SERVER": address, "SLOW": f"http://{HOST}:{slow.port}", "TERM": os.environ.get("TERM", "dumb")}
        machine = LocalDevice(media, Path(sys.prefix), settings)
        stack.callback(machine.close)
        yield TryBench(machine, team, address, server.port)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as e:
        raise LabError(f"expected '{folder}' to be free, found another device in it", hint="end the other one") from e
    finally:
        os.close(number)


def _stop(number: int, _: object) -> NoReturn:
    """End in order: the device is taken away."""
    raise SystemExit(128 + number)
