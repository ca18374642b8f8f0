"""A progress line on stderr for whatever takes more than a second."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self, TextIO

QUIET_SECONDS = 1.0  # nothing is shown for what is done by then
TTY_SECONDS = 0.1  # between redraws
LINE_SECONDS = 5.0  # between lines, when nobody watches a terminal
_WIDTH = 30  # characters of the bar


class Progress:
    """Counts bytes towards a total. Use as a context manager; `update` may be called as often as one likes.

    Args:
        label: What is being done.
        total: Bytes; 0 when not known.
        stream: Where to; a bar on a terminal, plain lines elsewhere.
    """

    def __init__(self, label: str, total: int, stream: TextIO | None = None) -> None:
        self._label = label
        self._total = total
        self._stream = stream or sys.stderr
        self._tty = self._stream.isatty()
        self._start = time.monotonic()
        self._next = self._start + QUIET_SECONDS
        self._done = 0
        self._shown = False

    def update(self, done: int) -> None:
        """Say how many bytes are done so far."""
        self._done = done
        now = time.monotonic()
        if now >= self._next:
            self._next = now + (TTY_SECONDS if self._tty else LINE_SECONDS)
            self._show(now)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._show(time.monotonic(), last=True)

    def _show(self, now: float, *, last: bool = False) -> None:
        self._shown = True
        text = render(self._label, self._done, self._total, now - self._start)
        if self._tty:
            self._stream.write(f"\r\x1b[K{text}" + ("\n" if last else ""))
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()


def render(label: str, done: int, total: int, seconds: float) -> str:
    """One line: label, bar, part done, rate, time left."""
    rate = done / seconds if seconds > 0 else 0.0
    if not total:
        return f"{label}: {size_text(done)}, {size_text(int(rate))}/s"
    part = min(done / total, 1.0)
    bar = ("#" * int(part * _WIDTH)).ljust(_WIDTH, ".")
    left = f", {(total - done) / rate:.0f} s left" if rate and done < total else f", {seconds:.1f} s"
    return f"{label}: [{bar}] {part:4.0%} of {size_text(total)}, {size_text(int(rate))}/s{left}"


def size_text(size: float) -> str:
    """Bytes for people: `17 B`, `1.5 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError(size)


class Steps:
    """A progress line for each step, the one after the other."""

    def __init__(self) -> None:
        self._what = ""
        self._progress: Progress | None = None

    def report(self, what: str, done: int, total: int) -> None:
        """So much of this step is done; another name begins another step."""
        if what != self._what:
            self.__exit__(None, None, None)
            self._what, self._progress = what, Progress(what, total).__enter__()
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
