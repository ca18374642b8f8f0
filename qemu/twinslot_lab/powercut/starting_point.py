"""A frozen moment of an update's story from which power cuts start, with how long its part of the story is."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from twinslot_lab.description import BoardDescription
from twinslot_lab.qemu_board import QemuBoard
from twinslot_lab.snapshot import Snapshot

IMAGE = "/var/lib/lab/update.twin"  # where the guest finds the story's image, so that no cut depends on the network
PROGRESS = "/run/lab-cut.jsonl"
# On a busy machine the bus may give up on the service before it is up; then nothing has begun yet.
_INSTALL = (
    f"for try in 1 2 3; do twinslot --json install --no-reboot {IMAGE} >> {PROGRESS}; "
    f"tail -n 1 {PROGRESS} | grep -q device.bus || break; done"
)

Row = tuple[int, str]  # number and hash of a row of the audit chain


@dataclass(frozen=True, slots=True)
class StartingPoint:
    """Where cuts of one part of a story begin.

    Attributes:
        name: `verify`, `write`, ... (story.py).
        story: `good`, `bad` or `tries`.
        action: What is done first: `install`, `reboot`, or nothing (empty).
        warm: With memory; otherwise the board is switched on.
        seconds: From here to the end of the part, as measured when it was frozen.
        rows: The audit chain as the guest told it before.
    """

    name: str
    story: str
    action: str
    warm: bool
    seconds: float
    rows: tuple[Row, ...]

    def start(self, board: BoardDescription, folder: Path, home: Path) -> QemuBoard:
        """A board of its own at the beginning of it, with the action under way.

        Args:
            board: Its description.
            folder: For the new board.
            home: Where the starting points of this story stand.
        """
        started = Snapshot.load(board, home / self.name).start(folder)
        try:
            if self.action and not self.warm:
                started.wait_up()
            act(started, self.action)
        except BaseException:
            started.cut()
            raise
        return started


def act(board: QemuBoard, action: str) -> None:
    """Let the guest begin something; its end is not awaited."""
    if action == "install":
        board.agent.start("systemd-run", "--quiet", "--collect", "--no-block", "sh", "-c", _INSTALL)
    elif action == "reboot":
        board.reboot()


def save(home: Path, starting_points: list[StartingPoint]) -> None:
    """Write `starting_points.json`."""
    (home / "starting_points.json").write_text(
        json.dumps([asdict(starting_point) for starting_point in starting_points], indent=1) + "\n"
    )


def load(home: Path) -> dict[str, StartingPoint]:
    """Read `starting_points.json`: name -> starting point, in the order of the story."""
    starting_points = {}
    for entry in json.loads((home / "starting_points.json").read_text()):
        rows = tuple((int(number), str(link)) for number, link in entry.pop("rows"))
        starting_points[entry["name"]] = StartingPoint(**entry, rows=rows)
    return starting_points
