"""What U-Boot and the boot script do with a card, without booting: docs/boot-contract.md, sections 1 and 3, in order.

Pure: two copies in, the slot that starts and two copies out. tests/board/test_boot_model.py holds it against real
U-Boot. Only the contract's variables and those that begin with `ts_` are told; what else U-Boot saves is its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from twinslot.bootloader.uboot.rawenv import RawCopy, current, decode

# bootloader_hooks/uboot/common.env, section 3: what stands until a card says otherwise.
DEFAULT: Final[Mapping[str, str]] = {
    "slot": "a",
    "slot_a": "good",
    "slot_b": "good",
    "upgrade_available": "1",
    "bootcount": "0",
}
SLOTS: Final = ("a", "b")
LIMIT: Final = 3  # CONFIG_BOOTCOUNT_BOOTLIMIT; no card sets it
_NUMBERS: Final = frozenset({"upgrade_available", "bootcount"})  # of type "d" in CONFIG_ENV_FLAGS_LIST_STATIC


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy. `good` is about its CRC; without it the variables are empty."""

    good: bool
    flags: int
    variables: Mapping[str, str]


_LOST: Final = Copy(good=False, flags=0, variables={})

Loads = Callable[[str], bool]  # told a slot: whether its kernel and initrd can be read


@dataclass(frozen=True, slots=True)
class Card:
    """Both copies, as the model sees them."""

    copies: tuple[Copy, Copy]

    @classmethod
    def read(cls, first: bytes, second: bytes) -> Card:
        """From the raw bytes of both copies."""
        return cls.of(decode(first), decode(second))

    @classmethod
    def of(cls, first: RawCopy | None, second: RawCopy | None) -> Card:
        """From both copies."""
        return cls((_told(first), _told(second)))

    @property
    def now(self) -> int:
        """Which copy counts; -1: both are lost."""
        first, second = (copy.flags if copy.good else None for copy in self.copies)
        index = current(first, second)
        return -1 if index is None else index

    @property
    def variables(self) -> Mapping[str, str]:
        """What counts; empty when both copies are lost."""
        return self.copies[self.now].variables if self.now >= 0 else {}

    def put(self, index: int, variables: Mapping[str, str], flags: int) -> Card:
        """With one copy replaced."""
        copy = Copy(good=True, flags=flags % 256, variables=dict(variables))
        return replace(self, copies=(copy, self.copies[1]) if index == 0 else (self.copies[0], copy))


@dataclass(frozen=True, slots=True)
class Start:
    """One start: the slot whose kernel runs (None: nothing may start, the board resets), and the card after it."""

    slot: str | None
    card: Card


class _Running:
    """U-Boot with its environment in memory."""

    def __init__(self, card: Card, loads: Loads) -> None:
        self.card, self._loads = card, loads
        self._at = max(card.now, 0)  # the copy that counts; the other is replaced. After a loss the first is said to
        self._flags = card.copies[self._at].flags if card.now >= 0 else 0
        self.env = dict(DEFAULT) | dict(card.variables)
        for name in [name for name, value in self.env.items() if not value]:
            del self.env[name]  # "name=" in a card deletes (lib/hashtable.c, himport_r)

    def count(self) -> int:
        """drivers/bootcount: one more, saved only if tries are counted; otherwise they begin at none each time."""
        if not _number(self.env.get("upgrade_available")):
            return 1
        tries = _number(self.env.get("bootcount")) + 1
        self.env["bootcount"] = str(tries)
        self.save()
        return tries

    def save(self) -> None:
        """env/mmc.c, env_mmc_save: over the copy that does not count."""
        self._flags, self._at = (self._flags + 1) % 256, 1 - self._at
        self.card = self.card.put(self._at, {name: value for name, value in self.env.items() if value}, self._flags)

    def state(self, slot: str) -> str:
        return self.env.get(f"slot_{slot}", "")

    def start(self, slot: str) -> str | None:
        return slot if self._loads(slot) else None


def power_on(card: Card, loads: Loads) -> Start:
    """One start of the board."""
    uboot = _Running(card, loads)
    ran_out = uboot.count() > LIMIT
    slot = uboot.env.get("slot", "")
    uboot.env["slot"] = slot = slot if slot in SLOTS else SLOTS[0]
    startable = uboot.state(slot) in ("good", "trial")
    reason = uboot.env.get("ts_reason", "")
    started = None
    if startable and not ran_out:
        started, reason = uboot.start(slot), "load-failed"
    elif startable:
        reason = "bootlimit"
    if started is None:
        started = _go_on(uboot, slot, reason, startable=startable, ran_out=ran_out)
    return Start(started, uboot.card)


def _go_on(uboot: _Running, slot: str, reason: str, *, startable: bool, ran_out: bool) -> str | None:
    """Hand over to the other good slot; without one, tries that ran out go on all the same."""
    others = [name for name in SLOTS if name != slot]
    back = uboot.env.get("ts_back")
    other = back if back in others else others[0]
    if uboot.state(other) == "good":
        return _hand_over(uboot, slot, other, reason)
    return uboot.start(slot) if ran_out and startable else None


def _hand_over(uboot: _Running, slot: str, other: str, reason: str) -> str | None:
    env = uboot.env
    if uboot.state(slot) == "trial":
        env[f"slot_{slot}"] = "bad"
        env["ts_failed"] = env.get("ts_release", "")
    env |= {"ts_reason": reason, "slot": other, "upgrade_available": "1", "bootcount": "1"}
    uboot.save()
    return uboot.start(other)


def _told(copy: RawCopy | None) -> Copy:
    """What U-Boot takes from a card: listed names, numbers where a number must stand; empty is as good as absent."""
    if copy is None:
        return _LOST
    kept = {name: value for name, value in copy.variables.items() if is_told(name, value)}
    return Copy(good=True, flags=copy.flags or 0, variables=kept)


def is_told(name: str, value: str) -> bool:
    """Whether the model speaks of this variable with this value."""
    if name in _NUMBERS:
        return re.fullmatch(r"[0-9]*", value) is not None
    return name in DEFAULT or (value != "" and re.match(r"ts_.+", name) is not None)


def _number(text: str | None) -> int:
    return int(text) if text else 0
