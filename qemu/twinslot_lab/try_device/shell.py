"""A shell in the device, for a person. It ends with the device, and comes back with it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from typing import Final

from twinslot_lab.errors import GuestError
from twinslot_lab.try_device.machine import End, LocalDevice
from twinslot_lab.try_device.story import start
from twinslot_lab.try_device.story_output import StoryPrinter

_SOON: Final = 5.0  # seconds in which a device that killed its shell has ended


def play(machine: LocalDevice, printer: StoryPrinter) -> None:
    """Give the terminal to the device until its person leaves the shell.

    Args:
        machine: It has power; in the end it has none.
        printer: Told of restarts.

    Raises:
        BoardError: A slot does not come up.
    """
    again = ""
    while True:
        with _terminal():
            argv = machine.argv("env", f"AGAIN={again}", "bash", "--rcfile", "/opt/device/shell.rc", "-i")
            left = subprocess.run(argv, check=False).returncode
        if not machine.ends(_SOON if left < 0 else 0.0):
            machine.off()
            return
        while (how := machine.wait_end()) is not End.OFF:
            printer.line(f"\nthe device {'restarts' if how is End.RESTART else 'lost its power; it comes back'}")
            again = "yes"
            if _started(machine, printer):
                break
        else:
            return


def _started(machine: LocalDevice, printer: StoryPrinter) -> bool:
    """Whether it stays up; one whose release is not well restarts by itself."""
    try:
        start(printer, machine)
    except GuestError:  # what the client said was shown
        return not machine.ends(_SOON)
    return True


@contextlib.contextmanager
def _terminal() -> Iterator[None]:
    """Take the terminal back, whatever state the shell was in when it was killed."""
    number = sys.stdin.fileno()
    state = termios.tcgetattr(number)
    before = signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # we are in the background until the terminal is ours again
    try:
        yield
    finally:
        os.tcsetpgrp(number, os.getpgrp())
        termios.tcsetattr(number, termios.TCSADRAIN, state)
        signal.signal(signal.SIGTTOU, before)
