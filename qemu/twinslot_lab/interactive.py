"""A board with its console on the terminal."""

from __future__ import annotations

import select
import sys
import termios
import tty
from pathlib import Path

from twinslot_lab.build import BoardFiles
from twinslot_lab.progress import say
from twinslot_lab.qemu_board import QemuBoard

_LEAVE = b"\x1d"  # Ctrl-]


def boot(files: BoardFiles, folder: Path) -> None:
    """Start a board and pass keys and output until Ctrl-] or the board's end."""
    say("Ctrl-] leaves")
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard) if sys.stdin.isatty() else None
    with QemuBoard(files, folder) as board:
        board.power_on()
        try:
            if before is not None:
                tty.setraw(keyboard)
            _pass_on(board, keyboard)
        finally:
            if before is not None:
                termios.tcsetattr(keyboard, termios.TCSADRAIN, before)


def _pass_on(board: QemuBoard, keyboard: int) -> None:
    shown = 0
    while not board.console.ended:
        text = board.console.text(shown)
        shown += len(text)
        sys.stdout.write(text)
        sys.stdout.flush()
        if select.select([keyboard], [], [], 0.05)[0]:
            typed = sys.stdin.buffer.raw.read(64) if hasattr(sys.stdin.buffer, "raw") else b""
            if not typed or _LEAVE in typed:
                return
            board.console.send(typed.decode(errors="replace"))
