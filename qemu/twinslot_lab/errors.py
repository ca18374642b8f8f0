"""What goes wrong in the lab: a build step, or a board."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from twinslot.core.errors import TwinslotError


class LabError(Exception):
    """A step of the lab failed; the message is one sentence with the first cause.

    Args:
        message: What failed, no full stop.
        hint: What to look at or to install.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(f"{message} (hint: {hint})" if hint else message)
        self.message = message
        self.hint = hint


class BuildError(LabError):
    """A board could not be built. Nothing half-built stays in the cache.

    Args:
        message: What failed and why, in one sentence.
        hint: As for `LabError`.
        output: The end of what a failed program said.
    """

    def __init__(self, message: str, *, hint: str | None = None, output: str = "") -> None:
        super().__init__(message, hint=hint)
        self.output = output.strip()


@contextmanager
def as_build_error() -> Iterator[None]:
    """What the image tool could not make, the lab could not build."""
    try:
        yield
    except TwinslotError as e:
        raise BuildError(str(e)) from e


class BoardError(LabError):
    """A board broke, or did not get somewhere in time.

    Args:
        message: The first cause.
        tail: The last lines of its console, for the report.
    """

    def __init__(self, message: str, tail: str = "") -> None:
        super().__init__(f"{message}\n--- end of the console:\n{tail}" if tail else message)
        self.cause = message


class GuestError(LabError):
    """A command in the guest ended with another status than expected; the board itself is fine."""
