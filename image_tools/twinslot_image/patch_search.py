"""Finds for each changed group what it can be made of: pages that moved, then the nearest bytes for all that is new."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from twinslot.image.lzma2 import PRESET_BEST
from twinslot.image.patch import Op
from twinslot.image.wire_patch import PATCH_VERSION
from twinslot_image.patch_encode import FAST_ABOVE, PRESET_FAST, Form, merge
from twinslot_image.patch_index import Index, candidates
from twinslot_image.patch_known import follow, look
from twinslot_image.patch_moved import UNIT, find_moved, without
from twinslot_image.patch_pages import PAGE, PageMap, map_file, runs
from twinslot_image.patch_path import BLOCK, GroupRecipe, Stretch, learn_costs, no_counts
from twinslot_image.patch_pool import Map
from twinslot_image.patch_shifts import Samples, fit
from twinslot_image.patch_sources import Content
from twinslot_image.patch_work import Workspace, bound, first_pass, second_pass

SPAN = 64 * 1024  # bytes at most that are searched as one
CANDIDATES = 48  # distances for each span
CANDIDATES_FEW = 8  # when more than `MANY` bytes have to be searched
MANY = 128 * 1024 * 1024
BOTH_WAYS_MAX = 4 * 1024 * 1024  # bytes of work that are done twice
ORPHAN_STRIDE = 4  # bytes between indexed positions of pages that only the base has: the older half of changed files
STRIDE = 64  # bytes, for all of the base: only when orphans are few beside what is new; finds next to nothing otherwise
INDEX_BITS_MIN, INDEX_BITS_MAX = 12, 24  # of a table of 6 bytes each
BATCH = 64  # spans that a worker takes at once
SAMPLE = 128  # spans that are looked at before the search
SAMPLE_ABOVE = 2 * 1024 * 1024  # bytes to be searched; less takes no longer than the sample
_SHIFTS_MAX = 1 << 30  # of the whole content, here only: no bound
UNKNOWN_PART = 0.95  # of the content that the base must not have for a patch to be given up before it is made


Report = Callable[[str, int, int], None]  # (what is being done, bytes done, bytes in all)


class PatchSearch:
    """The search between two contents.

    Attributes:
        work: Bytes that have to be searched.
        space: What the workers need.
    """

    def __init__(self, base: Content, target: Content, folder: Path, newest: int = PATCH_VERSION) -> None:
        """Prepare it.

        Args:
            base: What devices have.
            target: What they are to have.
            folder: Takes the indexes: 6 bytes for each position, 300 MB at most.
            newest: Format that the patch may be of.
        """
        self._target = target
        self._base = base
        self._pages = PageMap(base.file, target.file)
        hard, orphans = _bytes(self._pages.hard), _bytes(self._pages.orphans)
        self._moved = find_moved(map_file(base.file), map_file(target.file), orphans, hard) if base.size else []
        left = without(hard, [(one.start, one.end) for one in self._moved])
        self._spans = list(_cut(left, min(SPAN, target.group_size)))
        self._orphans = list(without(orphans, _inner(self._moved)))
        tail = len(self._pages.hard) * PAGE  # less than a page, which no page can be equal to
        self._end = tail + (target.size - tail) // BLOCK * BLOCK
        self._spans += [(tail, self._end)] if self._end > tail else []
        self.work = sum(end - start for start, end in self._spans)
        self.space = Workspace(
            old=base.file,
            new=target.file,
            limit=CANDIDATES if self.work <= MANY else CANDIDATES_FEW,
            form=Form(target.group_size, newest, PRESET_FAST if self.work > FAST_ABOVE else PRESET_BEST),
            known=self._look(folder / f"{base.name}.known", newest) if self.work else None,
            indexes=tuple(self._indexes(folder / f"{base.name}.index")) if self.work else (),
        )

    def has_nothing(self) -> bool:
        """Whether the base has next to nothing of the new content, by a sample that takes a moment."""
        if self.work < SAMPLE_ABOVE or self.work < UNKNOWN_PART * self._pages.filled * PAGE:
            return False
        old_indexes = [Index(path, bits) for path, bits in self.space.indexes]
        sample = self._spans[:: len(self._spans) // SAMPLE + 1]
        new = map_file(self._target.file)
        known = sum(bool(candidates(new, span, old_indexes, 1)) for span in sample)
        return known <= (1 - UNKNOWN_PART) * len(sample)

    def ways(self) -> list[Workspace]:
        """How it may be done: for little work without references, too, since what ELF files say may be wrong."""
        if self.space.known and self.work <= BOTH_WAYS_MAX:
            return [self.space, replace(self.space, known=None)]
        return [self.space]

    def recipes(self, space: Workspace, changed: Sequence[int], run: Map, report: Report) -> Iterator[GroupRecipe]:
        """For each changed group in order what it is made of; `space`: one of `ways`."""
        size = self._target.group_size
        wanted = set(changed)
        stretches = [stretch for stretch in self._hard(space, run, report) if stretch.start // size in wanted]
        stretches += self._easy(changed)
        stretches += [one for moved in self._moved for one in _by_group(moved, size) if one.start // size in wanted]
        if self._target.size > self._end and self._end // size in wanted:
            stretches.append(Stretch(self._end, self._target.size, Op.LITERAL))
        stretches.sort(key=lambda stretch: stretch.start)
        for group, members in itertools.groupby(stretches, lambda stretch: stretch.start // size):
            yield GroupRecipe(group * size, min(size, self._target.size - group * size), tuple(merge(members)))

    def _look(self, path: Path, newest: int) -> Path | None:
        """What is known of ELF files that differ."""
        pages = self._pages
        found = look(path, self._base.file, self._target.file, pages.orphans, pages.hard, newest)
        return path if found else None

    def _indexes(self, path: Path) -> Iterator[tuple[Path, int]]:
        orphans = [*self._orphans, (len(self._pages.orphans) * PAGE, self._base.size)]
        plans = [(orphans, ORPHAN_STRIDE)]
        if 2 * sum(end - start for start, end in orphans) < self.work:
            plans.append(([(0, self._base.size)], STRIDE))
        for number, (spans, stride) in enumerate(plans):
            entries = sum(end - start for start, end in spans) // stride
            bits = min(max(entries.bit_length(), INDEX_BITS_MIN), INDEX_BITS_MAX)
            place = path.with_name(f"{path.name}{number}")
            Index(place, bits, create=True).fill(self._base.file, spans, stride)
            yield place, bits

    def _hard(self, space: Workspace, run: Map, report: Report) -> list[Stretch]:
        """What the base does not have page by page: two passes, the second knows what residuals cost."""
        batches = [self._spans[at : at + BATCH] for at in range(0, len(self._spans), BATCH)]
        sizes = [sum(end - start for start, end in batch) for batch in batches]
        counts, found, samples, done = no_counts(), list[list[list[int]]](), list[Samples](), 0
        for size, one in zip(sizes, run(bound(first_pass, space), batches), strict=True):
            counts += one.counts
            found.append(one.distances)
            samples.append(one.samples)
            done += size
            report("searching", done, 2 * self.work)
        if space.known:
            follow(space.known, fit(Samples.joined(samples), _SHIFTS_MAX))
        tasks = [(*task, learn_costs(counts)) for task in zip(batches, found, strict=True)]
        stretches = list[Stretch]()
        for size, chosen in zip(sizes, run(bound(second_pass, space), tasks), strict=True):
            stretches += itertools.chain.from_iterable(chosen)
            done += size
            report("searching", done, 2 * self.work)
        return stretches

    def _easy(self, changed: Sequence[int]) -> Iterator[Stretch]:
        """Pages that the base has, somewhere."""
        per_group, whole = self._target.group_size // PAGE, len(self._pages.hard)
        every = [page for group in changed for page in range(group * per_group, min((group + 1) * per_group, whole))]
        for page, distance in self._pages.distances(every).items():
            start, end = page * PAGE, (page + 1) * PAGE
            yield Stretch(start, end, Op.ZERO) if self._pages.is_zero(page) else Stretch(start, end, Op.COPY, distance)


def _bytes(pages: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    return [(first * PAGE, end * PAGE) for first, end in runs(pages)]


def _inner(moved: Sequence[Stretch]) -> list[tuple[int, int]]:
    """Where copies come from, without the last units on both sides, by which the search finds what is between them."""
    sources = sorted((one.start + one.distance + UNIT, one.end + one.distance - UNIT) for one in moved)
    kept, at = list[tuple[int, int]](), 0
    for start, end in sources:
        if max(start, at) < end:
            kept.append((max(start, at), end))
            at = end
    return kept


def _by_group(stretch: Stretch, size: int) -> Iterator[Stretch]:
    for start, end in _cut([(stretch.start, stretch.end)], size):
        yield Stretch(start, end, stretch.op, stretch.distance)


def _cut(ranges: Iterable[tuple[int, int]], step: int) -> Iterator[tuple[int, int]]:
    """Ranges of bytes, cut at multiples of `step`."""
    for first, end in ranges:
        at = first
        while at < end:
            upto = min(end, (at // step + 1) * step)
            yield at, upto
            at = upto
