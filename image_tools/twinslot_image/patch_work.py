"""The heavy steps of making a patch, each a function that any process can do, which reads what it needs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from twinslot.image.patch import Op
from twinslot_image.patch_encode import EncodedPiece, Form, encode, estimate
from twinslot_image.patch_index import Index, candidates
from twinslot_image.patch_known import followed, knowledge
from twinslot_image.patch_pages import FileBytes
from twinslot_image.patch_path import Costs, GroupRecipe, Pair, Spans, Stretch, choose, count_words, flat_costs
from twinslot_image.patch_pool import Map, process_pool
from twinslot_image.patch_project import Knowledge
from twinslot_image.patch_shifts import Samples

WORKERS_MAX = 8
ALONE_BELOW = 2 * 1024 * 1024  # bytes of work that are done before a process has started
_A = TypeVar("_A")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class Workspace:
    """What every worker needs to know.

    Attributes:
        old: The base's content.
        new: The new content.
        indexes: Each as (path, bits), made by `Index`.
        limit: Candidates for each span.
        form: What a piece may be.
        known: Where `patch_known` keeps what is known of ELF files; None: nothing is.
    """

    old: Path
    new: Path
    indexes: tuple[tuple[Path, int], ...]
    limit: int
    form: Form
    known: Path | None = None


@dataclass(frozen=True, slots=True)
class FirstPass:
    """Candidates for each span, how often each residual word came with them, and what moved."""

    distances: list[list[int]]
    counts: npt.NDArray[np.int64]
    samples: Samples


def first_pass(space: Workspace, spans: Spans) -> FirstPass:
    """Find candidates, and choose among them without knowing what residuals cost."""
    indexes = [Index(path, bits) for path, bits in space.indexes]
    with _contents(space) as (old, new), _knowledge(space) as known:
        distances = [candidates(new, span, indexes, space.limit) for span in spans]
        chosen = [one for span in choose(old, new, spans, distances, flat_costs()) for one in span]
        additions = [one for one in chosen if one.op is Op.ADD]
        samples = known.samples(additions) if known else Samples.joined([])
        return FirstPass(distances, count_words(old, new, chosen), samples)


def second_pass(space: Workspace, task: tuple[Spans, list[list[int]], Costs]) -> list[list[Stretch]]:
    """Choose again, knowing."""
    with _contents(space) as sides, _followed(space, sides) as moved:
        spans, distances, costs = task
        return choose(*sides, spans, distances, costs, moved)


def measure(space: Workspace, groups: Sequence[GroupRecipe]) -> list[int]:
    """About how many bytes each group will take."""
    with _contents(space) as sides, _followed(space, sides) as moved:
        return [estimate(*(moved or sides), group) for group in groups]


def pack_piece(space: Workspace, groups: Sequence[GroupRecipe]) -> list[EncodedPiece]:
    """One piece, or several."""
    with _contents(space) as sides, _knowledge(space) as known:
        return encode(sides, known, groups, space.form)


@contextmanager
def _contents(space: Workspace) -> Iterator[Pair]:
    with FileBytes(space.old) as old, FileBytes(space.new) as new:
        yield old, new


@contextmanager
def _knowledge(space: Workspace) -> Iterator[Knowledge | None]:
    with knowledge(space.known) if space.known else nullcontext() as known:
        yield known


@contextmanager
def _followed(space: Workspace, sides: Pair) -> Iterator[Pair | None]:
    with followed(space.known, *sides) if space.known else nullcontext() as moved:
        yield moved


@contextmanager
def workers(work: int) -> Iterator[Map]:
    """A map over processes, in order; without any for a few bytes of work, since they take a moment to start.

    Args:
        work: Bytes to be looked at.
    """
    count = min(len(os.sched_getaffinity(0)), WORKERS_MAX)
    if work < ALONE_BELOW or count == 1:
        yield map
        return
    with process_pool(count) as run:
        yield run


def bound(function: Callable[[Workspace, _A], _R], space: Workspace) -> Callable[[_A], _R]:
    """The function for one workspace, as it travels to a worker."""
    return partial(function, space)
