"""The door to serial lines: what a board says, remembered; what is typed, sent.

A URL such as `socket://127.0.0.1:4001` or a device such as `/dev/ttyUSB0` (pyserial).
"""

from __future__ import annotations

import re
import threading

import serial

from twinslot_lab.deadline import Deadline
from twinslot_lab.errors import BoardError

_TAIL_LINES = 25
# What means that waiting longer is of no use, unless the test is about just that.
FATAL = re.compile(r"Kernel panic - not syncing: [^\r\n]*|Twinslot: no slot can be started|You are in emergency mode")


class Console:
    """A serial console. A thread reads all the time, so that the board never blocks on output.

    Args:
        url: Where it is.
    """

    def __init__(self, url: str) -> None:
        self._line = serial.serial_for_url(url, timeout=0.1)
        self._text = ""
        self._changed = threading.Condition()
        self._closing = False
        self.ended = False
        self._thread = threading.Thread(target=self._read, name="console", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._closing:
            try:
                data = self._line.read(max(1, min(4096, self._line.in_waiting)))
            except (serial.SerialException, OSError):
                break
            if data:
                with self._changed:
                    self._text += data.decode("utf-8", errors="replace")
                    self._changed.notify_all()
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    @property
    def mark(self) -> int:
        """The present end of the text; pass it to `text` or `wait_for` to look only at what comes later."""
        return len(self._text)

    def text(self, since: int = 0) -> str:
        """Everything said since a mark."""
        return self._text[since:]

    def tail(self) -> str:
        """The last lines, for an error."""
        return "\n".join(self._text.replace("\r", "").splitlines()[-_TAIL_LINES:])

    def send(self, text: str) -> None:
        """Type something."""
        self._line.write(text.encode())

    def wait_for(self, pattern: str, deadline: Deadline, *, since: int = 0) -> re.Match[str]:
        """Wait until the text since a mark matches.

        Raises:
            BoardError: The deadline passed, or the line ended, first; with the end of the console.
        """
        wanted = re.compile(pattern)
        with self._changed:
            while True:
                if match := wanted.search(self._text, since):
                    return match
                if self.ended:
                    raise BoardError(f"the console ended before: {deadline.what}", self.tail())
                if deadline.passed:
                    raise deadline.failure(self.tail())
                self._changed.wait(min(deadline.left, 1.0))

    def fatal(self, since: int = 0) -> str:
        """The first thing said since a mark that ends a normal start; empty if there is none."""
        match = FATAL.search(self._text, since)
        return match.group(0) if match else ""

    def close(self) -> None:
        """Stop reading; the text stays."""
        self._closing = True
        self._thread.join()
        self._line.close()
