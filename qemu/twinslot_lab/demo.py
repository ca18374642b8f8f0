"""The main job, to watch: a board takes a good update and keeps it, then a bad one and comes back by itself.

Writes build/demo/report.json: for each update its release, slots, transaction, health results, outcome, reason,
seconds for each phase, bytes fetched and written, and the digest of what ran in the end as the guest measured it.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twinslot_lab import progress
from twinslot_lab.build import build_parts
from twinslot_lab.command import BUILD
from twinslot_lab.errors import GuestError
from twinslot_lab.fileserver import FileServer
from twinslot_lab.product import Product
from twinslot_lab.progress import say
from twinslot_lab.qemu_board import QemuBoard
from twinslot_lab.release import Image, LabRelease, ReleaseTeam

FACTORY = LabRelease("1.0", 10)
GOOD = LabRelease("2.0", 20)
BAD = LabRelease("3.0", 30, motor="stuck")


_RESTART = "restart until slot is up"
_STEPS = 10  # firmware, base, kernel, the client's package, system, keys, three releases, the factory's board
_WHAT_NEXT = """
What next
  {report}
      the same facts, for programs
  .venv/bin/python -m twinslot_lab boot
      this board's console on your terminal, without the product; Ctrl-] leaves
  make powercut CUTS=5
      power cuts at moments drawn by chance, each judged by what then starts
  docs/guide-device.md, docs/testing-your-device.md
      Twinslot on your device, and its tests there
"""


class Timeline:
    """Prints what happens, with the seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._last = ""

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return round(time.monotonic() - self._start, 1)

    def tell(self, what: str) -> None:
        """One line."""
        progress.write(f"{self.seconds:7.1f} s  {what}")

    def progress(self, message: dict[str, Any]) -> None:
        """A line for each phase and each quarter of it."""
        total = message.get("total") or 0
        quarter = 25 * (4 * message["done"] // total) if total else 0
        words = f"  {message['phase']}" + (f": {quarter} %" if total else "")
        if words != self._last:
            self._last = words
            self.tell(words)

    @contextmanager
    def timed(self, phases: dict[str, float], phase: str) -> Iterator[None]:
        """Remember how many seconds a phase took, and say meanwhile that it goes on."""
        began = time.monotonic()
        with progress.wait(phase):
            yield
        phases[phase] = round(time.monotonic() - began, 1)


def run(board_name: str, out: Path) -> dict[str, Any]:
    """Both stories; returns the report.

    Raises:
        LabError: A step failed; one sentence with the cause.
    """
    say("the board and three signed releases: some four minutes from nothing on two cores, seconds if they are there")
    progress.plan(_STEPS)
    began = time.monotonic()
    team = ReleaseTeam(board_name)
    build_parts(team.board)
    factory = team.factory(FACTORY)
    good, bad = team.image(GOOD), team.image(BAD)
    build = {"board and images": round(time.monotonic() - began, 1)}
    progress.plan(0)
    say("the story: some three minutes; the clock starts now")
    timeline = Timeline()
    timeline.tell(f"board {board_name}: U-Boot, Debian kernel, systemd; slot a holds release {FACTORY.name}")
    shutil.rmtree(out, ignore_errors=True)
    with QemuBoard(factory, out / "board") as board:
        with progress.wait("the board starts"):
            board.power_on()
            board.wait_up(slot="a")
        timeline.tell(f"slot a is up: {_describe(Product(board))}")
        updates = [update(timeline, board, good, "b", "committed"), update(timeline, board, bad, "b", "rolled-back")]
        doctor = Product(board).doctor()
    timeline.tell("the good update was committed, the bad one rolled back")
    return {
        "board": board_name,
        "quirks": team.board.quirks.named(),
        "seconds": timeline.seconds,
        "build_seconds": build,
        "updates": updates,
        "doctor": doctor,
    }


def update(timeline: Timeline, board: QemuBoard, image: Image, ends_in: str, outcome: str) -> dict[str, Any]:
    """One update from the offer to its end; raises if it ends in another way than `outcome`."""
    product, phases = Product(board), dict[str, float]()
    source = board.slot()
    timeline.tell(f"update to release {image.release.name} ({image.path.stat().st_size / 1e6:.1f} MB image)")
    with FileServer(image.path.parent) as server, timeline.timed(phases, "install"):
        product.install(server.url(image.path.name), tell=timeline.progress)
    timeline.tell(f"slot {'b' if source == 'a' else 'a'} is written, read back and armed; restarting into it, on trial")
    with timeline.timed(phases, _RESTART):
        board.reboot()
        board.wait_up(slot=ends_in, through_failures=True)
    with timeline.timed(phases, "until the outcome is recorded"):
        status = product.wait_idle()
    transaction = product.history()[0]
    _require(transaction["release"]["name"] == image.release.name, "the newest update is another one", transaction)
    _require(
        transaction["outcome"] == outcome, f"the update ended {transaction['outcome']}, not {outcome}", transaction
    )
    _require(status["running"] == ends_in, f"slot {status['running']} runs, not {ends_in}", status)
    for check in transaction["checks"]:
        timeline.tell(f"  check {check['name']}: {'passed' if check['passed'] else 'FAILED'} ({check['detail']})")
    why = f" because it was {transaction['reason']}" if transaction["reason"] else ""
    timeline.tell(f"release {image.release.name}: {transaction['outcome']}{why}; {_describe(product)}")
    size, fetched, written = image.path.stat().st_size, transaction["bytes_fetched"], transaction["bytes_written"]
    timeline.tell(f"  fetched {_mb(fetched)} of an image of {_mb(size)}, wrote {_mb(written)}")
    timeline.tell(f"  the product was away for {phases[_RESTART]:.0f} s: from the restart until slot {ends_in} was up")
    return _report(transaction, source, phases) | _measured(product, image, outcome)


def _measured(product: Product, image: Image, outcome: str) -> dict[str, Any]:
    """What the guest itself says of the partition that runs; after a commit it must be what was signed."""
    digest = product.digest_of_root(image.slot.stat().st_size)
    if outcome == "committed":
        _require(digest == image.digest, "the running slot is not byte for byte what was signed", digest)
    return {"running_digest": digest, "image_digest": image.digest}


def _report(transaction: dict[str, Any], source: str, phases: dict[str, float]) -> dict[str, Any]:
    return {
        "release": transaction["release"],
        "from_slot": source,
        "to_slot": transaction["target"],
        "transaction": transaction["id"],
        "checks": transaction["checks"],
        "outcome": transaction["outcome"],
        "reason": transaction["reason"],
        "seconds": transaction["seconds"] | phases,
        "bytes_fetched": transaction["bytes_fetched"],
        "bytes_written": transaction["bytes_written"],
    }


def _mb(count: int) -> str:
    return f"{count / 1e6:.1f} MB"


def _describe(product: Product) -> str:
    slots = product.status()["slots"]
    return ", ".join(
        f"slot {name} {slot['state']}" + (f" ({slot['release']['name']})" if slot["release"] else "")
        for name, slot in sorted(slots.items())
    )


def _require(holds: bool, otherwise: str, evidence: object) -> None:
    if not holds:
        say(json.dumps(evidence, indent=2, default=str))
        raise GuestError(otherwise)


def main(board_name: str) -> None:
    """Run the demonstration and write its report."""
    out = BUILD / "demo"
    report = run(board_name, out)
    path = out / "report.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    progress.write(_WHAT_NEXT.format(report=path))
