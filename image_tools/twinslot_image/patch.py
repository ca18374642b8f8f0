"""Makes the patch from one image to the next: find, choose, pack, and try it out (docs/patch-format.md)."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from twinslot.bundle.lzma2 import CONTROL_WINDOW, pack
from twinslot.bundle.patch import Op
from twinslot.bundle.wire_patch import PatchHeader, PayloadEntry, build_patch_header, build_patch_table, build_varints
from twinslot.core.errors import BundleError
from twinslot.core.model import DIGEST_SIZE
from twinslot_image.files import replacing
from twinslot_image.patch_check import check_patch
from twinslot_image.patch_encode import FAST_ABOVE, EncodedPiece, GroupRecipe, cut, merge
from twinslot_image.patch_index import Index
from twinslot_image.patch_pages import PAGE, Bytes, PageMap, map_file, runs
from twinslot_image.patch_path import Spans, Stretch, learn_costs, no_counts
from twinslot_image.patch_sources import Content, is_image, read_content, unpack_image
from twinslot_image.patch_work import Map, Workspace, bound, first_pass, measure, pack_piece, second_pass, workers

SPAN = 64 * 1024  # bytes at most that are searched as one
CANDIDATES = 48  # distances for each span
CANDIDATES_FEW = 8  # when more than `MANY` bytes have to be searched
MANY = 128 * 1024 * 1024
ORPHAN_STRIDE = 4  # bytes between indexed positions of pages that only the base has: the older half of changed files
STRIDE = 32  # bytes, for the rest of the base
INDEX_BITS_MAX = 25
INDEXED_MAX = 16 * 1024 * 1024 * 1024  # bytes; 2^32 offsets of four bytes

Report = Callable[[str, int, int], None]  # (what is being done, bytes done, bytes in all)


@dataclass(frozen=True, slots=True)
class PatchedPayload:
    """What a patch does for one payload. Sizes in bytes."""

    name: str
    base: str
    groups: int
    changed: int
    pieces: int
    stored: int


@dataclass(frozen=True, slots=True)
class PatchSummary:
    """What was made; `size` is that of the file."""

    size: int
    head: int
    payloads: tuple[PatchedPayload, ...]


@dataclass(frozen=True, slots=True)
class _Part:
    entry: PayloadEntry
    digests: bytes
    stored: int


def make_patch(old: Path, new: Path, output: Path, report: Report = lambda *_: None) -> PatchSummary:
    """Make a patch, and apply it once before it appears under its name. The same inputs give the same bytes.

    Args:
        old: The base: an image, or the content of the partition for an image with one payload.
        new: The image that devices are to have.
        output: Where the patch goes.
        report: Called now and then.

    Raises:
        BundleError: An image is damaged; `bundle.patch-pair`: the two have not the same payloads.
    """
    with tempfile.TemporaryDirectory(prefix=".patch.", dir=output.parent) as name:
        folder = Path(name)
        pairs = _open_pair(old, new, folder, report)
        with (folder / "pieces").open("w+b") as spool:
            parts = [_make_part(*pair, folder, spool, report) for pair in pairs]
            draft = folder / "patch"
            with draft.open("wb") as sink:
                summary = _write(sink, parts, spool)
        check_patch(draft, pairs, report)
        with draft.open("rb") as source, replacing(output) as sink:
            shutil.copyfileobj(source, sink)
    return summary


def _open_pair(old: Path, new: Path, folder: Path, report: Report) -> list[tuple[Content, Content]]:
    targets = _unpack(new, folder / "new", report)
    if is_image(old):
        sources = _unpack(old, folder / "old", report)
    elif len(targets) == 1:
        sources = {name: Content(name, old, 0, "", 0, b"") for name in targets}
    else:
        raise _bad_pair("an image as the base of an image with several payloads", f"'{old}'")
    if sources.keys() != targets.keys():
        raise _bad_pair(", ".join(targets), ", ".join(sources))
    pairs = []
    for name, target in sorted(targets.items()):
        file, total = sources[name].file, sources[name].file.stat().st_size
        base = read_content(name, file, target.group_size, lambda done, total=total: report("hashing", done, total))  # type: ignore[misc]
        pairs.append((base, target))
    return pairs


def _unpack(path: Path, folder: Path, report: Report) -> dict[str, Content]:
    folder.mkdir()
    total = path.stat().st_size
    return unpack_image(path, folder, lambda done: report("unpacking", done, total))


def _bad_pair(expected: str, found: str) -> BundleError:
    return BundleError("the payloads of the two images", code="patch-pair", expected=expected, found=found)


def _make_part(base: Content, target: Content, folder: Path, spool: BinaryIO, report: Report) -> _Part:
    changed = list(_changed_groups(base, target))
    old, new = map_file(str(base.file)), map_file(str(target.file))
    recipes, pieces, stored = list[GroupRecipe](), list[EncodedPiece](), 0
    if changed:
        pages = PageMap(old, new)
        spans = list(_hard_spans(pages, target))
        work = sum(end - start for start, end in spans)
        space = _prepare(base, target, folder, old, pages, work)
        with workers(work) as run:
            stretches = _search(space, spans, run, report)
            recipes = list(_recipes(new, target, changed, pages, stretches))
            for piece in _pack(space, recipes, run, report):
                spool.writelines((piece.control, piece.residual, piece.literal))
                stored += piece.length
                pieces.append(piece)
    digests = b"".join(target.plain_list[i * DIGEST_SIZE : (i + 1) * DIGEST_SIZE] for i in changed)
    return _Part(_entry(base, target, changed, pieces), digests, stored)


def _changed_groups(base: Content, target: Content) -> Iterator[int]:
    for index in range(len(target.plain_list) // DIGEST_SIZE):
        place = slice(index * DIGEST_SIZE, (index + 1) * DIGEST_SIZE)
        if base.plain_list[place] != target.plain_list[place]:
            yield index


def _hard_spans(pages: PageMap, target: Content) -> Iterator[tuple[int, int]]:
    """Runs of pages that the base does not have, cut where groups end."""
    step = min(SPAN, target.group_size)
    for first, end in runs(pages.hard):
        at = first * PAGE
        while at < end * PAGE:
            upto = min(end * PAGE, (at // step + 1) * step)
            yield at, upto
            at = upto


def _prepare(base: Content, target: Content, folder: Path, old: Bytes, pages: PageMap, work: int) -> Workspace:
    limit = CANDIDATES if work <= MANY else CANDIDATES_FEW
    orphans = [(first * PAGE, min(end * PAGE, INDEXED_MAX)) for first, end in runs(pages.orphans)]
    plans = [(orphans, ORPHAN_STRIDE), ([(0, min(base.size, INDEXED_MAX))], STRIDE)]
    indexes = []
    for number, (spans, stride) in enumerate(plans if work else []):
        entries = sum(end - start for start, end in spans) // stride
        bits = min(max(entries.bit_length(), 12), INDEX_BITS_MAX)
        path = folder / f"{base.name}.index{number}"
        Index(path, bits, create=True).fill(old, spans, stride)
        indexes.append((path, bits))
    return Workspace(base.file, target.file, tuple(indexes), limit, target.group_size, work > FAST_ABOVE)


def _search(space: Workspace, spans: Spans, run: Map, report: Report) -> list[Stretch]:
    total, done = 2 * sum(end - start for start, end in spans), 0
    batches = [spans[at : at + 64] for at in range(0, len(spans), 64)]
    counts, found = no_counts(), list[list[list[int]]]()
    for batch, one in zip(batches, run(bound(first_pass, space), batches), strict=True):
        counts += one.counts
        found.append(one.distances)
        done += sum(end - start for start, end in batch)
        report("searching", done, total)
    costs, stretches = learn_costs(counts), list[Stretch]()
    tasks = [(batch, distances, costs) for batch, distances in zip(batches, found, strict=True)]
    for batch, chosen in zip(batches, run(bound(second_pass, space), tasks), strict=True):
        stretches += itertools.chain.from_iterable(chosen)
        done += sum(end - start for start, end in batch)
        report("searching", done, total)
    return stretches


def _recipes(
    new: Bytes, target: Content, changed: Sequence[int], pages: PageMap, hard: Sequence[Stretch]
) -> Iterator[GroupRecipe]:
    size, per_group, whole = target.group_size, target.group_size // PAGE, len(pages.hard)
    every = [page for group in changed for page in range(group * per_group, min((group + 1) * per_group, whole))]
    stretches = list(hard)
    distances = pages.distances(every)
    for page, distance in distances.items():
        start = page * PAGE
        zero = not new[start : start + PAGE].any()
        stretches.append(Stretch(start, start + PAGE, *((Op.ZERO, 0) if zero else (Op.COPY, distance))))
    if target.size > whole * PAGE and changed[-1] == (target.size - 1) // size:
        stretches.append(Stretch(whole * PAGE, target.size, Op.LITERAL))
    stretches.sort(key=lambda stretch: stretch.start)
    for group, members in itertools.groupby(stretches, lambda stretch: stretch.start // size):
        length = min(size, target.size - group * size)
        yield GroupRecipe(group * size, length, tuple(merge(members)))


def _pack(space: Workspace, recipes: Sequence[GroupRecipe], run: Map, report: Report) -> Iterator[EncodedPiece]:
    batches = [recipes[at : at + 64] for at in range(0, len(recipes), 64)]
    estimates = list(itertools.chain.from_iterable(run(bound(measure, space), batches)))
    pieces = list(cut(recipes, estimates, space.group_size))
    total, done = sum(group.length for group in recipes), 0
    for piece, encoded in zip(pieces, run(bound(pack_piece, space), pieces), strict=True):
        yield from encoded
        done += sum(group.length for group in piece)
        report("packing", done, total)


def _entry(base: Content, target: Content, changed: Sequence[int], pieces: Sequence[EncodedPiece]) -> PayloadEntry:
    import hashlib

    numbers, at = list[int](), 0
    for _, run in itertools.groupby(enumerate(changed), lambda pair: pair[1] - pair[0]):
        members = [index for _, index in run]
        numbers += [members[0] - at, len(members)]
        at = members[-1] + 1
    return PayloadEntry(
        name=target.name,
        base=bytes.fromhex(base.digest),
        base_size=base.size,
        plain_list=hashlib.sha256(target.plain_list).digest(),
        size=target.size,
        group_size=target.group_size,
        changed=len(changed),
        pieces=len(pieces),
        runs=build_varints(numbers),
        columns=build_varints(number for piece in pieces for number in piece.columns),
    )


def _write(sink: BinaryIO, parts: Sequence[_Part], spool: BinaryIO) -> PatchSummary:
    table = build_patch_table(part.entry for part in parts)
    packed, digests = pack(table, CONTROL_WINDOW), b"".join(part.digests for part in parts)
    header = PatchHeader(len(packed), len(table), len(digests) // DIGEST_SIZE, sum(part.stored for part in parts))
    sink.writelines((build_patch_header(header), packed, digests))
    spool.seek(0)
    shutil.copyfileobj(spool, sink)
    payloads = tuple(
        PatchedPayload(
            name=part.entry.name,
            base=part.entry.base.hex(),
            groups=-(-part.entry.size // part.entry.group_size),
            changed=part.entry.changed,
            pieces=part.entry.pieces,
            stored=part.stored,
        )
        for part in parts
    )
    return PatchSummary(header.head + header.pieces, header.head, payloads)
