"""The guest's end of a serial console (framing.py tells the frames); the agent in rootfs/lab imports it.

Copied to the guest together with framing.py: standard library only, and nothing else of the lab. Never in the product.
"""

from __future__ import annotations

import json
import os
import subprocess
import termios
import threading
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twinslot_lab.framing import ConsoleFrame, Splitter, frames_of

_SOON, _LATER = 2.0, 15.0  # seconds between two greetings: at first, and when nobody seems to listen
_GREETINGS = 30  # so many soon ones
_SHELL = (b"shell\r", b"shell\n")  # what a person types to get one

Answer = Callable[[bytes], dict[str, Any]]


class ConsoleServer:
    """Answers requests that come as frames.

    Args:
        write: Sends all of some bytes.
        answer: Does what a request asks; called in a thread of its own, one request at a time unless the host gave up.
        hello: What this start of the guest says of itself.
    """

    def __init__(self, write: Callable[[bytes], None], answer: Answer, hello: dict[str, Any]) -> None:
        self._write, self._answer = write, answer
        self._hello = ConsoleFrame("H", str(hello["hello"])[:8], data=json.dumps(hello))
        self._heard = threading.Event()
        self._writing = threading.Lock()
        self._splitter = Splitter()
        self._id = ""
        self._parts: dict[int, str] = {}
        self._reply: list[ConsoleFrame] = []
        self._typed = b""

    def greet(self) -> None:
        """Say hello until the host has heard it; for a thread."""
        count = 0
        while not self._heard.is_set():
            self._send(self._hello)
            count += 1
            self._heard.wait(_SOON if count < _GREETINGS else _LATER)

    def feed(self, data: bytes) -> bool:
        """What came over the line. True if a person asks for a shell."""
        for item in self._splitter.feed(data):
            if isinstance(item, ConsoleFrame):
                self._take(item)
            else:
                self._typed = (self._typed + item)[-len(_SHELL[0]) :]
        wanted = self._typed in _SHELL
        self._typed = b"" if wanted else self._typed
        return wanted

    def _take(self, frame: ConsoleFrame) -> None:
        if frame.kind == "K":
            self._heard.set()
        elif frame.kind == "W":
            self._send(self._hello)
        elif frame.kind == "Q":
            self._request(frame)
        elif frame.kind == "G":
            self._again(frame)

    def _request(self, frame: ConsoleFrame) -> None:
        """A part of a request: new, or said again because our answer was lost."""
        self._heard.set()
        if frame.id != self._id:
            self._id, self._parts, self._reply = frame.id, {}, []
        known = len(self._parts) == frame.parts
        self._parts[frame.part] = frame.data
        self._send(ConsoleFrame("A", frame.id, frame.part, frame.parts))
        if not known and len(self._parts) == frame.parts:
            text = "".join(self._parts[n] for n in range(frame.parts))
            threading.Thread(target=self._work, args=(frame.id, text), daemon=True).start()

    def _work(self, id_: str, text: str) -> None:
        reply = frames_of("R", id_, json.dumps(self._answer(text.encode())))
        if id_ == self._id:
            self._reply = reply
            for frame in reply:
                self._send(frame)

    def _again(self, frame: ConsoleFrame) -> None:
        reply = self._reply
        if frame.id != self._id:
            self._send(ConsoleFrame("N", frame.id))
        elif not reply:
            self._send(ConsoleFrame("B", frame.id))
        elif frame.part < len(reply):
            self._send(reply[frame.part])

    def _send(self, frame: ConsoleFrame) -> None:
        with self._writing:
            self._write(frame.encode())


def console_device() -> Path:
    """The terminal that the kernel writes to: the last one of `console=`."""
    return Path("/dev") / Path("/sys/class/tty/console/active").read_text().split()[-1]


def open_line(device: Path) -> tuple[int, list[Any]]:
    """Open a terminal for bytes as they are, whatever the modem lines say; returns how it was before, too."""
    line = os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    os.set_blocking(line, True)
    before = termios.tcgetattr(line)
    tty.setraw(line)
    raw = termios.tcgetattr(line)
    raw[tty.CFLAG] |= termios.CLOCAL | termios.CREAD
    termios.tcsetattr(line, termios.TCSANOW, raw)
    return line, before


def serve_console(answer: Answer, hello: dict[str, Any], device: Path | None = None) -> None:
    """Answer on the console until the line hangs up. A person who types "shell" and Enter gets one there."""
    line, before = open_line(device or console_device())

    def write(data: bytes) -> None:
        while data:
            data = data[os.write(line, data) :]

    server = ConsoleServer(write, answer, hello)
    threading.Thread(target=server.greet, daemon=True).start()
    while data := os.read(line, 4096):
        if server.feed(data):
            termios.tcsetattr(line, termios.TCSADRAIN, before)
            subprocess.run(["/bin/sh", "-i"], stdin=line, stdout=line, stderr=line, cwd="/", check=False)
            tty.setraw(line)
