"""A progress line on stderr for whatever takes more than a second: redrawn on a terminal, a line at times elsewhere."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Final, Self, TextIO

from twinslot.cli.progress import STEP, duration_text, size_text
from twinslot.core.text import printable

__all__ = ["ProgressLine", "Steps", "be_quiet", "describe", "size_text"]

QUIET_SECONDS: Final = 1.0  # nothing is shown for what is done by then
TTY_SECONDS: Final = 0.1  # between redraws
COLUMNS: Final = 80  # of a terminal that does not say
_CLEAR: Final = "\r\x1b[K"  # to the first column, and erase to the end (ECMA-48, EL)

_quiet = False


def be_quiet(quiet: bool) -> None:
    """Whether no progress is shown from here on ('--quiet')."""
    global _quiet
    _quiet = quiet


class ProgressLine:
    """Counts towards a total. Use as a context manager; `update` may be called as often as one likes.

    Args:
        label: What is being done.
        total: Bytes, or whatever `unit` says; 0 when not known.
        unit: What is counted, in the plural; None: bytes.
        stream: Where to; one line redrawn on a terminal, a line for each tenth elsewhere.
    """

    def __init__(self, label: str, total: int, unit: str | None = None, stream: TextIO | None = None) -> None:
        self._label, self._total, self._unit = printable(label), total, unit
        self._stream = stream or sys.stderr
        self._line = self._stream.isatty()
        self._start = time.monotonic()
        self._next = self._start + QUIET_SECONDS
        self._tenth = -1
        self._shown = False

    def update(self, done: int, total: int | None = None) -> None:
        """Say how much is done so far, and how much there is when that was not known."""
        self._total = total or self._total
        now = time.monotonic()
        if _quiet or now < self._next:
            return
        text = describe(self._label, done, self._total, now - self._start, self._unit)
        if self._line:
            self._next = now + TTY_SECONDS
            self._write(_CLEAR + text[: self._width() - 1])
            self._shown = True
        elif (tenth := _percent(done, self._total) // STEP) != self._tenth:
            self._tenth = tenth
            self._write(f"{text}\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._write(_CLEAR)
            self._shown = False

    def _width(self) -> int:
        with suppress(OSError, ValueError):
            return os.get_terminal_size(self._stream.fileno()).columns or COLUMNS
        return COLUMNS

    def _write(self, text: str) -> None:
        with suppress(OSError, ValueError):  # a terminal that went away stops no work
            self._stream.write(text)
            self._stream.flush()


def _percent(done: int, total: int) -> int:
    """Whole per cent, 100 only when all is done."""
    return min(100, done * 100 // total) if total else 0


def describe(label: str, done: int, total: int, seconds: float, unit: str | None = None) -> str:
    """One line: `packing rootfs: 45 %, 90.0 MiB of 200.0 MiB, 12.3 MiB/s, 9 s left`."""
    amount = size_text if unit is None else str
    rate = done / seconds if seconds > 0 else 0.0
    parts = [f"{label}: {_percent(done, total)} %"] if total else [label]
    of = f" of {amount(total)}" if total else ""
    parts += [f"{amount(done)}{of}{f' {unit}' if unit else ''}"]
    parts += [f"{size_text(rate)}/s"] if rate and unit is None else []
    parts += [f"{duration_text((total - done) / rate)} left"] if rate and done < total else []
    return ", ".join(parts)


class Steps:
    """A progress line for each step, the one after the other."""

    def __init__(self) -> None:
        self._what = ""
        self._progress: ProgressLine | None = None

    def report(self, what: str, done: int, total: int) -> None:
        """So much of this step is done; another name begins another step."""
        if what != self._what:
            self.__exit__(None, None, None)
            self._what, self._progress = what, ProgressLine(what, total).__enter__()
        if self._progress:
            self._progress.update(done)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress:
            self._progress.__exit__(kind, error, trace)
        self._progress = None
