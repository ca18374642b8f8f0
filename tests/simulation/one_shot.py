"""A board whose boot loader starts a slot on trial once: its own flag beside the variables, used up before the start.

Two kinds, both behaving as their originals do with what they keep: `LEAVES` changes no variable of the client's (EFI
BootNext, Raspberry Pi tryboot); `MOVES` has `slot` say where it goes back to (GRUB, bootloader_hooks/grub-once).
Neither counts nor writes a reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from simulation import rawcopy
from simulation.board import SimulatedBoard
from simulation.bootloader import SimulatedBootloader
from twinslot.bootloader.base import Bootloader, CopyState, Environment, EnvironmentCopy
from twinslot.core.model import LoaderTraits

LEAVES: Final = LoaderTraits(counts=False, hands_over=False, tells_reason=False)
MOVES: Final = LoaderTraits(counts=False, hands_over=True, tells_reason=False)
ONCE: Final = "loader_once"  # the boot loader's flag: the slot to be tried once; not told to the client


class OneShotBootloader(SimulatedBootloader):
    """The client's half: the flag is set by the write that arms, and taken back by any other decision."""

    def read(self) -> Environment:
        found = super().read()
        copies = tuple(self._told(copy) for copy in found.copies)
        now = next((copy.variables for copy in copies if copy.state is CopyState.CURRENT), {})
        return Environment(now, copies)

    def _told(self, copy: EnvironmentCopy) -> EnvironmentCopy:
        variables = dict(copy.variables)
        pending = variables.pop(ONCE, "")
        if self.traits.hands_over and pending:
            variables["slot"] = pending
        return EnvironmentCopy(copy.place, copy.state, copy.flags, variables)

    def _store(self, variables: dict[str, str], name: str) -> None:
        chosen, pending = variables.get("slot", ""), self._pending()
        trial = variables.get(f"slot_{chosen}") == "trial" and variables.get("upgrade_available") == "1"
        if trial and (name == "decide" or pending):  # to settle what was used up arms nothing
            variables = variables | {ONCE: chosen}
            if self.traits.hands_over:
                variables["slot"] = variables.get("ts_back") or ("a" if chosen == "b" else "b")
        super()._store(variables, name)

    def _pending(self) -> str:
        now = rawcopy.current(self._card)
        copy = None if now is None else rawcopy.copies(self._card)[now]
        return copy[1].get(ONCE, "") if copy else ""


class OneShotBoard(SimulatedBoard):
    """A simulated board with such a boot loader; `traits` is set for the class under test."""

    traits = LEAVES

    def bootloader(self) -> Bootloader:
        made = OneShotBootloader(self.card, meet=self.shortages.meet)
        made.traits = self.traits
        return made

    def power_on(self, loads: Callable[[str], bool]) -> str | None:
        """The flag is used up in one write, then its slot starts; without one, the good slot that is chosen."""
        now = rawcopy.current(self.card)
        if now is None:
            return next((slot for slot in "ab" if loads(slot)), None)
        flags, found = rawcopy.copies(self.card)[now] or (0, {})
        once = found.get(ONCE, "")
        if once:
            left = {name: value for name, value in found.items() if name != ONCE}
            self.card.write(rawcopy.PLACES[1 - now], rawcopy.pack(left, (flags + 1) % 256), "used up")
            if loads(once):
                return once
        return next((slot for slot in _good(found) if loads(slot)), None)


def _good(found: Mapping[str, str]) -> list[str]:
    """Good slots, the chosen one first."""
    order = sorted("ab", key=lambda slot: slot != found.get("slot"))
    return [slot for slot in order if found.get(f"slot_{slot}") == "good"]


class LeavingBoard(OneShotBoard):
    """The variables stay as they are."""


class MovingBoard(OneShotBoard):
    """`slot` moves back."""

    traits = MOVES
