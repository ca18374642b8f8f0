"""What people want to know of a download while it goes on: tries that failed, and savings that could not be had."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Retry:
    """A try failed, and another one follows.

    Attributes:
        found: What went wrong.
        number: Of the try that follows, counted from 1 since something arrived.
        most: How many there will be without progress.
        wait: Seconds until it begins.
    """

    found: str
    number: int
    most: int
    wait: float

    def __str__(self) -> str:
        return f"{self.found}; try {self.number} of {self.most} in {self.wait:.0f} s"


@dataclass(frozen=True, slots=True)
class Unused:
    """Something that would have saved a part of the download is not used.

    Attributes:
        what: `patch`, `block list` or `ranges`.
        why: What was found.
    """

    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.what} not used: {self.why}"


Note = Retry | Unused
