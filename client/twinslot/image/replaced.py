"""Which bytes of the base the literals of a piece stand in for: what their stream may repeat. Pure; no I/O.

New code is mostly old code that was compiled anew, and what it replaces lies between the sources of the ops around it.
The tool and the device find it by one rule (docs/patch-format.md section 5.1); no byte of a patch says where it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Final, NamedTuple

RUN_MAX: Final = 32 * 1024  # bytes for one run of literals
REPLACED_MAX: Final = 768 * 1024  # bytes for a piece; with the literals' own, what their window holds


class Op(IntEnum):
    """What an op does with the next bytes of a group (section 6)."""

    COPY = 0  # the base's bytes
    ADD = 1  # the base's words, as they are expected to have become, plus those of the residual stream
    LITERAL = 2  # bytes of the literal stream
    ZERO = 3  # zero bytes


class PlacedOp(NamedTuple):
    """An op, its length in bytes, and where its source begins in the base; of no meaning for those without one."""

    kind: int
    size: int
    source: int


# keeps: S9
def replaced_runs(ops: Iterable[PlacedOp], base_size: int) -> Iterator[tuple[int, int]]:
    """The runs of the base, each as (first byte, bytes), in the order of the piece; `REPLACED_MAX` bytes at most.

    Args:
        ops: All of the piece.
        base_size: Bytes of the base. A source beyond it is none that a patch may have, and gives no run.
    """
    room, behind, literal = REPLACED_MAX, -1, 0
    for kind, size, source in (*ops, PlacedOp(Op.COPY, 0, -1)):
        if kind == Op.LITERAL:
            literal += size
        elif kind != Op.ZERO:
            if literal and behind >= 0:
                gap = source - behind
                length = gap if 0 < gap <= RUN_MAX else min(literal, RUN_MAX)
                length = min(length, base_size - behind, room)
                if length > 0:
                    yield behind, length
                    room -= length
            behind, literal = source + size, 0
