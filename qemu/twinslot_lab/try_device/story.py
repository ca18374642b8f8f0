"""The story of `make try`: an update by delta, a commit, a bad update, a rollback, a power cut and what comes of it.

Each step must end as it does on a board, or the story ends with the first thing that did not.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from dataclasses import dataclass, field
from typing import Any, Final

from twinslot_lab.errors import GuestError
from twinslot_lab.network_faults import NetworkFaults, Proxy
from twinslot_lab.try_device.machine import End, LocalDevice
from twinslot_lab.try_device.releases import BAD, FACTORY, GOOD, LARGE, TryRelease, TryTeam
from twinslot_lab.try_device.story_output import StoryPrinter, asked

STEPS: Final = 7
CUT_AT: Final = 30  # per cent of the slot
_RATE: Final = 4 << 20  # bytes a second while the power is about to go
_STALL: Final = 7 << 20  # bytes after which nothing more comes: half of the image, so the cut is before the end of it
IDLE: Final = "nothing is on trial"
UNHEALTHY: Final = 4  # exit status of a refusal (twinslot(1)): a required check failed


@dataclass
class Story:
    """Lives it.

    Attributes:
        updates: What became of each update, for the report.
        cut: What was cut, and what was found afterwards.
    """

    machine: LocalDevice
    team: TryTeam
    server: str
    port: int
    printer: StoryPrinter
    updates: list[dict[str, Any]] = field(default_factory=list)
    cut: dict[str, Any] = field(default_factory=dict)

    def live(self) -> None:
        """All of it; the device has power in the end.

        Raises:
            LabError: A step ended otherwise.
        """
        tell = self.printer
        tell.step(f"a device starts as it left the factory: release {FACTORY.name} in slot a")
        start(tell, self.machine)
        tell.client(self.machine, "status")
        tell.step(f"an update by delta to release {GOOD.name}")
        self._install(GOOD)
        tell.step("the new slot is on trial; its health check passes, so it is committed")
        self._restarted(GOOD, "b")
        tell.step(f"a bad update: in release {BAD.name} the motor controller is stuck")
        self._install(BAD)
        tell.step("the health check fails on trial, so the device goes back by itself")
        self._restarted(BAD, "b", well=False)
        tell.step(f"the power goes while release {LARGE.name} is being written")
        self._cut()
        tell.step("the old release runs; the same install goes on from what was written, and is kept")
        self._install(LARGE)
        again = self.updates[-1]["bytes_fetched"]
        _require(again < LARGE.new_bytes, "what was written before the cut was fetched once more", again)
        self._restarted(LARGE, "a")
        tell.client(self.machine, "history")

    def _install(self, release: TryRelease) -> None:
        """Install and restart, and see what moved."""
        self.printer.client(self.machine, "install", f"{self.server}/{release.name}.twin")
        moved = asked(self.machine, "status")["transaction"]
        _require(moved is not None, "no update is armed after the install", moved)
        size = (self.team.served / f"{release.name}.twin").stat().st_size
        fetched = moved["bytes_fetched"]
        share = f"{100 * fetched / size:.2f} %"
        self.printer.note(f"fetched {fetched / 1e3:.0f} kB of an image of {size / 1e3:.0f} kB: {share}")
        moves = {name: moved[name] for name in ("bytes_fetched", "bytes_written", "bytes_copied", "bytes_skipped")}
        self.updates.append({"release": release.name, "image_bytes": size, "from": self.machine.slot, **moves})
        self.printer.command(("reboot",), self.machine.run("reboot").returncode, ())
        _require(self.machine.wait_end() is End.RESTART, "the device did not restart", moved)

    def _restarted(self, release: TryRelease, slot: str, *, well: bool = True) -> None:
        """The trial, and how it ended."""
        start(self.printer, self.machine, well=well)
        if not well:
            _require(self.machine.wait_end() is End.RESTART, "the device did not go back", None)
            start(self.printer, self.machine)
        last = asked(self.machine, "status")["last"]
        outcome = "committed" if well else "rolled-back"
        _require(last["release"]["name"] == release.name, "the last update is another one", last)
        _require(last["outcome"] == outcome, f"release {release.name} ended {last['outcome']}", last)
        _require(self.machine.slot == slot, f"slot {self.machine.slot} runs", last)
        runs = release if well else GOOD
        digest = hashlib.sha256(self.machine.media.file(f"slot_{slot}").read_bytes()).hexdigest()
        _require(digest == self.team.digest(runs), "the running slot is not what was signed", digest)
        self.printer.note(f"slot {slot} runs release {runs.name}, byte for byte what was signed ({digest[:12]}...)")
        self.updates[-1] |= {"to": last["target"], "outcome": outcome, "reason": last["reason"], "running": digest}

    def _cut(self) -> None:
        """Cut the power when a third of the slot is written; no byte of the rest of the image ever comes."""
        with Proxy(self.port, NetworkFaults(stall_after=_STALL, stalls=99, rate=_RATE)) as proxy:
            url = f"http://127.0.0.1:{proxy.port}/{LARGE.name}.twin"
            words = ("twinslot", "--json", "install", "--reboot", url)
            with subprocess.Popen(self.machine.argv(*words), stdout=subprocess.PIPE, text=True) as installing:
                assert installing.stdout is not None
                for line in installing.stdout:
                    progress = json.loads(line)
                    if progress.get("phase") == "write" and progress["percent"] >= CUT_AT:
                        break
                else:
                    raise GuestError(f"'{' '.join(words)}' ended before the power went")
                self.machine.cut()
        self.printer.command(words, installing.returncode, [line.strip()])
        self.printer.note("the power is gone: every process ended where it was, and what was not written is lost")
        start(self.printer, self.machine)
        last = asked(self.machine, "status")["last"]
        self.printer.client(self.machine, "status")
        _require(self.machine.slot == "b", f"slot {self.machine.slot} runs after the cut", last)
        _require(last["reason"] == "interrupted", "the record tells something else of the cut", last)
        self.cut = {name: progress[name] for name in ("phase", "percent", "done", "fetched")}
        self.cut |= {"running": self.machine.slot, "outcome": last["outcome"], "reason": last["reason"]}


def start(printer: StoryPrinter, machine: LocalDevice, *, well: bool = True) -> None:
    """Power on, and what systemd's units do on a board, in their order.

    Args:
        printer: Told of it; the checks and the commit only where there is a trial.
        machine: Off.
        well: Whether the health check is to pass on trial.
    """
    printer.note(f"the boot loader starts slot {machine.power_on()}")
    printer.client(machine, "boot")
    printer.client(machine, "check", "--if-trial", quiet=IDLE, status=0 if well else UNHEALTHY)
    if well:
        printer.client(machine, "commit", "--if-trial", quiet=IDLE)


def _require(holds: bool, otherwise: str, evidence: object) -> None:
    if not holds:
        raise GuestError(f"{otherwise}: {json.dumps(evidence)}")
