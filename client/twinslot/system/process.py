"""Run one foreign program with bounds on its time and its output. It proves nothing by how it ends; callers look."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Final

OUTPUT_LIMIT: Final = 1 << 16  # bytes kept of each stream; the rest is read and dropped, so memory stays bounded (S9)
_GRACE: Final = 5.0  # seconds for the kernel to collect a killed program; longer means it hangs in a device


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """How a program ended.

    Attributes:
        status: Exit status; negative: killed by that signal; None: did not end in time and was killed.
        stdout: Its output, the last `limit` bytes.
        stderr: The same.
        cut: The output was longer than kept.
    """

    status: int | None
    stdout: bytes
    stderr: bytes
    cut: bool = False

    def complaint(self) -> str:
        """How it ended and its last words, one line, for messages."""
        ended = "did not end in time" if self.status is None else f"ended with status {self.status}"
        words = last_line(self.stderr) or last_line(self.stdout)
        return f"{ended}: {words}" if words else ended


def last_line(data: bytes, limit: int = 200) -> str:
    """The last line that is not blank, printable, at most `limit` characters."""
    lines = [line.strip() for line in data.decode(errors="replace").splitlines() if line.strip()]
    return "".join(char if char.isprintable() else "?" for char in lines[-1][-limit:]) if lines else ""


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    stdin: bytes = b"",
    limit: int = OUTPUT_LIMIT,
    umask: int = 0o022,
    environment: Mapping[str, str] | None = None,
    descriptors: Sequence[int] = (),
) -> ProgramResult:
    """Run a program in a process group of its own and wait at most `timeout` seconds; then kill the group.

    Children that it leaves behind in its group are killed too. `stdin` comes from memory, so that a program which does
    not read cannot block us. `umask` is for the files that it makes: the units' own would hide a product's. It has our
    environment, with what `environment` says beside, and of our open files those of `descriptors`.

    Raises:
        OSError: The program could not be started.
    """
    with _memory_file(stdin) as source:
        process = subprocess.Popen(
            argv,
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=os.environ | {"LC_ALL": "C"} | dict(environment or {}),
            pass_fds=descriptors,
            umask=umask,
        )
    with process.stdout as stdout, process.stderr as stderr:  # type: ignore[union-attr] # both are pipes
        try:  # from here on it runs: whatever fails, it does not stay behind
            collector = _Collector((stdout, stderr), limit)
            in_time = collector.wait(process.pid, time.monotonic() + timeout)
        finally:
            _kill_group(process.pid)  # before it is reaped: until then nobody else can get its number
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE)
        out, err = collector.kept
        return ProgramResult(process.returncode if in_time else None, out, err, collector.cut)


class _Collector:
    """Reads both pipes and keeps the tail of each, until the program ends; children may keep the pipes open."""

    def __init__(self, streams: tuple[IO[bytes], IO[bytes]], limit: int) -> None:
        self._limit = limit
        self._tails = {stream.fileno(): b"" for stream in streams}
        self._selector = selectors.DefaultSelector()
        self.cut = False
        for fd in self._tails:
            os.set_blocking(fd, False)
            self._selector.register(fd, selectors.EVENT_READ)

    @property
    def kept(self) -> tuple[bytes, bytes]:
        first, second = self._tails.values()
        return first, second

    def wait(self, pid: int, until: float) -> bool:
        """Read until the program ended, without reaping it; False when the time is over.

        Raises:
            OSError: As the system says it; the caller names what was meant.
        """
        ended = os.pidfd_open(pid)
        try:
            with self._selector:
                self._selector.register(ended, selectors.EVENT_READ)
                while ended in self._selector.get_map():
                    left = until - time.monotonic()
                    if left <= 0:
                        return False
                    self._read_ready(left)
                while self._read_ready(0) and time.monotonic() <= until:
                    pass  # what it wrote before it ended
            return True
        finally:
            os.close(ended)

    def _read_ready(self, seconds: float) -> bool:
        """Read what is there, waiting at most so many seconds.

        Raises:
            OSError: As the system says it; the caller names what was meant.
        """
        events = self._selector.select(seconds) if self._selector.get_map() else []
        for key, _ in events:
            data = os.read(key.fd, 1 << 16) if key.fd in self._tails else b""
            if not data:
                self._selector.unregister(key.fd)
                continue
            joined = self._tails[key.fd] + data
            self.cut = self.cut or len(joined) > self._limit
            self._tails[key.fd] = joined[-self._limit :]
        return bool(events)


def _memory_file(data: bytes) -> IO[bytes]:
    """A file without a name, with this content.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    stream = os.fdopen(os.memfd_create("stdin", os.MFD_CLOEXEC), "w+b")
    stream.write(data)
    stream.seek(0)
    return stream


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
