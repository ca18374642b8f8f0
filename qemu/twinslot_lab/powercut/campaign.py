"""Many cuts: drawn by number, done by several boards at once, resumed where a run ended, told in a report."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinslot_lab import inputs, jsonfile
from twinslot_lab.cache import fingerprint
from twinslot_lab.client_digest import client_subject
from twinslot_lab.command import BUILD
from twinslot_lab.demo import BAD, FACTORY, GOOD
from twinslot_lab.description import BoardDescription
from twinslot_lab.errors import LabError
from twinslot_lab.powercut import plan, starting_point, story
from twinslot_lab.powercut.cut import FrozenStory, Report, perform
from twinslot_lab.powercut.plan import COLD, WARM, Cut, CutPhase, draw
from twinslot_lab.powercut.verdict import SlotContents
from twinslot_lab.progress import say
from twinslot_lab.release import LabRelease, ReleaseTeam
from twinslot_lab.snapshot import emulator_version

HOME = BUILD / "powercut"
BRICKS = HOME / "bricks"
_KEPT = 10  # bricks whose drives stay; each takes about half a GB

Line = dict[str, Any]


@dataclass(frozen=True)
class CampaignSetup:
    """Everything that cuts on one board need: its stories, lived and frozen, and what all of it is made of."""

    name: str
    phases: tuple[CutPhase, ...]
    stories: dict[str, FrozenStory]
    made_of: dict[str, Any]

    def perform(self, cut: Cut, folder: Path) -> Report:
        """One cut; see `cut.perform`."""
        return perform(cut, self.stories[cut.phase.story], folder)

    def system(self, cut: Cut) -> SlotContents:
        """What the slots may hold in this cut's story."""
        return self.stories[cut.phase.story].system


def phases_of(board: BoardDescription) -> tuple[CutPhase, ...]:
    """What power can be cut in: a board that cannot be frozen has fewer phases."""
    return WARM if board.console.agent == "virtio-serial" else COLD


def prepare(board: str, *, cuts: Iterable[Cut] | None = None) -> CampaignSetup:
    """Live and freeze the stories that the phases need, two at once; from the cache, or some ten minutes.

    Args:
        board: Its name.
        cuts: No others will be asked for: stories that none of them is in are not lived, and parts of a story that
            none of them begins with are not frozen.
    """
    team = ReleaseTeam(board)
    phases = phases_of(team.board)
    factory, old = team.factory(FACTORY), team.image(FACTORY)
    wanted = stories_of(phases if cuts is None else [cut.phase for cut in cuts])
    new = {name: team.image(_installed(name)) for name in wanted}
    homes = dict(zip(wanted, live((board, name, points) for name, points in wanted.items()), strict=True))
    stories = {
        name: FrozenStory(team.board, homes[name], starting_point.load(homes[name]), SlotContents(old, new[name]))
        for name in new
    }
    made_of = {
        "emulator": emulator_version(team.board.machine.emulator),
        "factory": factory.folder.name,
        "stories": {name: home.name for name, home in homes.items()},
        "images": {image.release.name: image.digest for image in (old, *new.values())},
        "client": team.deb.name,
        "subject": client_subject(),
        "plan": fingerprint(Path(plan.__file__)),
        "phase_seconds": {s.name: s.seconds for frozen in stories.values() for s in frozen.starting_points.values()},
    }
    return CampaignSetup(board, phases, stories, made_of)


def stories_of(phases: Iterable[CutPhase]) -> dict[str, frozenset[str]]:
    """The stories that these phases are parts of, the longest first, each with the starting points of the phases."""
    phases = tuple(phases)
    wanted = {
        name: frozenset(phase.starting_point for phase in phases if phase.story == name) for name in story.STORIES
    }
    return {name: points for name, points in wanted.items() if points}


def live(stories: Iterable[tuple[str, str, frozenset[str]]]) -> list[Path]:
    """Live stories, two at once; returns where each is.

    Args:
        stories: Of each the board's name, its own, and the starting points to freeze.
    """

    def one(wanted: tuple[str, str, frozenset[str]]) -> Path:
        board, name, points = wanted
        team = ReleaseTeam(board)
        return story.tell(name, team.factory(FACTORY), team.image(_installed(name)), points)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, stories))


def _installed(story_name: str) -> LabRelease:
    return BAD if story_name == "bad" else GOOD


class Campaign:
    """The cuts of one board and seed, under build/powercut/<board>-<seed>.

    Args:
        setup: See there.
        seed: Draws the cuts.
        tell: Is given each finished line.
    """

    def __init__(self, setup: CampaignSetup, seed: int, tell: Callable[[Line], None]) -> None:
        self.setup, self.seed, self._tell = setup, seed, tell
        self.folder = HOME / f"{setup.name}-{seed}"
        self._lock = threading.Lock()
        self._stopping = False
        self._lines = self._resume()

    def run(self, numbers: Iterable[int], jobs: int) -> list[Line]:
        """Do the cuts that are not done yet; returns all lines so far, by number.

        Raises:
            LabError: The lab failed twice before a cut.
        """
        self._write_reports()  # also if nothing is left to do, and instead of what an earlier client's run told
        todo = [number for number in numbers if number not in self._lines]
        with ThreadPoolExecutor(jobs) as pool:
            try:
                for _ in pool.map(self._one, todo):
                    pass
            except BaseException:
                self._stopping = True
                pool.shutdown(cancel_futures=True)
                raise
        return self.lines

    def forget(self, number: int) -> None:
        """Do this cut again, although it is done."""
        self._lines.pop(number, None)

    @property
    def lines(self) -> list[Line]:
        """What is done, by number."""
        return [self._lines[number] for number in sorted(self._lines)]

    def _one(self, number: int) -> None:
        line = one(self.setup, self.seed, number, self.folder / f"cut-{number}")
        if self._stopping and line["problems"]:
            return  # ^C in a terminal ends the emulators, too: no verdict, and the same command does this cut again
        with self._lock:
            self._lines[number] = line
            with (self.folder / "cuts.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            self._write_reports()
        self._tell(line)

    def _resume(self) -> dict[int, Line]:
        """Lines of an earlier run, if it was about the same things; otherwise they are put aside."""
        self.folder.mkdir(parents=True, exist_ok=True)
        about, done = self.folder / "made_of.json", self.folder / "cuts.jsonl"
        if about.exists() and json.loads(about.read_text()) != self.setup.made_of:
            for file in (about, done):
                if file.exists():
                    file.replace(file.with_name(f"{file.name}.before"))
        about.write_text(json.dumps(self.setup.made_of, indent=1) + "\n")
        said = done.read_text().splitlines() if done.exists() else []
        lines = {line["number"]: line for line in map(_whole, said) if line}
        whole = done.with_name(".cuts.jsonl")  # without a line that was cut short, or the next would join it
        whole.write_text("".join(json.dumps(line) + "\n" for line in lines.values()))
        whole.replace(done)
        return lines

    def _write_reports(self) -> None:
        bricks = sum(line["outcome"] == "BRICK" for line in self.lines)
        about = {"board": self.setup.name, "seed": self.seed, "made_of": self.setup.made_of}
        jsonfile.replace(self.folder / "report.json", about | {"bricks": bricks, "cuts": self.lines})
        write_report()


def one(setup: CampaignSetup, seed: int, number: int, folder: Path) -> Line:
    """One cut; the drives of a brick are kept (of the newest bricks, if there are many), others removed.

    Raises:
        LabError: The lab failed before the cut, twice.
    """
    cut = draw(seed, number, setup.phases)
    try:
        report = setup.perform(cut, folder)
    except LabError as e:  # before the cut: a busy machine
        say(f"cut {number} ({cut.phase.name}) is tried again: {str(e).splitlines()[0]}")
        report = setup.perform(cut, folder)
    line = {"board": setup.name, "seed": seed} | report.as_dict(setup.system(cut))
    if report.problems:
        kept = BRICKS / f"{setup.name}-{seed}-{number}"
        shutil.rmtree(kept, ignore_errors=True)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder, kept)
        line["kept"] = str(kept)
        (kept / "cut.json").write_text(json.dumps(line, indent=1) + "\n")
        _forget_drives()
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return line


def _forget_drives() -> None:
    """Of older bricks the account and the console stay: many at once have one cause, and each can be repeated."""
    for account in sorted(BRICKS.glob("*/cut.json"), key=lambda file: file.stat().st_mtime_ns)[:-_KEPT]:
        for drive in account.parent.glob("*.img"):
            drive.unlink(missing_ok=True)


def write_report() -> Path:
    """build/powercut/report.json: every campaign whose lines stand there, together."""
    reports = [json.loads(file.read_text()) for file in sorted(HOME.glob("*/report.json"))]
    cuts = [cut for report in reports for cut in report.pop("cuts")]
    path = HOME / "report.json"
    made_of = inputs.gathered(sorted({report["board"] for report in reports}))
    about = {"bricks": sum(r["bricks"] for r in reports), "campaigns": reports, "inputs": made_of}
    jsonfile.replace(path, about | {"cuts": cuts})
    return path


def _whole(line: str) -> Line | None:
    try:
        found: Line = json.loads(line)
    except ValueError:  # the run ended while it wrote this one
        return None
    return found
