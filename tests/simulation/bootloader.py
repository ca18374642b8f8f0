"""The boot loader's two faces: what the client sees, and what happens at power-on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from simulation import rawcopy
from simulation.disk import SimulatedCard
from twinslot.bootloader.base import CopyState, Environment, EnvironmentCopy
from twinslot.bootloader.env_lines import make_script
from twinslot.core.errors import DeviceError, LifecycleError
from twinslot.core.model import UBOOT, LoaderTraits
from twinslot_lab.crash import bootmodel
from twinslot_lab.crash.bootmodel import DEFAULT, Card


class SimulatedBootloader:
    """Implements `bootloader.base.Bootloader` on a card that tears."""

    traits = UBOOT

    def __init__(
        self,
        card: SimulatedCard,
        default: Mapping[str, str] | None = None,
        meet: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._card, self._default = card, dict(DEFAULT if default is None else default)
        self._meet = meet  # told before each read and each run of the tool; raises what then fails

    def describe(self) -> LoaderTraits:
        return self.traits

    def read(self) -> Environment:
        self._meet("environment read")
        now, copies = rawcopy.current(self._card), []
        for number, copy in enumerate(rawcopy.copies(self._card)):
            place = f"card:{rawcopy.PLACES[number]:#x}"
            if copy is None:
                copies.append(EnvironmentCopy(place, CopyState.CORRUPT))
            else:
                state = CopyState.CURRENT if number == now else CopyState.OLDER
                copies.append(EnvironmentCopy(place, state, copy[0], copy[1]))
        return Environment({} if now is None else copies[now].variables, tuple(copies))

    def write(self, changes: Mapping[str, str], since: Environment | None = None) -> Environment:
        make_script(changes)  # what a real tool would not carry unchanged is refused here as well
        before = since or self.read()
        if before.lost:
            raise DeviceError("both copies of the boot environment are lost", code="env-lost")
        self._store(dict(before.variables) | dict(changes), "decide")
        return self.read()

    def settle(self, since: Environment | None = None) -> Environment:
        now = since or self.read()
        if now.lost:
            raise DeviceError("both copies of the boot environment are lost", code="env-lost")
        if now.settled:
            return now
        self._store(dict(now.variables), "settle")
        return self.read()

    def reset(self, changes: Mapping[str, str], since: Environment | None = None) -> Environment:
        make_script(changes)
        if not (since or self.read()).lost:
            raise LifecycleError("a copy of the boot environment is good: there is nothing to reset", code="env-reset")
        for _ in rawcopy.PLACES:
            self._store(self._default | dict(changes), "reset")
        return self.read()

    def _store(self, variables: dict[str, str], name: str) -> None:
        self._meet("environment write")
        rawcopy.store(self._card, {k: v for k, v in variables.items() if v}, name)


def power_on(card: SimulatedCard, loads: Callable[[str], bool]) -> str | None:
    """U-Boot and the boot script: which slot starts; None when none may.

    What they decide and save is the model's that is held to real U-Boot (tests/board/test_boot_model.py). Each save is
    a storage call here, in the order in which U-Boot makes them: the tries first, then the handing over.
    """
    now, found = rawcopy.current(card), rawcopy.copies(card)
    kept = {} if now is None else found[now][1]  # type: ignore[index]
    before = Card.read(*(card.read(place, rawcopy.SIZE) for place in rawcopy.PLACES))
    started = bootmodel.power_on(before, loads)
    saved = [at for at in (0, 1) if started.card.copies[at] != before.copies[at]]
    for at in sorted(saved, key=lambda at: at == started.card.now):
        copy = started.card.copies[at]
        foreign = {name: value for name, value in kept.items() if not bootmodel.is_told(name, value)}
        name = "bootcount" if copy.variables.get("slot") == before.variables.get("slot", "a") else "hand over"
        card.write(rawcopy.PLACES[at], rawcopy.pack(foreign | dict(copy.variables), copy.flags), name)
    return started.slot
