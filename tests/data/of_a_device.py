"""What each verb of `twinslot` prints with `--json`, on a device made of this machine. As root."""

from __future__ import annotations

import json
from pathlib import Path

from data.json_lines import Lines
from twinslot_lab.try_device.cli import TryBench, workbench
from twinslot_lab.try_device.machine import End
from twinslot_lab.try_device.releases import BAD, FACTORY, GOOD


def of_a_device(folder: Path) -> Lines:
    """Every verb, through an update that is kept and one that is not."""
    with workbench(folder / "device", (FACTORY, GOOD, BAD), FACTORY) as bench:
        told = _Told(bench)
        told.start()
        told.of("status", "doctor", "history", "info $SERVER/2.0.twin", "install --dry-run $SERVER/2.0.twin")
        told.of("install --no-activate $SERVER/2.0.twin", "activate", "cancel", "install $SERVER/2.0.twin")
        told.restart("2.0 on trial: ")
        told.of("rollback --no-reboot --reason why", "cancel", prefix="by hand: ")
        told.of("install --reboot $SERVER/3.0.twin")
        assert bench.machine.wait_end() is End.RESTART
        told.start("3.0 on trial: ", well=False)
        assert bench.machine.wait_end() is End.RESTART
        told.start("after 3.0: ")
        told.of("check", "commit", "install $SERVER/3.0.twin", "status", "history", "log", prefix="after 3.0: ")
        bench.machine.off()
    return told.lines


class _Told:
    def __init__(self, bench: TryBench) -> None:
        self._bench = bench
        self.lines: Lines = {}

    def start(self, prefix: str = "", *, well: bool = True) -> None:
        """As the units do; where a check fails, the device is leaving before there could be a commit."""
        self._bench.machine.power_on()
        self.of("boot", "check --if-trial", *(["commit --if-trial"] if well else []), prefix=prefix)

    def restart(self, prefix: str) -> None:
        self._bench.machine.run("reboot")
        assert self._bench.machine.wait_end() is End.RESTART
        self.start(prefix)

    def of(self, *commands: str, prefix: str = "") -> None:
        for words in commands:
            argv = words.replace("$SERVER", self._bench.server).split()
            printed = self._bench.machine.run("twinslot", *argv, "--json").stdout
            self.lines[prefix + words] = [json.loads(line) for line in printed.splitlines()]
