"""The chain of the audit's rows: how each follows from the row before, and where the chain ends. Pure.

A row's hash is SHA-256 over the hash before it and the row's own fields, as text and in this order. So one hash stands
for all rows up to it: number and hash of the last row are the chain's **end**, 64 hex digits that are kept elsewhere
(S25), in the boot environment (`ts_audit`), in seals and in what leaves the device.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

FIRST_LINK: Final = "0" * 64  # what the first row of all is chained to
NUMBER_MAX: Final = (1 << 53) - 1  # as for every number in our documents
_END: Final = re.compile(r"(0|[1-9][0-9]{0,15})-([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ChainEnd:
    """Number and hash of a row, which stand for the chain up to it. Number 0 with `FIRST_LINK`: no row yet."""

    number: int
    hash: str

    @property
    def text(self) -> str:
        """As it stands in the boot environment: `NUMBER-HASH`."""
        return f"{self.number}-{self.hash}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """From `text`; None: it is something else."""
        match = _END.fullmatch(text)
        return cls(int(match[1]), match[2]) if match else None


NOTHING: Final = ChainEnd(0, FIRST_LINK)


@dataclass(frozen=True, slots=True)
class ChainRow:
    """A row as it is stored: `body` is the text that the hash covers, JSON."""

    number: int
    at: str
    boot: str
    event: str
    body: str
    hash: str

    @property
    def end(self) -> ChainEnd:
        """The chain's end, if this row is the last."""
        return ChainEnd(self.number, self.hash)

    def follows(self, link: str) -> bool:
        """Whether its hash is the one that it has after a row with that hash."""
        return self.hash == link_of(link, self.at, self.boot, self.event, self.body)


def link_of(before: str, at: str, boot: str, event: str, body: str) -> str:
    """The hash of a row, 64 hex digits."""
    return hashlib.sha256(f"{before}\n{at}\n{boot}\n{event}\n{body}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Break:
    """Where a chain does not hold.

    Attributes:
        kind: `changed`, `cut` (rows are missing in the middle) or `reordered`.
        number: Of the first row that does not follow from the row before it.
        found: What is wrong, in a few words.
    """

    kind: str
    number: int
    found: str


# keeps: S25
def first_break(rows: Sequence[ChainRow], start: ChainEnd, signed: ChainEnd | None = None) -> Break | None:
    """The first row that does not follow from the one before it, and what was done to the rows; None: all follow.

    What was done is told as far as rows and hashes tell it: that something was done is certain in any case.

    Args:
        rows: In the order in which they stand.
        start: What the first of them follows: the last checkpoint, or `NOTHING`.
        signed: The end that was signed, if there is one: it tells a row that was changed from one that was taken out.
    """
    before = start
    for at, row in enumerate(rows):
        if row.number != before.number + 1 or not row.follows(before.hash):
            return _diagnosed(rows, at, before, signed)
        before = row.end
    return None


def _diagnosed(rows: Sequence[ChainRow], at: int, before: ChainEnd, signed: ChainEnd | None) -> Break:
    row = rows[at]
    if row.follows(before.hash):
        return Break("changed", row.number, f"row {before.number + 1} has another number")
    others = {other.hash: other.number for index, other in enumerate(rows) if index != at}
    follows = next((number for link, number in others.items() if row.follows(link)), None)
    if follows is not None or row.number <= before.number:
        where = f"it follows from row {follows}" if follows is not None else f"it stands behind row {before.number}"
        return Break("reordered", row.number, where)
    if row.number > before.number + 1:
        return Break("cut", row.number, f"rows {before.number + 1} to {row.number - 1} are missing")
    last = rows[-1]
    if signed is not None and last.hash == signed.hash and last.number < signed.number:
        return Break("cut", row.number, f"{signed.number - last.number} rows are missing before it")
    return Break("changed", row.number, "its hash is not the one of its content and the row before it")
