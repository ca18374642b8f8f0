"""Says for a piece how its references moved, and what is left as residuals once a device knows that."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

import numpy as np

from twinslot.image.patch import Op
from twinslot.image.projection import PART, SHIFTS_MAX, TABLES, Projection, since
from twinslot.image.wire_patch import PLAIN_VERSION, PROJECTION_MAX, build_varints, from_signed
from twinslot_image.patch_pages import ByteSource, as_words
from twinslot_image.patch_path import GroupRecipe, Stretch
from twinslot_image.patch_sections import Part
from twinslot_image.patch_shifts import Samples, ShiftMap, fit, pair_up
from twinslot_image.patch_store import StoredReferences

WORDS_MIN = 6  # that an area must put right to be there; it takes some ten bytes
_AT_ONCE = 1 << 20  # bytes of additions whose references are looked at together
_AREA_BYTES = 24  # at most, of one area as varints that are met here


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What is known of the ELF files on both sides: their parts, and the references in them."""

    old_parts: Sequence[Part]
    new_parts: Sequence[Part]
    old: StoredReferences
    new: StoredReferences

    def samples(self, stretches: Sequence[Stretch]) -> Samples:
        """What references in additions say of where everything moved, which stand in the order of the new content."""
        return Samples.joined([self._samples(some) for some in _together(stretches)])

    def _samples(self, stretches: Sequence[Stretch]) -> Samples:
        sources = [(one.start + one.distance, one.end + one.distance) for one in stretches]
        places = [(one.start, one.end) for one in stretches]
        return pair_up(self.old.references(sources), self.new.references(places), stretches)


def _together(stretches: Sequence[Stretch]) -> Iterator[Sequence[Stretch]]:
    first, size = 0, 0
    for number, stretch in enumerate(stretches):
        size += stretch.end - stretch.start
        if size >= _AT_ONCE:
            yield stretches[first : number + 1]
            first, size = number + 1, 0
    yield stretches[first:]


@dataclass(frozen=True, slots=True)
class AreaRun:
    """An area in the making: where in the new content, of which kind, with which biases."""

    start: int
    end: int
    kind: int
    old_bias: int
    new_bias: int
    origin: int = field(compare=False)

    def goes_on(self, other: AreaRun) -> bool:
        """Whether another one can be joined to this: entries of one table are counted from one place."""
        same = (self.kind, self.old_bias, self.new_bias) == (other.kind, other.old_bias, other.new_bias)
        return same and (self.kind not in TABLES or self.origin == other.origin)

    def from_entry(self, after: int) -> AreaRun | None:
        """Begun where an entry of its table does, and not before `after`; None if nothing is left."""
        if self.kind not in TABLES:
            return self
        size = TABLES[self.kind].size * TABLES[self.kind].entry
        start = self.start - (self.start - self.origin) % size
        start = start if start >= after else start + size
        return replace(self, start=start) if start < self.end else None


@dataclass(frozen=True, slots=True)
class Projected:
    """The areas and shifts of a piece as its control stream has them, its residuals, and the oldest format for them."""

    areas: bytes
    shifts: bytes
    residual: bytes
    version: int


def project(known: Knowledge, old: ByteSource, new: ByteSource, groups: Sequence[GroupRecipe], raw: bytes) -> Projected:
    """Predict what pays.

    Args:
        known: Of both contents.
        old: The base.
        new: The new content.
        groups: Of the piece.
        raw: Its residuals without any prediction.
    """
    stretches = [stretch for group in groups for stretch in group.stretches if stretch.op is Op.ADD]
    areas = list(_areas(known, stretches))
    if not areas:
        return Projected(b"", b"", raw, PLAIN_VERSION)
    samples = known.samples(stretches)
    shifts = fit(samples, SHIFTS_MAX)
    while areas:
        made = _residual(areas, shifts, old, new, stretches)
        paying = _paying(areas, stretches, raw, made)
        if paying == areas:
            encoded = _encoded(areas)
            if len(encoded) + len(shifts.encoded()) <= PROJECTION_MAX:
                return Projected(encoded, shifts.encoded(), made, max(since(area.kind) for area in areas))
            shifts = fit(samples, len(shifts.shifts) // 2)
            paying = paying[: (PROJECTION_MAX // 2) // _AREA_BYTES]
        areas = paying
    return Projected(b"", b"", raw, PLAIN_VERSION)


def _areas(known: Knowledge, stretches: Sequence[Stretch]) -> Iterator[AreaRun]:
    last: AreaRun | None = None
    for run in _runs(known, stretches):
        if last is not None and last.goes_on(run):
            last = replace(last, end=run.end)
        elif (begun := run.from_entry(last.end if last else 0)) is not None:
            if last is not None:
                yield last
            last = begun
    if last is not None:
        yield last


def _runs(known: Knowledge, stretches: Sequence[Stretch]) -> Iterator[AreaRun]:
    for stretch in stretches:
        for new in _meeting(known.new_parts, stretch.start, stretch.end):
            first, last = max(new.start, stretch.start), min(new.end, stretch.end)
            for old in _meeting(known.old_parts, first + stretch.distance, last + stretch.distance):
                start, end = (place - stretch.distance for place in (old.start, old.end))
                if old.kind == new.kind:
                    yield AreaRun(max(first, start), min(last, end), new.kind, old.bias, new.bias, new.origin)


def _meeting(parts: Sequence[Part], start: int, end: int) -> Iterator[Part]:
    at = max(bisect_right(parts, start, key=attrgetter("start")) - 1, 0)
    while at < len(parts) and parts[at].start < end:
        if parts[at].end > start:
            yield parts[at]
        at += 1


def _encoded(areas: Sequence[AreaRun]) -> bytes:
    numbers, at, old_bias, new_bias = list[int](), 0, 0, 0
    for area in areas:
        numbers += [area.start - at, area.end - area.start, area.kind]
        numbers += [from_signed(area.old_bias - old_bias), from_signed(area.new_bias - new_bias)]
        at, old_bias, new_bias = area.end, area.old_bias, area.new_bias
    return build_varints(numbers)


def _residual(
    areas: Sequence[AreaRun], shifts: ShiftMap, old: ByteSource, new: ByteSource, stretches: Sequence[Stretch]
) -> bytes:
    """As a device will see it: its own code predicts."""
    device, out = Projection(_encoded(areas), shifts.encoded()), bytearray()
    for stretch in stretches:
        source, distance = (stretch.start + stretch.distance, stretch.end + stretch.distance), stretch.distance
        for start in range(stretch.start, stretch.end, PART):
            end = min(start + PART, stretch.end)
            made = device.predict(old[start + distance : end + distance].tobytes(), start, distance, source)
            out += (as_words(new[start:end]) - np.frombuffer(made, "<u4")).tobytes()
    return bytes(out)


def _paying(areas: Sequence[AreaRun], stretches: Sequence[Stretch], raw: bytes, made: bytes) -> list[AreaRun]:
    """The areas with fewer words that are wrong than without them."""
    before, after = (np.frombuffer(data, "<u4") != 0 for data in (raw, made))
    better = np.zeros(len(before) + 1, np.int32)
    np.cumsum(before.astype(np.int8) - after, dtype=np.int32, out=better[1:])
    starts = np.array([stretch.start for stretch in stretches])
    sizes = np.array([stretch.end - stretch.start for stretch in stretches])
    offsets = np.concatenate(([0], np.cumsum(sizes)))

    def at(place: int) -> int:
        """Words of the residuals before a place of the new content."""
        index = int(np.searchsorted(starts, place, side="right")) - 1
        return 0 if index < 0 else int(offsets[index] + min(place - starts[index], sizes[index])) // 4

    return [area for area in areas if better[at(area.end)] - better[at(area.start)] >= WORDS_MIN]
