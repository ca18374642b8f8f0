"""Where long work stands: `step 3 of 14: base-trixie-arm64: configure 41 of 149, about 2 min left`, on stderr.

On a terminal the line is drawn again in place; in a log it is written anew, at least every five seconds while a step is
open. Only a command line shows it (`shown`); used as a library the lab says when a step begins and ends.
"""

from __future__ import annotations

import itertools
import json
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TextIO

from twinslot_lab import jsonfile
from twinslot_lab.command import BUILD

_IN_LOG, _ON_TERMINAL = 5.0, 0.5  # seconds between two lines
_ROUND = 20  # seconds: below it, time left is told exactly
_CLEAR = "\r\x1b[K"  # ECMA-48: begin of the line, erase to its end

Count = Callable[[], tuple[str, int, int]]  # what is done with parts, how many of them are, how many there are


@dataclass
class _Step:
    name: str
    number: int  # 0: a part of another step
    expected: float | None
    outer: _Step | None = None
    began: float = field(default_factory=time.monotonic)
    doing: str = ""
    count: Count | None = None


_REMEMBERED = BUILD / "log" / "seconds.json"  # of each step the last time, by name: what time left is told by
_lock = threading.RLock()  # also of stderr, while something is shown
_open: list[_Step] = []
_own = threading.local()  # `.steps`: the open steps of this thread, the innermost last
_numbers = itertools.count(1)
_planned = 0
_seconds: dict[str, float] = {}  # how long each step took the last time, by name
_display: threading.Thread | None = None
_out: TextIO | None = None  # where it is shown, whatever takes the place of sys.stderr meanwhile


def say(what: str) -> None:
    """One line, on stderr."""
    with _lock:
        out = _out or sys.stderr
        out.write(f"{_CLEAR if _display and out.isatty() else ''}[lab] {what}\n")
        out.flush()


def write(line: str) -> None:
    """One line of a program's own output, on stdout, beside what is shown."""
    with _lock:
        if _display and _out and _out.isatty():
            _out.write(_CLEAR)
            _out.flush()
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


@contextmanager
def shown(steps: int = 0) -> Iterator[None]:
    """Show where the work stands until this ends.

    Args:
        steps: How many there will be; those whose result is there already count. 0: `plan` says it.
    """
    global _display, _out
    plan(steps)
    _out = sys.stderr
    _seconds.update(json.loads(_REMEMBERED.read_text()) if _REMEMBERED.exists() else {})
    ended = threading.Event()
    _display = threading.Thread(target=_show, args=(ended,), daemon=True)
    _display.start()
    try:
        yield
    finally:
        ended.set()
        _display.join()
        _display = _out = None
        with suppress(OSError):  # a full disk: the error that ends the work is told, not this one
            jsonfile.replace(_REMEMBERED, _seconds)


def plan(steps: int) -> None:
    """How many steps there will be from here on."""
    global _planned, _numbers
    _planned, _numbers = steps, itertools.count(1)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Something slow: told when it begins and how many seconds it took, and in between where it stands.

    A step that begins within another step of its thread is a part of that one.
    """
    outer = _stack()[-1] if _stack() else None
    with _lock:
        now = _Step(name, 0 if outer else next(_numbers), _seconds.get(name), outer)
    say(f"{_title(now)} ...")
    with _told(now):
        yield
    say(f"{_title(now)}: {_seconds[name]} s")


@contextmanager
def wait(what: str) -> Iterator[None]:
    """Something slow that is no step: its begin and its end are told by others, here only that it goes on."""
    with _told(_Step(what, 0, _seconds.get(what))):
        yield


@contextmanager
def _told(now: _Step) -> Iterator[None]:
    with _lock:
        _open.append(now)
    _stack().append(now)
    try:
        yield
        _seconds[now.name] = round(time.monotonic() - now.began, 1)
    finally:
        _stack().remove(now)
        with _lock:
            _open.remove(now)


def passed() -> None:
    """A step is not needed: its result is there already."""
    if not _stack():
        next(_numbers)


@contextmanager
def part(doing: str, count: Count | None = None) -> Iterator[None]:
    """What this thread's step does now; without an open step nobody is told.

    Args:
        doing: In few words.
        count: Tells how far it is.
    """
    if not _stack():
        yield
        return
    now = _stack()[-1]
    before = now.doing, now.count
    now.doing, now.count = doing, count
    try:
        yield
    finally:
        now.doing, now.count = before


def _stack() -> list[_Step]:
    if not hasattr(_own, "steps"):
        _own.steps = []
    steps: list[_Step] = _own.steps
    return steps


def _title(now: _Step) -> str:
    if now.outer:
        return f"{_title(now.outer)}: {now.name}"
    if not _planned or not now.number:
        return now.name
    return f"step {now.number} of {max(_planned, now.number)}: {now.name}"


def _show(ended: threading.Event) -> None:
    out = _out or sys.stderr
    terminal = out.isatty()
    while not ended.wait(_ON_TERMINAL if terminal else _IN_LOG):
        with _lock:
            around = [now.outer for now in _open]
            lines = " | ".join(line(now) for now in _open if now not in around)
            if lines and terminal:
                width = shutil.get_terminal_size().columns - 1 + len(_CLEAR)
                out.write(f"{_CLEAR}[lab] {lines}"[:width])
                out.flush()
            elif lines:
                say(lines)


def line(now: _Step) -> str:
    """Where one step stands."""
    words, done, total = now.count() if now.count else ("", 0, 0)
    elapsed = time.monotonic() - now.began
    what = f"{now.doing}: {words} {done} of {total}" if total else now.doing
    left = (now.expected or 0) - elapsed
    time_left = f"about {duration(left)} left" if left > 0 else f"{elapsed:.0f} s"
    return f"{': '.join(filter(None, (_title(now), what)))}, {time_left}"


def duration(seconds: float) -> str:
    """For people: `12 s`, `40 s`, `2 min`."""
    if seconds < _ROUND:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds, -1):.0f} s" if seconds < 90 else f"{round(seconds / 60)} min"
