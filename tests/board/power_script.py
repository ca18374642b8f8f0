"""Switches the power of one QEMU: `power_script.py FOLDER on|cut`. Stands for the relay on a desk.

A program of its own that knows nothing of the lab: FOLDER/machine.json is the command line, FOLDER/pid says what runs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path


def on(folder: Path) -> None:
    """Start it, and leave it running when this program ends."""
    argv = json.loads((folder / "machine.json").read_text())
    with (folder / "qemu.log").open("ab") as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    (folder / "pid").write_text(str(process.pid))


def cut(folder: Path) -> None:
    """Kill it in this instant, if it runs."""
    pid = folder / "pid"
    if not pid.exists():
        return
    process = Path("/proc") / pid.read_text()
    with suppress(ProcessLookupError, FileNotFoundError):
        if str(folder) in (process / "cmdline").read_text():  # nobody else has got this number since
            os.kill(int(process.name), signal.SIGKILL)
        while "\nState:\tZ" not in (process / "status").read_text():  # a dead one waits for its parent, maybe for ever
            time.sleep(0.01)
    pid.unlink()


if __name__ == "__main__":
    {"on": on, "cut": cut}[sys.argv[2]](Path(sys.argv[1]))
