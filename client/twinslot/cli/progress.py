"""Progress on a terminal, in a log, or as JSON. Observers: each takes `core.progress.Progress`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twinslot.core.progress import Phase, Progress
from twinslot.core.text import printable

if TYPE_CHECKING:
    from twinslot.cli.output import Output

STEP: Final = 10  # per cent between two lines in a log
_CLEAR: Final = "\r\x1b[K"  # to the first column, and erase to the end (ECMA-48, EL)

LABELS: Final = {
    Phase.VERIFY: "verifying signatures",
    Phase.PREPARE: "preparing the slot",
    Phase.WRITE: "writing",
    Phase.READ_BACK: "reading back",
    Phase.FINISH: "finishing",
    Phase.ARM: "activating",
    Phase.CHECK: "health checks",
}


class Reporter:
    """Shows progress in the form that fits; `end` before anything else is printed."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._line = output.watched
        self._shown = False
        self._phase: Phase | None = None
        self._percent = 0
        self._note = ""

    def __call__(self, progress: Progress) -> None:
        """Take one report."""
        if self._output.as_json:
            self._output.line(as_object(progress))
        elif self._line:
            self._redraw(progress)
        else:
            self._log(progress)

    def end(self) -> None:
        """Nothing more comes: the redrawn line goes away."""
        if self._shown:
            self._output.aside(_CLEAR)
            self._shown = False

    def _redraw(self, progress: Progress) -> None:
        import shutil  # three compressors with it, for a terminal alone

        width = shutil.get_terminal_size().columns
        self._output.aside(_CLEAR + describe(progress)[: width - 1])
        self._shown = True

    def _log(self, progress: Progress) -> None:
        percent = _percent(progress)
        if progress.phase is not self._phase:
            self._phase, self._percent = progress.phase, percent or 0
            self._output.aside(f"{describe(progress)}\n")
        elif progress.note != self._note and progress.note:
            self._output.aside(f"{describe(progress)}\n")
        elif percent is not None and percent // STEP > self._percent // STEP:
            self._percent = percent
            self._output.aside(f"{describe(progress)}\n")
        self._note = progress.note


def as_object(progress: Progress) -> dict[str, object]:
    """The report as one JSON line; sizes in bytes (checks, in the phase `check`), `rate` a second, `left` seconds."""
    return {
        "type": "progress",
        "phase": str(progress.phase),
        "done": progress.done,
        "total": progress.total,
        "percent": _percent(progress),
        "rate": round(progress.rate, 1),
        "left": None if progress.left is None else round(progress.left, 1),
        "fetched": progress.fetched,
        "note": progress.note,
    }


def describe(progress: Progress) -> str:
    """One line: `writing: 45 %, 90.0 of 200.0 MiB, 12.3 MiB/s, 9 s left`."""
    label, percent = LABELS[progress.phase], _percent(progress)
    if progress.note:
        return f"{label}: {printable(progress.note)}"
    if percent is None:
        return f"{label} ..."
    if progress.phase is Phase.CHECK:
        return f"{label}: {progress.done} of {progress.total}"
    parts = [f"{label}: {percent} %", f"{size_text(progress.done)} of {size_text(progress.total)}"]
    parts += [f"{size_text(progress.rate)}/s"] if progress.rate else []
    parts += [f"{duration_text(progress.left)} left"] if progress.left else []
    return ", ".join(parts)


def _percent(progress: Progress) -> int | None:
    """Whole per cent, 100 only when all is done; None when the phase has no measure."""
    return min(100, progress.done * 100 // progress.total) if progress.total else None


def size_text(size: float) -> str:
    """Bytes for people: `17 B`, `1.5 MiB`."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def duration_text(seconds: float) -> str:
    """Seconds for people: `9 s`, `2 min 5 s`, `1 h 2 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
