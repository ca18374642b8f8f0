"""Runs one command and measures it: wall, CPU and memory of its whole process tree, and what reached the device.

Memory is private memory: the sum of `Private_Clean` and `Private_Dirty` over the tree, from smaps_rollup
(proc_pid_smaps(5)), so that libraries which processes share are not counted twice, and shared ones not at all.
CPU is what wait4(2) says of the command and of all its descendants that were waited for.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

PERIOD: Final = 1 / 30  # seconds; a sample may come late on a busy machine, and 20 a second are wanted
_PRIVATE: Final = re.compile(rb"^Private_(?:Clean|Dirty):\s+(\d+) kB$", re.MULTILINE)
_OUBLOCK: Final = 512  # bytes of a block in ru_oublock: task_io_get_oublock() in include/linux/task_io_accounting_ops.h
_TAIL: Final = 1500  # bytes of what a failed command said


@dataclass(frozen=True, slots=True)
class Memory:
    """What the sampler saw.

    Attributes:
        peak: Largest sum of private memory over the tree, in bytes.
        who: Program and bytes of each process at that moment, the largest first.
        moving: Largest sum while data moved: between the first and the last sample in which the device's counter rose.
        processes: Largest number of processes at once.
        samples: How many there were.
        period: Mean seconds between two.
        cpu: Seconds of CPU that sampling itself took.
    """

    peak: int
    who: tuple[tuple[str, int], ...]
    moving: int
    processes: int
    samples: int
    period: float
    cpu: float


@dataclass(frozen=True, slots=True)
class Sample:
    """One command, measured. Seconds and bytes.

    Attributes:
        status: Exit status; 0 means that it says it worked.
        wall: From start to end, and until what it wrote is on the medium.
        flush: The part of `wall` that the bench's own flush took after the command had ended.
        cpu: User and system time of the tree.
        handed_over: Bytes that the tree gave to any block device or file system to write (getrusage(2), ru_oublock).
        memory: Of the tree.
        said: The end of its output.
    """

    status: int
    wall: float
    flush: float
    cpu: float
    handed_over: int
    memory: Memory
    said: str


def nothing() -> None:
    """The flush of a command that writes to no device."""


def run_measured(
    argv: list[str],
    log: Path,
    *,
    env: Mapping[str, str] | None = None,
    flush: Callable[[], None] = nothing,
    written: Callable[[], int] = int,
    sampled: bool = True,
) -> Sample:
    """Run a command to its end.

    Args:
        argv: The command.
        log: Takes its output; replaced.
        env: Added to the environment.
        flush: Called when it has ended, within the measured time: nobody is faster by leaving data in memory.
        written: How many bytes have reached the device; asked with each sample.
        sampled: Look at its memory; otherwise only once, at the start. For the cost of looking.
    """
    with log.open("wb") as out:
        start = time.monotonic()
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, **(env or {})}
        )
        with Sampler(process.pid, PERIOD if sampled else 3600.0, written) as sampler:
            _, status, usage = os.wait4(process.pid, 0)
            ended = time.monotonic()
        process.returncode = os.waitstatus_to_exitcode(status)  # so that Popen does not wait for it again
    before = time.monotonic()
    flush()
    flushed = time.monotonic() - before
    return Sample(
        status=process.returncode,
        wall=ended - start + flushed,
        flush=flushed,
        cpu=usage.ru_utime + usage.ru_stime,
        handed_over=usage.ru_oublock * _OUBLOCK,
        memory=sampler.memory(),
        said=log.read_bytes()[-_TAIL:].decode(errors="replace"),
    )


@dataclass
class Sampler:
    """Looks at the memory of a process and its descendants while the `with` block runs, from a thread.

    Args:
        root: Process id of the top of the tree.
        period: Seconds between two looks.
        written: See `run_measured`.
    """

    root: int
    period: float = PERIOD
    written: Callable[[], int] = int
    _peak: int = 0
    _who: tuple[tuple[str, int], ...] = ()
    _processes: int = 0
    _last: int = -1
    _moving: int = 0
    _since: int = 0
    _samples: int = 0
    _cpu: float = 0.0
    _wall: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Sampler:  # noqa: PYI034 - not made to be inherited from
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def memory(self) -> Memory:
        """The result, after the block."""
        return Memory(
            self._peak,
            self._who,
            self._moving,
            self._processes,
            self._samples,
            self._wall / max(self._samples, 1),
            self._cpu,
        )

    def _run(self) -> None:
        start = due = time.monotonic()
        while True:
            self._look()
            due = max(due + self.period, time.monotonic())  # a late look is not made up for by a burst
            if self._stop.wait(max(0.0, due - time.monotonic())):
                break
        self._wall, self._cpu = time.monotonic() - start, time.thread_time()

    def _look(self) -> None:
        tree = process_tree(self.root)
        sizes = [(pid, private_bytes(pid)) for pid in tree]
        total = sum(size for _, size in sizes)
        if total > self._peak:
            self._peak = total
            self._who = tuple((program(pid), size) for pid, size in sorted(sizes, key=lambda one: -one[1]))
        self._note_moving(total)
        self._processes = max(self._processes, len(tree))
        self._samples += 1

    def _note_moving(self, total: int) -> None:
        """What was seen since data began to move counts only when it is known that it moved on."""
        written, last = self.written(), self._last
        self._last = written
        if last < 0:  # the first look
            return
        self._since = max(self._since, total) if self._since or written > last else 0
        if written > last:
            self._moving = max(self._moving, self._since)


def process_tree(root: int) -> list[int]:
    """A process and its descendants, as far as they live; those that were adopted by init are no more found."""
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        with contextlib.suppress(OSError):  # it has just ended
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                with contextlib.suppress(OSError):  # or this thread of it
                    waiting += [int(word) for word in children.read_bytes().split()]
    return found


def private_bytes(pid: int) -> int:
    """Private memory of one process; 0 when it has ended."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            return 1024 * sum(int(match[1]) for match in _PRIVATE.finditer(file.read()))
    except OSError:
        return 0


def program(pid: int) -> str:
    """The program's own name for a process, at most 15 letters; empty when it has ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
