"""How long `twinslot status` takes beside an interpreter that does nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any, Final

import twinslot
from bench.peers.base import Bench
from bench.peers.twinslot import Twinslot

_SUFFIXES: Final = (".py", ".pyc", ".so")


def cold_start(bench: Bench, runs: int) -> dict[str, Any]:
    """Seconds of each run, in turn: with what the page cache holds (`warm`), and without the files' pages (`cold`).

    Args:
        bench: Its device has just been provisioned.
        runs: How often each.
    """
    peer = Twinslot(bench)
    peer.reset()
    commands = {
        "pass": [sys.executable, "-c", "pass"],
        "status": [sys.executable, "-m", "twinslot", "--config-root", str(bench.home("twinslot") / "delta"), "status"],
    }
    files = python_files()
    seconds: dict[str, dict[str, list[float]]] = {kind: {name: [] for name in commands} for kind in ("warm", "cold")}
    for kind, times in seconds.items():
        for _ in range(runs):
            for name, argv in commands.items():
                if kind == "cold":
                    forget(files)
                start = time.monotonic()
                done = subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL)
                times[name].append(time.monotonic() - start)
                if done.returncode != 0:
                    raise RuntimeError(f"'{name}' ended with status {done.returncode}: {done.stderr.decode()}")
    return {"command": "python -m twinslot status", "beside": "python -c pass", "seconds": seconds}


def python_files() -> list[Path]:
    """The standard library's files and the client's."""
    roots = {Path(sysconfig.get_path("stdlib")), Path(twinslot.__file__).parent}
    return [path for root in roots for path in root.rglob("*") if path.suffix in _SUFFIXES and path.is_file()]


def forget(files: list[Path]) -> None:
    """Let the page cache forget files, but for what other processes have mapped."""
    for path in files:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
