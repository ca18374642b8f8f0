"""The boot loader's two faces: what the client sees, and what happens at power-on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from simulation import rawcopy
from simulation.disk import SimulatedCard
from twinslot.bootloader.base import CopyState, Environment, EnvironmentCopy
from twinslot.bootloader.script import make_script
from twinslot.core.errors import DeviceError, LifecycleError

DEFAULT = {  # the boot contract's built-in default
    "slot": "a",
    "slot_a": "good",
    "slot_b": "good",
    "upgrade_available": "1",
    "bootcount": "0",
    "bootlimit": "3",
}


class SimulatedBootloader:
    """Implements `bootloader.base.Bootloader` on a card that tears."""

    def __init__(self, card: SimulatedCard, default: Mapping[str, str] | None = None) -> None:
        self._card, self._default = card, DEFAULT if default is None else dict(default)

    def read(self) -> Environment:
        now, copies = rawcopy.current(self._card), []
        for number, copy in enumerate(rawcopy.copies(self._card)):
            place = f"card:{rawcopy.PLACES[number]:#x}"
            if copy is None:
                copies.append(EnvironmentCopy(place, CopyState.CORRUPT))
            else:
                state = CopyState.CURRENT if number == now else CopyState.OLDER
                copies.append(EnvironmentCopy(place, state, copy[0], copy[1]))
        return Environment({} if now is None else copies[now].variables, tuple(copies))

    def write(self, changes: Mapping[str, str]) -> Environment:
        make_script(changes)  # what a real tool would not carry unchanged is refused here as well
        before = self.read()
        if before.lost:
            raise DeviceError("both copies of the boot environment are lost", code="env-lost")
        self._store(dict(before.variables) | dict(changes), "decide")
        return self.read()

    def settle(self) -> Environment:
        now = self.read()
        if now.lost:
            raise DeviceError("both copies of the boot environment are lost", code="env-lost")
        if not now.settled:
            self._store(dict(now.variables), "settle")
        return self.read()

    def reset(self, changes: Mapping[str, str]) -> Environment:
        make_script(changes)
        if not self.read().lost:
            raise LifecycleError("a copy of the boot environment is good: there is nothing to reset", code="env-reset")
        for _ in rawcopy.PLACES:
            self._store(self._default | dict(changes), "reset")
        return self.read()

    def _store(self, variables: dict[str, str], name: str) -> None:
        rawcopy.store(self._card, {k: v for k, v in variables.items() if v}, name)


def power_on(card: SimulatedCard, loads: Callable[[str], bool]) -> str | None:
    """U-Boot and the boot script: which slot starts (docs/boot-contract.md section 3); None when none may.

    Saves like the real ones: counting first, then one write when the script hands over.
    """
    now = rawcopy.current(card)
    env = dict(DEFAULT)
    if now is not None:
        copy = rawcopy.copies(card)[now]
        assert copy is not None
        env = copy[1]
    if env.get("upgrade_available") == "1":
        env["bootcount"] = str(int(env.get("bootcount", "0")) + 1)
        rawcopy.store(card, env, "bootcount")
    slot = env.get("slot", "a")
    if int(env.get("bootcount", "0")) > int(env.get("bootlimit", "3")) and env.get("upgrade_available") == "1":
        return _hand_over(card, env, slot, "bootlimit", loads)
    if _may_start(env, slot) and loads(slot):
        return slot
    return _hand_over(card, env, slot, "load-failed", loads)


def _may_start(env: dict[str, str], slot: str) -> bool:
    return env.get(f"slot_{slot}") in ("good", "trial")


def _hand_over(
    card: SimulatedCard, env: dict[str, str], slot: str, reason: str, loads: Callable[[str], bool]
) -> str | None:
    other = "b" if slot == "a" else "a"
    if env.get(f"slot_{other}") != "good":
        return slot if _may_start(env, slot) and loads(slot) else None
    if env.get(f"slot_{slot}") == "trial":
        env |= {f"slot_{slot}": "bad", "ts_failed": env.get("ts_release", "")}
    env |= {"ts_reason": reason, "slot": other, "upgrade_available": "1", "bootcount": "1"}
    rawcopy.store(card, {k: v for k, v in env.items() if v}, "hand over")
    return other if loads(other) else None
