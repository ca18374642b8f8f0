"""What is known of the ELF files of both contents, in files that the processes of one run share."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from twinslot.image.projection import since
from twinslot_image.patch_finders import find_references
from twinslot_image.patch_pages import ByteSource, FileBytes
from twinslot_image.patch_path import Pair
from twinslot_image.patch_project import Knowledge
from twinslot_image.patch_sections import Part, find_parts
from twinslot_image.patch_shifts import ShiftMap
from twinslot_image.patch_store import Followed, StoredReferences, store, store_words

_SIDES = ("old", "new")
_NEAR = 16  # pages around those that only the base has: what is searched as one may come from there, too


def look(
    path: Path, old: Path, new: Path, orphans: npt.NDArray[np.bool_], hard: npt.NDArray[np.bool_], newest: int
) -> bool:
    """Find the ELF files that differ, and all references in what differs of them.

    Args:
        path: Where to keep it; the beginning of the files' names.
        old: The base's content.
        new: The new content.
        orphans: Pages that only the base has.
        hard: Pages that only the new content has.
        newest: Format that may be used: kinds of references that it does not have are passed over.

    Returns:
        Whether there are any on both sides.
    """
    found = []
    for side, content, pages in zip(_SIDES, (old, new), (_around(orphans), hard), strict=True):
        parts = [part for part in find_parts(content, pages) if since(part.kind) <= newest]
        if not parts:
            return False
        with FileBytes(content) as data:
            store(_place(path, side), find_references(data, parts, pages))
        found.append(parts)
    _place(path, "parts").write_bytes(pickle.dumps(found))
    return True


@contextmanager
def knowledge(path: Path) -> Iterator[Knowledge]:
    """What `look` found."""
    with StoredReferences(_place(path, "old")) as old, StoredReferences(_place(path, "new")) as new:
        yield Knowledge(*_parts(path), old, new)


def follow(path: Path, moved: ShiftMap) -> None:
    """Put what each reference leads to into its field, in the base moved as the new content has it."""
    with knowledge(path) as known:
        ours = (replace(some, targets=moved.moved(some.targets)) for some in known.old.every())
        store_words(_place(path, "old"), ours)
        store_words(_place(path, "new"), known.new.every())


@contextmanager
def followed(path: Path, old: ByteSource, new: ByteSource) -> Iterator[Pair]:
    """Both contents as `follow` left them."""
    with Followed(old, _place(path, "old")) as first, Followed(new, _place(path, "new")) as second:
        yield first, second


@lru_cache(maxsize=1)
def _parts(path: Path) -> tuple[list[Part], list[Part]]:
    old, new = pickle.loads(_place(path, "parts").read_bytes())  # noqa: S301 - written by this run
    return old, new


def _around(pages: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """These pages, and `_NEAR` more on both sides of each."""
    edges = np.zeros(len(pages) + 1, np.int64)
    at = np.flatnonzero(pages)
    np.add.at(edges, np.maximum(at - _NEAR, 0), 1)
    np.add.at(edges, np.minimum(at + _NEAR + 1, len(pages)), -1)
    return np.cumsum(edges)[:-1] > 0


def _place(path: Path, name: str) -> Path:
    return path.with_name(f"{path.name}.{name}")
