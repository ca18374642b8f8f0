"""The slots of a device and the one that runs: which of them is written next, and where "back" is.

Two slots ship. What is said here holds for any number: names come from `names`, never from "the other one".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from twinslot.core.model import SlotName, SlotState

S = TypeVar("S", bound=str)


@dataclass(frozen=True, slots=True)
class SlotSet(Generic[S]):
    """All slots of a device, seen from one of them.

    Attributes:
        names: Every slot, in the order of the boot contract; at least two.
        running: The slot whose partition holds the root file system (S1), or another one to look from.
    """

    names: tuple[S, ...]
    running: S

    @property
    def others(self) -> tuple[S, ...]:
        """Every slot but this one, in order."""
        return tuple(name for name in self.names if name != self.running)

    def back(self, written: str = "") -> S:
        """The slot to start when this one is left (`ts_back` of the boot contract).

        Args:
            written: What stands in the environment. What names no slot, or this one, counts as absent: then it is the
                first of the others, which of two slots is the other one.
        """
        return next((name for name in self.others if name == written), self.others[0])

    def target(self, states: Mapping[S, SlotState] | None = None, back: str = "") -> S:
        """The slot that the next update is written to: never the one that runs (S1).

        Args:
            states: What the environment knows of each; a slot that does not start is taken first.
            back: Where the running slot's way back is; it is the last to be overwritten (S7).
        """

        def worth(name: S) -> tuple[bool, bool]:
            return name == back, (states or {}).get(name, SlotState.BAD) is not SlotState.BAD

        return min(self.others, key=worth)  # of equals the first


def slots_from(running: SlotName) -> SlotSet[SlotName]:
    """The slots of this client (`SlotName`), seen from one of them."""
    return SlotSet(tuple(SlotName), running)
