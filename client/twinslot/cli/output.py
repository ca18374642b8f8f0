"""Where the words go: results to standard output, human errors and progress to standard error.

A reader that went away never stops a job. `Output.lost` remembers it; `cli.main` decides what it means.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, TextIO

from twinslot.core.errors import DeviceError, Refusal, RefusedError, TwinslotError
from twinslot.core.text import printable

JsonObject = dict[str, object]
EXIT_PIPE: Final = 141  # 128 + SIGPIPE: the reader of our output went away


class Output:
    """Both streams of one call. Used from one thread at a time.

    Args:
        as_json: One JSON object per line on standard output, and nothing else anywhere.
        program: Named in front of each error.
    """

    def __init__(self, *, as_json: bool, program: str = "twinslot") -> None:
        self.as_json = as_json
        self.program = program
        self.lost: OSError | None = None

    @property
    def watched(self) -> bool:
        """A person looks at a terminal that shows progress."""
        return sys.stderr is not None and sys.stderr.isatty()

    def line(self, data: Mapping[str, object]) -> None:
        """One JSON object on a line."""
        self._write(json.dumps(data, default=str) + "\n")

    def text(self, lines: Iterable[str]) -> None:
        """Lines for people."""
        self._write("".join(f"{line}\n" for line in lines))

    def data(self, data: bytes) -> None:
        """Bytes as they are."""
        if sys.stdout is None:  # closed by whoever started us
            return
        with self._guarded():
            sys.stdout.flush()
            sys.stdout.buffer.write(data)
            sys.stdout.flush()

    def aside(self, text: str) -> None:
        """To standard error, as it stands; lost words there are no error."""
        with contextlib.suppress(OSError, ValueError):
            _put(sys.stderr, text)

    def error(self, error: TwinslotError, exit_status: int, **more: object) -> None:
        """A failure, in the form that was asked for."""
        if self.as_json:
            self.line(error_object(error, exit_status) | more)
        else:
            self.aside("".join(f"{line}\n" for line in error_lines(error, self.program)))

    def lost_status(self) -> int:
        """The exit status when an answer was lost: its reader went away, or it could not be written, which is told."""
        if isinstance(self.lost, BrokenPipeError):
            return EXIT_PIPE
        assert self.lost is not None
        self.aside(f"{self.program}: the output cannot be written: {self.lost.strerror}\n")
        return DeviceError.exit_status

    def _write(self, text: str) -> None:
        with self._guarded():
            _put(sys.stdout, text)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            self.lost = self.lost or e
            with contextlib.suppress(OSError, ValueError):  # from here on, and at exit, nothing reads it
                devnull = os.open(os.devnull, os.O_WRONLY)
                os.dup2(devnull, sys.stdout.fileno())
                os.close(devnull)


def _put(stream: TextIO | None, text: str) -> None:
    if stream is None:  # closed by whoever started us
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


def error_object(error: TwinslotError, exit_status: int) -> JsonObject:
    """The last line of a failed call: the error as on every surface, and what the process ends with."""
    return {"type": "error"} | error.as_dict() | {"exit_status": exit_status}


def error_lines(error: TwinslotError, program: str = "twinslot") -> Iterator[str]:
    """Each reason on its line, each hint below its reason."""
    reasons: tuple[TwinslotError | Refusal, ...] = error.reasons if isinstance(error, RefusedError) else (error,)
    for reason in reasons:
        yield printable(f"{program}: {sentence(reason)}")
        if reason.hint:
            yield printable(f"  hint: {reason.hint}")


def sentence(reason: TwinslotError | Refusal) -> str:
    """Message, expected and found; without the hint."""
    return str(TwinslotError(reason.message, expected=reason.expected, found=reason.found))
