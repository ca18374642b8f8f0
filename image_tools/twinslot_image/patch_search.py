"""Finds for each changed group what it can be made of: pages that moved, then the nearest bytes for all that is new."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

from twinslot.image.lzma2 import PRESET_BEST
from twinslot.image.patch import Op
from twinslot.image.wire_patch import PATCH_VERSION
from twinslot_image.patch_encode import FAST_ABOVE, PRESET_FAST, Form, merge
from twinslot_image.patch_index import Index, candidates
from twinslot_image.patch_known import follow, look
from twinslot_image.patch_moved import UNIT, find_moved, without
from twinslot_image.patch_pages import PAGE, FileBytes, PageMap, byte_runs
from twinslot_image.patch_path import BLOCK, GroupRecipe, Stretch, learn_costs, no_counts
from twinslot_image.patch_pool import Map
from twinslot_image.patch_shifts import Sampling, fit
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
TOGETHER = 16  # batches whose stretches are kept at once: 64 MiB of content at most
SAMPLE = 128  # spans that are looked at before the search
SAMPLE_ABOVE = 2 * 1024 * 1024  # bytes to be searched; less takes no longer than the sample
_SHIFTS_MAX = 1 << 30  # of the whole content, here only: no bound
UNKNOWN_PART = 0.95  # of the content that the base must not have for a patch to be given up before it is made


Report = Callable[[str, int, int], None]  # (what is being done, bytes done, bytes in all)


class PatchSearch:
    """The search between two contents.

    Attributes:
        work: Bytes that have to be searched.
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
        hard, orphans = list(byte_runs(self._pages.hard)), list(byte_runs(self._pages.orphans))
        with FileBytes(base.file) as old, FileBytes(target.file) as new:
            self._moved = find_moved(old, new, orphans, hard) if base.size else []
        left = without(hard, [(one.start, one.end) for one in self._moved])
        self._spans = list(_cut(left, min(SPAN, target.group_size)))
        self._orphans = list(without(orphans, _inner(self._moved)))
        tail = len(self._pages.hard) * PAGE  # less than a page, which no page can be equal to
        self._end = tail + (target.size - tail) // BLOCK * BLOCK
        self._spans += [(tail, self._end)] if self._end > tail else []
        self.work = _length(self._spans)
        self._space = Workspace(
            old=base.file,
            new=target.file,
            limit=CANDIDATES if self.work <= MANY else CANDIDATES_FEW,
            form=Form(target.group_size, newest, PRESET_FAST if self.work > FAST_ABOVE else PRESET_BEST),
            indexes=tuple(self._indexes(folder / f"{base.name}.index")) if self.work else (),
        )
        self._known = folder / f"{base.name}.known"

    def length(self, groups: Iterable[int]) -> int:
        """Bytes of some groups."""
        size = self._target.group_size
        return sum(min(size, self._target.size - group * size) for group in groups)

    def has_nothing(self) -> bool:
        """Whether the base has next to nothing of the new content, by a sample that takes a moment."""
        if self.work < SAMPLE_ABOVE or self.work < UNKNOWN_PART * self._pages.filled * PAGE:
            return False
        old_indexes = [Index(path, bits) for path, bits in self._space.indexes]
        sample = self._spans[:: len(self._spans) // SAMPLE + 1]
        with FileBytes(self._target.file) as new:
            known = sum(bool(candidates(new, span, old_indexes, 1)) for span in sample)
        return known <= (1 - UNKNOWN_PART) * len(sample)

    def ways(self) -> list[Workspace]:
        """How it may be done: for little work without references, too, since what ELF files say may be wrong."""
        pages, newest = self._pages, self._space.form.newest
        files = self._known, self._base.file, self._target.file
        if not self.work or not look(*files, pages.orphans, pages.hard, newest):
            return [self._space]
        followed = replace(self._space, known=self._known)
        return [followed, self._space] if self.work <= BOTH_WAYS_MAX else [followed]

    def recipes(
        self, space: Workspace, changed: Sequence[int], run: Map, report: Report, chosen: Callable[[int], None]
    ) -> Iterator[GroupRecipe]:
        """For each changed group in order what it is made of.

        Args:
            space: One of `ways`.
            changed: Numbers of the groups.
            run: A map over processes; what was given to it is done whenever this yields.
            report: Called now and then while it is searched.
            chosen: Called now and then with how many bytes more were found their sources.
        """
        size, wanted = self._target.group_size, set(changed)
        parts = self._hard(space, run, report, chosen), self._easy(changed), self._copies(), self._tail()
        every = heapq.merge(*parts, key=attrgetter("start"))
        stretches = (stretch for stretch in every if stretch.start // size in wanted)
        for group, members in itertools.groupby(stretches, lambda stretch: stretch.start // size):
            yield GroupRecipe(group * size, min(size, self._target.size - group * size), tuple(merge(members)))

    def _indexes(self, path: Path) -> Iterator[tuple[Path, int]]:
        orphans = [*self._orphans, (len(self._pages.orphans) * PAGE, self._base.size)]
        plans = [(orphans, ORPHAN_STRIDE)]
        if 2 * _length(orphans) < self.work:
            plans.append(([(0, self._base.size)], STRIDE))
        for number, (spans, stride) in enumerate(plans):
            entries = _length(spans) // stride
            bits = min(max(entries.bit_length(), INDEX_BITS_MIN), INDEX_BITS_MAX)
            place = path.with_name(f"{path.name}{number}")
            Index(place, bits, create=True).fill(self._base.file, spans, stride)
            yield place, bits

    def _hard(self, space: Workspace, run: Map, report: Report, chosen: Callable[[int], None]) -> Iterator[Stretch]:
        """What the base does not have page by page: two passes, the second knows what residuals cost."""
        batches = [self._spans[at : at + BATCH] for at in range(0, len(self._spans), BATCH)]
        counts, found, samples, done = no_counts(), list[list[list[int]]](), Sampling(), 0
        for batch, one in zip(batches, run(bound(first_pass, space), batches), strict=True):
            counts += one.counts
            found.append(one.distances)
            samples.add(one.samples)
            done += _length(batch)
            report("searching", done, self.work)
        if space.known:
            follow(space.known, fit(samples.result(), _SHIFTS_MAX))
        tasks = list(zip(batches, found, itertools.repeat(learn_costs(counts)), strict=False))
        for at in range(0, len(tasks), TOGETHER):
            stretches = list[Stretch]()
            for task, results in zip(
                tasks[at:], run(bound(second_pass, space), tasks[at : at + TOGETHER]), strict=False
            ):
                stretches += itertools.chain.from_iterable(results)
                chosen(_length(task[0]))
            yield from stretches

    def _easy(self, changed: Sequence[int]) -> Iterator[Stretch]:
        """Pages that the base has, somewhere."""
        per_group, whole = self._target.group_size // PAGE, len(self._pages.hard)
        every = (page for group in changed for page in range(group * per_group, min((group + 1) * per_group, whole)))
        for page, distance in self._pages.distances(every):
            start, end = page * PAGE, (page + 1) * PAGE
            yield Stretch(start, end, Op.ZERO) if self._pages.is_zero(page) else Stretch(start, end, Op.COPY, distance)

    def _copies(self) -> Iterator[Stretch]:
        """What moved by less than a page."""
        for moved in self._moved:
            for start, end in _cut([(moved.start, moved.end)], self._target.group_size):
                yield Stretch(start, end, moved.op, moved.distance)

    def _tail(self) -> Iterator[Stretch]:
        """The last bytes, too few to be searched for."""
        if self._target.size > self._end:
            yield Stretch(self._end, self._target.size, Op.LITERAL)


def _length(spans: Iterable[tuple[int, int]]) -> int:
    return sum(end - start for start, end in spans)


def _inner(moved: Sequence[Stretch]) -> list[tuple[int, int]]:
    """Where copies come from, without the last units on both sides, by which the search finds what is between them."""
    sources = sorted((one.start + one.distance + UNIT, one.end + one.distance - UNIT) for one in moved)
    kept, at = list[tuple[int, int]](), 0
    for start, end in sources:
        if max(start, at) < end:
            kept.append((max(start, at), end))
            at = end
    return kept


def _cut(ranges: Iterable[tuple[int, int]], step: int) -> Iterator[tuple[int, int]]:
    """Ranges of bytes, cut at multiples of `step`."""
    for first, end in ranges:
        at = first
        while at < end:
            upto = min(end, (at // step + 1) * step)
            yield at, upto
            at = upto
