"""Signals that end the program: ^C, a closed terminal, a service manager. Each becomes an exception, and tidies.

Standard library only: it is there before anything else is imported.
"""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LEFTOVERS: Final = set[Path]()  # temporary files and directories that are not removed yet
STATUS_BASE: Final = 128  # a shell's way to say which signal ended a program


class Stopped(KeyboardInterrupt):
    """The program was asked to stop by a signal; what is half done is removed on the way out."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def exit_status(self) -> int:
        """130 for ^C, 143 for SIGTERM, 129 for a closed terminal."""
        return STATUS_BASE + self.number


class _Guard:
    """The first signal counts; it waits while a step is under way that must not be torn apart."""

    def __init__(self) -> None:
        self.held = 0
        self.number = 0
        self.raised = False

    def take(self, number: int, _frame: FrameType | None) -> None:
        if not self.number:
            self.number = number
            self.strike()

    def strike(self) -> None:
        """Raise what came, once, unless it has to wait: whatever is tidied then is not disturbed again."""
        if self.number and not self.held and not self.raised:
            self.raised = True
            raise Stopped(self.number)

    def insist(self, cause: Exception | None = None) -> None:
        """Raise what came even if a library dropped it, or made another exception of it."""
        if self.number:
            raise Stopped(self.number) from cause


_guard = _Guard()


@contextmanager
def stopping_by_signals() -> Iterator[None]:
    """Within, `SIGNALS` raise `Stopped`, the first one only. What was ignored at the start stays ignored (nohup).

    Outside the main thread this does nothing: there whoever called minds the signals.
    """
    global _guard
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, _guard = {}, _Guard()
    try:
        for number in SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, _guard.take)
        yield
        _guard.insist()
    except Exception as e:
        _guard.insist(e)
        raise
    finally:
        _guard.held += 1  # no signal comes between the handlers
        _remove_leftovers()
        for number, handler in before.items():
            signal.signal(number, handler)


def _remove_leftovers() -> None:
    """What a signal between two steps of tidying left."""
    while LEFTOVERS:
        path = LEFTOVERS.pop()
        shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):
            path.unlink(missing_ok=True)


@contextmanager
def undisturbed() -> Iterator[None]:
    """A short step that is done whole: a signal that comes meanwhile raises `Stopped` at its end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _guard.held += 1
    try:
        yield
    finally:
        _guard.held -= 1
    _guard.strike()
