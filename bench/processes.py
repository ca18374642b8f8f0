"""Private memory of each process of an install before any data moves: `python -m bench.processes`.

One process for each part of the client, as an install from a server has them at once, each with what it imports and no
more; all live while each is looked at, so that what they share counts for none. A line of a table for each: KiB of
private memory (`bench.measure`), and milliseconds of processor time to come so far.

`bench/debian13.sh python3 -m bench.processes` does it with the Python and the libraries that a device of Debian 13 has.
Standard library only, so that it runs there.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

_WORKER: Final = "import twinslot.worker.__main__, twinslot.worker.guard"
PROCESSES: Final = {
    "engine": "import twinslot.cli.main, twinslot.cli.verbs.install, twinslot.engine.assemble, twinslot.engine.streams",
    "read": f"{_WORKER}, twinslot.worker.fetch",
    "fetch": f"{_WORKER}, twinslot.worker.fetch, twinslot.worker.relayed, twinslot.transport.http.ranges",
    "relay": f"{_WORKER}, twinslot.worker.relay",
    "verify": f"{_WORKER}, twinslot.worker.verify",
}
_END: Final = "; import sys, time; print(1000 * time.process_time(), flush=True); sys.stdin.read()"
_PRIVATE: Final = re.compile(r"^Private_(?:Clean|Dirty):\s+(\d+) kB$", re.MULTILINE)


def measure() -> dict[str, tuple[int, float]]:
    """Of each process: KiB of private memory, and milliseconds of processor time."""
    with contextlib.ExitStack() as stack:
        running = {name: stack.enter_context(_idle(code)) for name, code in PROCESSES.items()}
        spent = {name: float(process.stdout.readline()) for name, process in running.items() if process.stdout}
        return {name: (_private(process.pid), spent[name]) for name, process in running.items()}


@contextlib.contextmanager
def _idle(code: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has imported something and waits."""
    argv = [sys.executable, "-s", "-P", "-c", code + _END]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process


def _private(pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return sum(map(int, _PRIVATE.findall(file.read())))


def main() -> int:
    """Print the table."""
    measure()  # writes byte code, as installing the package does
    found = measure()
    sys.stdout.write("| process | private, KiB | CPU, ms |\n|---|---:|---:|\n")
    for name, (memory, spent) in found.items():
        sys.stdout.write(f"| {name} | {memory:,} | {spent:.0f} |\n")
    from_file = sum(found[name][0] for name in ("engine", "read", "verify"))
    from_server = sum(memory for name, (memory, _) in found.items() if name != "read")
    sys.stdout.write(f"| together, from a file | {from_file:,} | |\n| together, from a server | {from_server:,} | |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
