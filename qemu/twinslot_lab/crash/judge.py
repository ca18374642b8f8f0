"""Is a state good? The one question, without booting.

Bad: a slot that the boot script would start, now or when its tries have run out, is not byte for byte what was signed,
all payloads of one release; or the record neither opens nor rebuilds so that record, environment and slots agree.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from twinslot_image.factory.layout import ROOT_PAYLOAD
from twinslot_lab.crash.bootmodel import DEFAULT, Card
from twinslot_lab.crash.images import UNIT, Signed, expected
from twinslot_lab.crash.life import FinalState, Life, Slot, starts_to_come
from twinslot_lab.crash.log import Log
from twinslot_lab.crash.partition import FoundPartition, Partition
from twinslot_lab.crash.record import Recording
from twinslot_lab.crash.replay import Drives, Region
from twinslot_lab.crash.states import BLIND, PAGE, CrashState
from twinslot_lab.description import BoardDescription

MAGIC: Final = bytes.fromhex("e2e1f5e0")  # EROFS_SUPERMAGIC_V1, little endian (erofs_fs.h)
SUPERBLOCK: Final = 1024  # bytes from the start of a slot; EROFS_SUPER_OFFSET


@dataclass(frozen=True, slots=True)
class CrashVerdict:
    """What was found of a state.

    Attributes:
        state: Which.
        phase: Of the story.
        bad: Why it is bad; empty: it is good.
        health: Of the data partition's file system.
        final: Where the device would come to rest.
        key: The same for states with the same content.
    """

    state: CrashState
    phase: str
    bad: str
    health: str
    final: FinalState
    key: bytes


def superblocks(board: BoardDescription) -> tuple[int, ...]:
    """Where on the disk the slots' superblocks stand."""
    places = board.disk.partitions()
    return tuple(places[name][0] + SUPERBLOCK for name in ("slot_a", "slot_b"))


class _PartitionView:
    """A partition's region compared with one payload of the signed images; remembers what differs as flushed."""

    def __init__(self, region: Region, releases: Mapping[str, tuple[bytes, ...]]) -> None:
        self.region = region
        self._releases = releases  # the digests of the units, by the release's name
        self._differs: dict[str, set[int]] = {name: set() for name in releases}
        region.changed |= set(range(region.count))

    def holds(self, state: CrashState) -> set[str]:
        """The releases whose payload is here, tail included: two may have the same one."""
        self._refresh()
        touched = self.region.touched(state)
        return {
            name
            for name, units in self._releases.items()
            if not self._differs[name].difference(touched)
            and all(self.region.digest(unit, state) == units[unit] for unit in touched)
        }

    def _refresh(self) -> None:
        for unit in self.region.changed:
            found = self.region.durable_digest(unit)
            for name, units in self._releases.items():
                (self._differs[name].discard if found == units[unit] else self._differs[name].add)(unit)
        self.region.changed.clear()


class _SlotView:
    """The partitions of a slot, compared with the signed images."""

    def __init__(self, regions: Mapping[str, Region], images: tuple[Signed, ...]) -> None:
        self._images = images
        self._root = regions[ROOT_PAYLOAD]
        self._partitions = {
            payload: _PartitionView(region, {image.name: image.units[payload] for image in images})
            for payload, region in regions.items()
        }

    @property
    def regions(self) -> Iterator[Region]:
        """Of its partitions."""
        return (view.region for view in self._partitions.values())

    def signed(self, state: CrashState) -> Signed | None:
        """The image of which every partition holds its payload; None if there is no such image."""
        whole = set.intersection(*(view.holds(state) for view in self._partitions.values()))
        return next((image for image in self._images if image.name in whole), None)

    def told(self, state: CrashState) -> str:
        """What stands where, when it is no whole release; empty where there is only one partition."""
        if len(self._partitions) == 1:
            return ""
        held = {payload: sorted(view.holds(state)) for payload, view in self._partitions.items()}
        return ": " + ", ".join(f"{payload} of {' or '.join(names) or 'no release'}" for payload, names in held.items())

    def loads(self, state: CrashState) -> bool:
        """There is a superblock. A slot that is damaged elsewhere counts as loading: that errs on the safe side."""
        return self._root.content(0, state)[SUPERBLOCK:][: len(MAGIC)] == MAGIC


class Judge:
    """Judges the states of one recording, in the order of their points.

    Args:
        recording: Which.
    """

    def __init__(self, recording: Recording) -> None:
        board = recording.files.board
        places, self._environment = board.disk.partitions(), board.environment.places
        sizes = {payload: size for payload, (_, size) in board.disk.payloads("a").items()}
        images = tuple(expected(image, sizes) for image in recording.images)
        self._drives = Drives(Log(recording.folder), recording.disk, recording.card)
        disk = self._drives.disk
        self._slots = {
            name: _SlotView(
                {payload: disk.region(*place, UNIT) for payload, place in board.disk.payloads(name).items()}, images
            )
            for name in ("a", "b")
        }
        self._data = disk.region(*places["data"], PAGE)
        self._partition = Partition(recording.disk, *places["data"])
        self._marks = recording.marks
        self._found: dict[tuple[int, frozenset[tuple[int, int]]], FoundPartition] = {}
        self._final_states: dict[object, FinalState] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._partition.__exit__()

    def judge(self, state: CrashState) -> CrashVerdict:
        """One state, not before those already judged."""
        for entry in self._drives.go_to(state.point):
            self._partition.flush([(entry.offset, self._drives.log.content(entry))])
        card = self.card(state)
        slots = {name: self._slot(name, card, state) for name in self._slots}
        wrong = next((name for name in starts_to_come(card, slots) if slots[name].signed is None), "")
        found = self._find(state)
        final = self._final_state(card, slots, found)
        if wrong:
            bad = f"slot {wrong} would start and is not what was signed{self._slots[wrong].told(state)}"
        else:
            bad = final.wrong
        return CrashVerdict(state, self._phase(state.point, card), bad, found.health, final, self._key(state, card))

    def card(self, state: CrashState) -> Card:
        """Both copies of the environment in a state whose point is the current one."""
        if state.blind:
            return Card.read(b"", b"")
        first, second = (self._drives.card.read(place.offset, place.size, state) for place in self._environment)
        return Card.read(first, second)

    def _slot(self, name: str, card: Card, state: CrashState) -> Slot:
        """A slot that every copy calls bad never starts: what it holds is not asked."""
        view = self._slots[name]
        said = [copy.variables.get(f"slot_{name}", DEFAULT[f"slot_{name}"]) for copy in card.copies if copy.good]
        if said and all(word == "bad" for word in said):
            return Slot(view.loads(state), None)
        loads = view.loads(state)
        return Slot(loads, view.signed(state) if loads else None)

    def _find(self, state: CrashState) -> FoundPartition:
        key = self._data.key(state)
        if next(iter(self._found), key)[0] != key[0]:  # flushed since: those never come again, and each holds a record
            self._found.clear()
        if key not in self._found:
            self._found[key] = self._partition.look(self._drives.disk.whole(state))
        return self._found[key]

    def _final_state(self, card: Card, slots: dict[str, Slot], found: FoundPartition) -> FinalState:
        held = tuple((slot.loads, slot.signed and slot.signed.name) for slot in slots.values())
        key = (found.key, _key_of(card), held)
        if key not in self._final_states:
            self._final_states[key] = Life(card, slots, _unpack(found, self._partition.folder / "life")).live()
        return self._final_states[key]

    def _phase(self, point: int, card: Card) -> str:
        """From what the board was doing, and what the environment then says."""
        if card.now < 0:
            return BLIND
        mark = next((what for at, what in reversed(self._marks) if at <= point), "first start")
        name = next((word.rstrip(":") for word in mark.split() if word[0].isdigit()), "")
        env = card.variables
        trial = "trial" in (env.get("slot_a"), env.get("slot_b"))
        if trial:
            return f"{name} armed" if env.get("bootcount", "0") == "0" else f"{name} trial"
        if env.get("ts_reason"):
            return f"{name} rollback"
        return f"{name} install" if mark.startswith("install") else f"{name} kept" if name else "before"

    def _key(self, state: CrashState, card: Card) -> bytes:
        regions = (region for view in self._slots.values() for region in view.regions)
        parts = (_key_of(card), *(region.key(state) for region in regions), self._data.key(state))
        flat = [(k[0], sorted(k[1])) if isinstance(k, tuple) else k for k in parts]
        return hashlib.sha256(repr(flat).encode()).digest()


def _key_of(card: Card) -> str:
    return repr([(copy.good, copy.flags, sorted(copy.variables.items())) for copy in card.copies])


def _unpack(found: FoundPartition, folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in found.files:
        (folder / name).write_bytes(content)
    return folder
