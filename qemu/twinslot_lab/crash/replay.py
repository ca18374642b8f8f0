"""Both drives at a point of the log, with some of what was not flushed left out.

What is flushed stands in memory (a private mapping of the image from which the recording began); what is not is laid
over it, unit by unit, only where somebody looks. So a state costs what it changes, not the size of the disk.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from twinslot_lab.crash.log import Drive, DriveOp, Entry, Log
from twinslot_lab.crash.states import CrashState

_Kept = tuple[tuple[int, int], ...]  # entries that touch a unit, with the bytes that arrived of each


@dataclass(slots=True)
class _Unit:
    """The digest of one unit of a region, for each set of writes that was asked for since the last flush."""

    digests: dict[_Kept, bytes] = field(default_factory=dict)


class Region:
    """A part of the disk, cut into units.

    Args:
        disk: Where it stands.
        start: Its first byte on the disk.
        size: Bytes.
        unit: Bytes of a unit; divides the size.
    """

    def __init__(self, disk: ReplayedDisk, start: int, size: int, unit: int) -> None:
        self._disk, self.start, self.size, self.unit = disk, start, size, unit
        self.count = size // unit
        self.touching: dict[int, list[Entry]] = {}  # unflushed entries, by unit
        self.pending: list[Entry] = []
        self.flushed = 0  # how often something here became durable
        self._durable: dict[int, bytes] = {}
        self._memo: dict[int, _Unit] = {}
        self.changed: set[int] = set()  # units that became durable; for whoever follows them

    def add(self, entry: Entry) -> None:
        """An unflushed entry that may touch this region."""
        first = max(entry.offset, self.start)
        end = min(entry.offset + entry.length, self.start + self.size)
        if first >= end:
            return
        self.pending.append(entry)
        for index in range((first - self.start) // self.unit, -(-(end - self.start) // self.unit)):
            self.touching.setdefault(index, []).append(entry)

    def complete(self) -> None:
        """Everything became durable."""
        for index in self.touching:
            self._durable.pop(index, None)
            self._memo.pop(index, None)
        self.flushed += bool(self.pending)
        self.changed |= self.touching.keys()
        self.touching, self.pending = {}, []

    def durable_digest(self, index: int) -> bytes:
        """SHA-256 of a unit as flushed."""
        if index not in self._durable:
            self._durable[index] = hashlib.sha256(self._flushed(index)).digest()
        return self._durable[index]

    def digest(self, index: int, state: CrashState) -> bytes:
        """SHA-256 of a unit in a state."""
        kept = self._kept(index, state)
        if not kept:
            return self.durable_digest(index)
        memo = self._memo.setdefault(index, _Unit()).digests
        if kept not in memo:
            memo[kept] = hashlib.sha256(self.content(index, state)).digest()
        return memo[kept]

    def content(self, index: int, state: CrashState) -> bytes:
        """A unit's bytes in a state."""
        unit = bytearray(self._flushed(index))
        begin = self.start + index * self.unit
        for entry in self.touching.get(index, ()):
            self._disk.lay(unit, begin, entry, state.arrived(entry))
        return bytes(unit)

    def touched(self, state: CrashState) -> list[int]:
        """Units that are not as flushed."""
        return [index for index in self.touching if self._kept(index, state)]

    def key(self, state: CrashState) -> tuple[int, frozenset[tuple[int, int]]]:
        """The same for states that have the same bytes here, or nearly always."""
        return self.flushed, frozenset((e.number, n) for e in self.pending if (n := state.arrived(e)))

    def _kept(self, index: int, state: CrashState) -> _Kept:
        return tuple((e.number, n) for e in self.touching.get(index, ()) if (n := state.arrived(e)))

    def _flushed(self, index: int) -> bytes:
        begin = self.start + index * self.unit
        return self._disk.flushed[begin : begin + self.unit]


class ReplayedDisk:
    """The virtio disk: what is flushed, and what is not.

    Args:
        log: The recording.
        image: The disk before the first entry; mapped privately, never changed.
    """

    def __init__(self, log: Log, image: Path) -> None:
        self._log = log
        with image.open("rb") as file:
            self.flushed = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self.pending: list[Entry] = []
        self.regions: list[Region] = []

    def region(self, start: int, size: int, unit: int) -> Region:
        """Look at a part of the disk; before the first entry is taken."""
        self.regions.append(Region(self, start, size, unit))
        return self.regions[-1]

    def take(self, entry: Entry) -> list[Entry]:
        """The next entry of the disk; returns what became durable by it, in order."""
        if entry.op is not DriveOp.FLUSH:
            self.pending.append(entry)
            for region in self.regions:
                region.add(entry)
            return []
        completed, self.pending = self.pending, []
        for done in completed:
            self.flushed[done.offset : done.offset + done.length] = self._log.content(done)
        for region in self.regions:
            region.complete()
        return completed

    def lay(self, unit: bytearray, begin: int, entry: Entry, arrived: int) -> None:
        """Put what arrived of an entry over a piece of the disk that begins there.

        A device may ignore a trim: the states that lose it stand for that.
        """
        first, end = max(entry.offset, begin), min(entry.offset + arrived, begin + len(unit))
        if first < end:
            unit[first - begin : end - begin] = self._log.piece(entry, first - entry.offset, end - first)

    def whole(self, state: CrashState) -> Iterable[tuple[int, bytes]]:
        """What is laid over the flushed disk in a state: offsets and bytes, in order."""
        for entry in self.pending:
            if arrived := state.arrived(entry):
                yield entry.offset, self._log.piece(entry, 0, arrived)


class CardImage:
    """The SD card: durable when answered.

    Args:
        log: The recording.
        image: The card before the first entry.
    """

    def __init__(self, log: Log, image: Path) -> None:
        self._log = log
        self.data = bytearray(image.read_bytes())
        self._before: tuple[int, bytes] | None = None  # where the last write stands and what it replaced

    def take(self, entry: Entry) -> None:
        """The next entry of the card."""
        if entry.op is not DriveOp.FLUSH:
            end = entry.offset + entry.length
            self._before = entry.number, bytes(self.data[entry.offset : end])
            self.data[entry.offset : end] = self._log.content(entry)

    def read(self, offset: int, length: int, state: CrashState) -> bytes:
        """Bytes of the card in a state."""
        if self._before is None or state.torn != self._before[0]:
            return bytes(self.data[offset : offset + length])
        entry, whole = self._log.entries[state.torn], bytearray(self.data)
        whole[entry.offset + state.kept : entry.offset + entry.length] = self._before[1][state.kept :]
        return bytes(whole[offset : offset + length])


class Drives:
    """Both drives, moved through the log together.

    Args:
        log: The recording.
        disk: Image of the disk before the first entry.
        card: Image of the card before the first entry.
    """

    def __init__(self, log: Log, disk: Path, card: Path) -> None:
        self.log, self.point = log, 0
        self.disk, self.card = ReplayedDisk(log, disk), CardImage(log, card)

    def go_to(self, point: int) -> list[Entry]:
        """Take entries up to a point, never back; returns those of the disk that became durable by it, in order."""
        completed = []
        for entry in self.log.entries[self.point : point]:
            if entry.drive is Drive.CARD:
                self.card.take(entry)
            else:
                completed += self.disk.take(entry)
        self.point = max(self.point, point)
        return completed
