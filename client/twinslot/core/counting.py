"""Counting what may come without end, such as one refused image offered again and again, in a bounded place (S19)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

EXACT_MAX: Final = 32  # different ones that are told apart in one boot
KINDS_MAX: Final = 64  # with those that are only told apart by kind
REST: Final = "rest"  # all others


# keeps: S19
def counted(counts: Mapping[str, int], exact: str, kind: str) -> tuple[dict[str, int], int]:
    """One more of this, and how many there are now.

    Args:
        counts: So far, by key; never more than `KINDS_MAX` + 1 of them.
        exact: Key of the very same thing.
        kind: Key of things of its kind, when too many different ones came to tell them apart.
    """
    key = REST
    if exact in counts or len(counts) < EXACT_MAX:
        key = exact
    elif kind in counts or len(counts) < KINDS_MAX:
        key = kind
    times = counts.get(key, 0) + 1
    return dict(counts) | {key: times}, times


def worth_a_row(times: int) -> bool:
    """The first, and each time that the number has doubled: the rows grow with its logarithm."""
    return times & (times - 1) == 0
