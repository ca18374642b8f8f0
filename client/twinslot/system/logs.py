"""Where log lines go: to the journal with their fields, otherwise to standard error with a priority in front.

Every entry point (command, units, service, workers) calls `set_up` once, before it does anything. Modules use `logging`
as usual; `extra={"journal": {"TWINSLOT_CODE": ...}}` adds fields. `TWINSLOT_DEBUG=1` in the environment, for a unit by
`Environment=` in a drop-in, adds the lines of level `DEBUG`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from twinslot.core.journal_entry import encode_entry
from twinslot.core.text import printable

SOCKET: Final = Path("/run/systemd/journal/socket")
_SEND_BUFFER: Final = 8 * 1024 * 1024  # bytes asked for, as sd_journal_send(3) does
# syslog(3), by the level of `logging` from which it holds
_PRIORITIES: Final = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))


def set_up(*, worker: bool = False) -> None:
    """Set the handlers of this process; a second call changes nothing.

    Args:
        worker: What parses images opens no socket: its standard error is the journal's, or its starter's.
    """
    root = logging.getLogger()
    if any(isinstance(handler, JournalHandler | logging.StreamHandler) for handler in root.handlers):
        return
    for handler in _handlers(worker=worker):
        root.addHandler(handler)
    root.setLevel(logging.INFO)
    if debugging():
        logging.getLogger("twinslot").setLevel(logging.DEBUG)


def debugging() -> bool:
    """Whether `TWINSLOT_DEBUG=1` asks for more."""
    return os.environ.get("TWINSLOT_DEBUG") == "1"


def started_by_systemd() -> bool:
    """Whether standard error is systemd's, who reads a priority in front of each line (sd-daemon(3))."""
    return "JOURNAL_STREAM" in os.environ or ("INVOCATION_ID" in os.environ and not _on_terminal())


def priority(level: int) -> int:
    """The priority of syslog(3) for a level of `logging`: 2 to 7."""
    return next((number for least, number in _PRIORITIES if level >= least), 7)


class JournalHandler(logging.Handler):
    """Sends each record to the journal's socket, without waiting: a journal that hangs must not hold an update.

    Args:
        path: The socket.
        otherwise: Takes what the journal does not take.
    """

    def __init__(self, path: Path = SOCKET, otherwise: logging.Handler | None = None) -> None:
        super().__init__()
        self._path, self._otherwise = path, otherwise
        self._socket: socket.socket | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Send one entry."""
        try:
            self._connected().send(encode_entry(_fields(record)), socket.MSG_DONTWAIT)
        except OSError:
            self._hang_up()
            if self._otherwise is not None:
                self._otherwise.handle(record)
        except Exception:  # noqa: BLE001 - a line that cannot be written must not end an update
            self.handleError(record)

    def close(self) -> None:
        """Close the socket."""
        self._hang_up()
        super().close()

    def _connected(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
            self._socket.connect(str(self._path))
        return self._socket

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Prefixed(logging.Formatter):
    """`<3>` in front of each line of an error, `<4>` of a warning and so on, as sd-daemon(3) has it."""

    def format(self, record: logging.LogRecord) -> str:
        """The message on one line; a traceback keeps its lines, each with the prefix."""
        number = priority(record.levelno)
        return "\n".join(f"<{number}>{line}" for line in _lines(record))


class Named(logging.Formatter):
    """`twinslot: warning: ...` for people."""

    def format(self, record: logging.LogRecord) -> str:
        """As `Prefixed`, with the name of the level on the first line."""
        return f"twinslot: {record.levelname.lower()}: " + "\n".join(_lines(record))


def _handlers(*, worker: bool) -> list[logging.Handler]:
    error = logging.StreamHandler(sys.stderr)
    error.setFormatter(Prefixed() if started_by_systemd() else Named())
    if not started_by_systemd() and not debugging():
        error.setLevel(logging.WARNING)
    if worker or not SOCKET.exists():
        return [error]
    if started_by_systemd():
        return [JournalHandler(otherwise=error)]
    return [JournalHandler(), error]


def _on_terminal() -> bool:
    with contextlib.suppress(AttributeError, ValueError, OSError):  # closed by the starter
        return sys.stderr.isatty()
    return False


def _fields(record: logging.LogRecord) -> dict[str, str]:
    more: Mapping[str, str] = getattr(record, "journal", {})
    head = {"MESSAGE": "\n".join(_lines(record)), "PRIORITY": str(priority(record.levelno))}
    place = {"CODE_FILE": record.pathname, "CODE_LINE": str(record.lineno), "CODE_FUNC": record.funcName or ""}
    return head | {"SYSLOG_IDENTIFIER": "twinslot"} | place | dict(more)


def _lines(record: logging.LogRecord) -> list[str]:
    """The message on one line, then those of a traceback; none holds a control character."""
    traceback = logging.Formatter().formatException(record.exc_info).split("\n") if record.exc_info else []
    return [printable(record.getMessage().replace("\n", " ")), *map(printable, traceback)]
