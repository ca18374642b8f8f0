"""The door to serial lines: what a board says, remembered; what is typed, sent.

What an agent says on the line in frames (framing.py) goes to whoever asks for frames; everything else is text.

A URL such as `socket://127.0.0.1:4001` or a device such as `/dev/ttyUSB0` (pyserial).
"""

from __future__ import annotations

import re
import select
import threading
from collections import deque
from pathlib import Path

import serial
from serial.urlhandler import protocol_socket

from twinslot_lab.deadline import Deadline
from twinslot_lab.errors import BoardError
from twinslot_lab.framing import ConsoleFrame, Splitter

_TAIL_LINES = 25
_TICK = 0.1  # seconds that the reading thread waits for more
# What means that waiting longer is of no use, unless the test is about just that.
FATAL = re.compile(r"Kernel panic - not syncing: [^\r\n]*|Twinslot: no slot can be started|You are in emergency mode")


class _SocketLine(protocol_socket.Serial):
    """A socket whose first words are kept; pyserial (protocol_socket.py) throws away what came while it opened it."""

    def reset_input_buffer(self) -> None:
        """Nothing on a new connection is stale."""


def _opened(url: str, speed: int, timeout: float) -> serial.Serial | _SocketLine:
    if url.startswith("socket://"):
        return _SocketLine(url, baudrate=speed, timeout=timeout)
    return serial.serial_for_url(url, baudrate=speed, timeout=timeout)


class Console:
    """A serial console. A thread reads all the time, so that the board never blocks on output.

    Args:
        url: Where it is.
        speed: Bits a second, for a real line.
        log: A file that gets the text, too, appended.

    Raises:
        BoardError: The line cannot be opened.
    """

    def __init__(self, url: str, *, speed: int = 115200, log: Path | None = None) -> None:
        self._is_socket = url.startswith("socket://")
        try:
            self._line = _opened(url, speed, timeout=0 if self._is_socket else _TICK)
        except (serial.SerialException, OSError, ValueError) as e:
            raise BoardError(f"cannot open the serial line '{url}': {e}") from e
        self._log = log.open("a", encoding="utf-8", newline="") if log else None
        self._text = ""
        self._frames: deque[ConsoleFrame] = deque()
        self._splitter = Splitter()
        self._changed = threading.Condition()
        self._closing = False
        self._looks = 0
        self.ended = False
        self.why = ""  # what the line said when it ended
        self._thread = threading.Thread(target=self._read, name="console", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._closing:
            try:
                data = self._some()
            except (serial.SerialException, OSError) as e:
                self.why = str(e)
                break
            if data:
                self._take(data)
            with self._changed:
                self._looks += 1
                self._changed.notify_all()
        with self._changed:
            self.ended = True
            self._changed.notify_all()

    def _some(self) -> bytes:
        """What has come; nothing after a tenth of a second."""
        if not self._is_socket:
            return bytes(self._line.read(max(1, min(4096, self._line.in_waiting))))
        # pyserial tells of a socket only that there is something, and would take it byte by byte.
        ready, _, _ = select.select([self._line], [], [], _TICK)
        return bytes(self._line.read(4096)) if ready else b""

    def _take(self, data: bytes) -> None:
        with self._changed:
            for item in self._splitter.feed(data):
                if isinstance(item, ConsoleFrame):
                    self._frames.append(item)
                    continue
                text = item.decode("utf-8", errors="replace")
                self._text += text
                if self._log:
                    self._log.write(text)
                    self._log.flush()
            self._changed.notify_all()

    def catch_up(self) -> None:
        """Wait until all that has come by now was read; `ended` is true from here on if the line is gone already."""
        with self._changed:
            last = self._looks + 2  # the look that is under way may have begun before
            self._changed.wait_for(lambda: self._looks >= last or self.ended)

    def next_frame(self, seconds: float) -> ConsoleFrame | None:
        """The next frame, which is then gone; None if none comes within so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._frames) or self.ended, seconds)
            return self._frames.popleft() if self._frames else None

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
        self.send_bytes(text.encode())

    def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are.

        Raises:
            BoardError: The line is gone.
        """
        try:
            self._line.write(data)
        except (serial.SerialException, OSError) as e:
            raise BoardError(f"the serial line is gone: {e}", self.tail()) from e

    def wait_for(self, pattern: str, deadline: Deadline, *, since: int = 0) -> re.Match[str]:
        """Wait until the text since a mark matches.

        Raises:
            BoardError: The deadline passed, or the line ended, first; with the end of the console.
        """
        wanted = re.compile(pattern)
        while True:
            if match := self.search(wanted, min(deadline.left, 1.0), since=since):
                return match
            if self.ended:
                raise BoardError(f"the console ended ({self.why}) before: {deadline.what}", self.tail())
            if deadline.passed:
                raise deadline.failure(self.tail())

    def search(self, pattern: re.Pattern[str], seconds: float, *, since: int = 0) -> re.Match[str] | None:
        """The first match since a mark; None if there is none within so many seconds, or before the line ends."""

        def found() -> re.Match[str] | bool:
            return pattern.search(self._text, since) or self.ended

        with self._changed:
            match = self._changed.wait_for(found, seconds)
        return match if isinstance(match, re.Match) else None

    def fatal(self, since: int = 0) -> str:
        """The first thing said since a mark that ends a normal start; empty if there is none."""
        match = FATAL.search(self._text, since)
        return match.group(0) if match else ""

    def close(self) -> None:
        """Stop reading; the text stays."""
        self._closing = True
        self._thread.join()
        line = getattr(self._line, "_socket", None)
        self._line.close()
        if line is not None:  # pyserial (protocol_socket.py) forgets to close it if the other end is gone
            line.close()
        if self._log:
            self._log.close()
