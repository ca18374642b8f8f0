"""How the roots that a device has trusted stand in its record. Standard library only.

Two entries, written together: `roots`, a list of all of them, oldest first; and `root`, the newest alone, which is what
clients of before the list read and write. Neither is believed: `trust.roots` walks them from the built-in root.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

CHAIN: Final = "roots"
NEWEST: Final = "root"
KEPT_MAX: Final = 1024 * 1024  # bytes, together; a chain that came in images is no longer than one trust section


# keeps: S24
def read_chain(chain: str | None, newest: str | None) -> tuple[bytes, ...]:
    """The kept roots, oldest first. A list that is none, or too long, is one root that follows from nothing.

    Args:
        chain: The entry `roots`.
        newest: The entry `root`. Where an older client added one, the list does not have it yet.
    """
    if chain is None:
        roots: tuple[bytes, ...] = ()
    else:
        try:
            roots = tuple(root.encode() for root in json.loads(chain))
        except (ValueError, TypeError, AttributeError, RecursionError):
            roots = (b"",)
    if newest is not None and newest.encode() not in roots:
        roots += (newest.encode(),)
    return roots if sum(map(len, roots)) <= KEPT_MAX else (b"",)


def write_chain(roots: Sequence[bytes]) -> dict[str, str | None]:
    """The two entries, to be stored in one step; None: there is none."""
    texts = [root.decode() for root in roots]
    return {CHAIN: json.dumps(texts), NEWEST: texts[-1]} if texts else {CHAIN: None, NEWEST: None}
