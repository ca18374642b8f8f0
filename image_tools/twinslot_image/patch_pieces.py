"""Makes all pieces of a payload, and puts them into a file as they come: a large patch is never in memory whole."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import BinaryIO, Final

from twinslot_image.patch_encode import EncodedPiece, PieceNumbers, cut
from twinslot_image.patch_path import GroupRecipe
from twinslot_image.patch_pool import Map
from twinslot_image.patch_search import PatchSearch, Report
from twinslot_image.patch_work import Workspace, bound, measure, pack_piece, workers

STRETCHES_MAX: Final = 1 << 18  # of groups that are packed together, 200 bytes each
_BATCH: Final = 64  # groups that a worker measures at once


@dataclass(frozen=True, slots=True)
class Pieces:
    """The pieces of a payload in the order of its groups, and the file that has their streams."""

    file: Path
    numbers: Sequence[PieceNumbers]

    @property
    def length(self) -> int:
        """Bytes stored."""
        return sum(piece.length for piece in self.numbers)


@dataclass(slots=True)
class _Packing:
    """How far it is: bytes of which each is chosen a source, if it is searched for, and packed."""

    total: int
    report: Report
    done: int = 0

    def add(self, size: int) -> None:
        self.done += size
        self.report("packing", self.done, self.total)


def make_pieces(search: PatchSearch, changed: Sequence[int], place: Path, report: Report) -> Pieces:
    """Make them in each way there is, and keep the smallest.

    Args:
        search: Between the two contents.
        changed: Numbers of the groups, one at least.
        place: For the file; the beginning of its name.
        report: Called now and then.
    """
    made = list[Pieces]()
    with workers(search.work) as run:
        for number, space in enumerate(search.ways()):
            packing = _Packing(search.work + search.length(changed), report)
            recipes = search.recipes(space, changed, run, report, packing.add)
            file = place.with_name(f"{place.name}.{number}")
            with file.open("wb") as sink:
                numbers = [_put(piece, sink) for piece in _pack(space, recipes, run, packing)]
            made.append(Pieces(file, numbers))
    return min(made, key=attrgetter("length"))


def _put(piece: EncodedPiece, sink: BinaryIO) -> PieceNumbers:
    sink.writelines((piece.control, piece.residual, piece.literal))
    return piece.numbers


def _pack(space: Workspace, recipes: Iterator[GroupRecipe], run: Map, packing: _Packing) -> Iterator[EncodedPiece]:
    """Some groups at a time; those of the last piece wait for what else goes into it."""
    rest, sizes = list[GroupRecipe](), list[int]()
    while groups := list(_some(recipes)):
        batches = [groups[at : at + _BATCH] for at in range(0, len(groups), _BATCH)]
        sizes += itertools.chain.from_iterable(run(bound(measure, space), batches))
        *pieces, rest = cut(rest + groups, sizes, space.form)
        sizes = sizes[len(sizes) - len(rest) :]
        yield from _packed(space, pieces, run, packing)
    yield from _packed(space, [rest], run, packing)


def _some(recipes: Iterator[GroupRecipe]) -> Iterator[GroupRecipe]:
    kept = 0
    while kept < STRETCHES_MAX and (group := next(recipes, None)) is not None:
        kept += len(group.stretches)
        yield group


def _packed(
    space: Workspace, pieces: Sequence[list[GroupRecipe]], run: Map, packing: _Packing
) -> Iterator[EncodedPiece]:
    for piece, encoded in zip(pieces, run(bound(pack_piece, space), pieces), strict=True):
        yield from encoded
        packing.add(sum(group.length for group in piece))
