"""The offline model of U-Boot and the boot script against the real ones: the same slot, the same card afterwards.

The crash states are judged by this model (docs/safety.md), so it must not be wrong in any case that they can reach.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from twinslot.bootloader.uboot.rawenv import encode
from twinslot_lab.build import BoardFiles
from twinslot_lab.crash import bootmodel
from twinslot_lab.crash.bootmodel import Card
from twinslot_lab.crash.images import UNIT
from twinslot_lab.crash.judge import MAGIC
from twinslot_lab.crash.log import Log
from twinslot_lab.crash.record import SHORT, record
from twinslot_lab.crash.replay import Drives
from twinslot_lab.crash.states import plan
from twinslot_lab.plugin import BoardFactory
from twinslot_lab.qemu_board import QemuBoard

pytestmark = pytest.mark.board

SIZE = 0x4000  # bytes of one copy on this board
SAMPLES = 50
STATES = 20  # at least, of the copies and what is whole, that the writes of a short update leave
NOISE = random.Random(1).randbytes(SIZE)
QUIET = {
    "slot": "a",
    "slot_a": "good",
    "slot_b": "bad",
    "upgrade_available": "0",
    "bootcount": "0",
    "ts_generation": "4",
}
TRIAL = {
    "slot": "b",
    "slot_a": "good",
    "slot_b": "trial",
    "upgrade_available": "1",
    "bootcount": "0",
    "ts_release": "7",
}


@dataclass(frozen=True)
class Case:
    """A card, and which slots do not load."""

    first: bytes
    second: bytes
    broken: frozenset[str] = field(default_factory=frozenset)

    def __str__(self) -> str:
        copies = Card.read(self.first, self.second).copies
        return f"{copies}, broken: {sorted(self.broken)}"


def settled(variables: dict[str, str], broken: str = "", flags: int = 6) -> Case:
    """Both copies say the same."""
    return Case(encode(variables, SIZE, flags), encode(variables, SIZE, (flags - 1) % 256), frozenset(broken))


def each_combination() -> Iterator[Case]:
    """What may be known of both slots, which one is chosen, tries, and what loads."""
    tries = (("0", "0"), ("1", "0"), ("1", "2"), ("1", "3"))
    states = ("good", "trial", "bad")
    for (available, count), slot, one, two in itertools.product(tries, "ab", states, states):
        known = {"slot": slot, "slot_a": one, "slot_b": two, "ts_release": "7", "ts_reason": "unhealthy"}
        known |= {"upgrade_available": available, "bootcount": count}
        for broken in ("", "a", "b", "ab") if count == "2" else ("",):
            yield settled(known, broken)


def each_torn_prefix() -> Iterator[Case]:
    """The arming write, torn after each sector, over the older copy that stands there."""
    new, old = encode(TRIAL | {"ts_note": "x" * 9000}, SIZE, 7), encode(QUIET, SIZE, 5)
    for kept in range(0, SIZE + 512, 512):
        yield Case(encode(QUIET, SIZE, 6), new[:kept] + old[kept:])
        if kept % 2048 == 0:
            yield Case(new[:kept] + old[kept:], encode(QUIET, SIZE, 6))


def each_oddity() -> Iterator[Case]:
    """Flags that wrap, copies that are lost, variables that are missing, foreign or no numbers."""
    for flags in ((255, 0), (0, 255), (254, 255), (255, 254), (9, 9), (0, 1), (1, 0), (128, 127), (200, 3)):
        yield Case(encode(TRIAL, SIZE, flags[0]), encode(QUIET, SIZE, flags[1]))
    for broken in ("", "a", "ab"):
        yield Case(NOISE, NOISE, frozenset(broken))
        yield Case(NOISE, encode(TRIAL, SIZE, 255), frozenset(broken))
        yield Case(encode(TRIAL, SIZE, 255), NOISE, frozenset(broken))
    odd: list[dict[str, str]] = [
        *({"bootcount": count} for count in ("", "3", "4", "9", "seven", "003", "-1", "4294967296")),
        *({"upgrade_available": word} for word in ("", "2", "yes", "00")),
        *({"slot": word} for word in ("", "c", "B", "a b")),
        *({"slot_b": word} for word in ("", "GOOD", "good ", "unknown")),
        {"bootlimit": "0", "bootcount": "3", "foreign": "z", "ts_of_tomorrow": "x y", "bootcmd": "poweroff"},
        {"ts_release": "", "bootcount": "3", "ts_reason": "operator"},
        *({"ts_back": word, "bootcount": "3"} for word in ("", "a", "b", "c", "a b", "*")),
        {"ts_back": "b", "slot": "a", "slot_a": "bad", "slot_b": "good"},
    ]
    for change in odd:
        yield settled(TRIAL | change)
        if "" in change.values():
            yield settled({name: value for name, value in (TRIAL | change).items() if value})


def each_sampled_state() -> Iterator[Case]:
    """What power cuts could leave of a real update: cards that differ first, then others."""
    recording = record(SHORT)
    board, log = recording.files.board, Log(recording.folder)
    drives, found = Drives(log, recording.disk, recording.card), dict[Case, None]()
    slots = {name: drives.disk.region(*board.disk.partitions()[f"slot_{name}"], UNIT) for name in "ab"}
    for state in plan(log.entries, 3000):
        drives.go_to(state.point)
        first, second = (drives.card.read(offset, SIZE, state) for offset in board.environment.offsets)
        broken = (name for name, slot in slots.items() if slot.content(0, state)[1024:1028] != MAGIC)
        found[Case(first, second, frozenset(broken))] = None
    assert len(found) >= STATES
    cases = random.Random(3).sample(list(found), min(SAMPLES, len(found)))
    yield from cases


class RealUBoot:
    """One board, started again and again."""

    def __init__(self, board: QemuBoard) -> None:
        self._board = board
        self._heads = {name: self._swap(name, None) for name in "ab"}

    def start(self, case: Case) -> bootmodel.Start:
        """Until the kernel of a slot has said its name, or the script that there is none."""
        self._board.card.write_copy(0, case.first)
        self._board.card.write_copy(1, case.second)
        for name, head in self._heads.items():
            self._swap(name, bytes(len(head)) if name in case.broken else head)
        self._board.power_on()
        before = self._board.console.mark
        until = time.monotonic() + 60
        while "payload " not in (said := self._board.console.text()[before:]) and "no slot can" not in said:
            assert time.monotonic() < until, said
            time.sleep(0.02)
        self._board.cut() if "no slot can" in said else self._board.wait_off()
        ran = [line.split()[1] for line in self._board.console.text()[before:].splitlines() if line[:8] == "payload "]
        assert len(ran) <= 1
        return bootmodel.Start(ran[0] if ran else None, self._card())

    def _card(self) -> Card:
        raw = self._board.card.path.read_bytes()
        first, second = (raw[offset : offset + SIZE] for offset in self._board.files.board.environment.offsets)
        return Card.read(first, second)

    def _swap(self, name: str, head: bytes | None) -> bytes:
        """The front of a slot, where its superblock stands."""
        with self._board.disk.open("r+b") as disk:
            disk.seek(self._board.files.board.disk.partitions()[f"slot_{name}"][0])
            found = disk.read(UNIT)
            if head is not None:
                disk.seek(-UNIT, 1)
                disk.write(head)
            return found


@pytest.fixture
def uboot(board_factory: BoardFactory, tiny_board: BoardFiles) -> RealUBoot:
    return RealUBoot(board_factory(files=tiny_board, stop_on_reset=True))


def modelled(case: Case) -> bootmodel.Start:
    return bootmodel.power_on(Card.read(case.first, case.second), lambda name: name not in case.broken)


def compare(uboot: RealUBoot, cases: Iterator[Case]) -> int:
    """Both start from the same card; what differs is told with the case."""
    done = 0
    for case in cases:
        assert uboot.start(case) == modelled(case), str(case)
        done += 1
    return done


@pytest.mark.verifies("REQ-BOOT-01")
@pytest.mark.parametrize("part", [0, 1])
def test_the_model_agrees_for_every_combination_of_slots_tries_and_loading(uboot: RealUBoot, part: int) -> None:
    assert compare(uboot, itertools.islice(each_combination(), part, None, 2)) > 60


def test_the_model_agrees_on_a_write_torn_after_each_sector(uboot: RealUBoot) -> None:
    assert compare(uboot, each_torn_prefix()) > 32


def test_the_model_agrees_on_wrapped_flags_lost_copies_and_odd_variables(uboot: RealUBoot) -> None:
    assert compare(uboot, each_oddity()) > 40


def test_the_model_agrees_on_states_that_a_real_update_could_leave(uboot: RealUBoot) -> None:
    assert compare(uboot, each_sampled_state()) >= STATES
