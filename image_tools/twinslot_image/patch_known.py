"""What is known of the ELF files of both contents, in files that the processes of one run share."""

from __future__ import annotations

import pickle
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from twinslot.image.projection import since
from twinslot_image.patch_finders import find_references
from twinslot_image.patch_pages import map_file
from twinslot_image.patch_project import Knowledge
from twinslot_image.patch_references import Followed, References
from twinslot_image.patch_sections import find_parts
from twinslot_image.patch_shifts import ShiftMap

_SIDES = ("old", "new")


def look(
    path: Path, old: Path, new: Path, orphans: npt.NDArray[np.bool_], hard: npt.NDArray[np.bool_], newest: int
) -> bool:
    """Find the ELF files that differ, and all references in them.

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
    for side, content, pages in zip(_SIDES, (old, new), (orphans, hard), strict=True):
        parts = [part for part in find_parts(content, pages) if since(part.kind) <= newest]
        if not parts:
            return False
        find_references(map_file(content), parts).save(_place(path, side))
        found.append(parts)
    _place(path, "parts").write_bytes(pickle.dumps(found))
    return True


@lru_cache(maxsize=1)
def load_known(path: Path) -> Knowledge:
    """What `look` found."""
    old, new = pickle.loads(_place(path, "parts").read_bytes())  # noqa: S301 - written by this run
    return Knowledge(old, new, *(References.load(_place(path, side)) for side in _SIDES))


def follow(path: Path, moved: ShiftMap) -> None:
    """Put what each reference leads to into its field, in the base moved as the new content has it."""
    known = load_known(path)
    old = References(
        known.old.places, known.old.biases, moved.moved(known.old.targets), known.old.rests, known.old.forms
    )
    for side, references in zip(_SIDES, (old, known.new), strict=True):
        np.save(_place(path, f"{side}.words.npy"), references.words())


@lru_cache(maxsize=1)
def load_followed(path: Path, old: Path, new: Path) -> tuple[Followed, Followed]:
    """Both contents as `follow` left them."""
    known = load_known(path)
    words = [np.load(_place(path, f"{side}.words.npy"), mmap_mode="r") for side in _SIDES]
    contents = map_file(old), map_file(new)
    places = known.old.places, known.new.places
    first, second = (Followed(*one) for one in zip(contents, places, words, strict=True))
    return first, second


def _place(path: Path, name: str) -> Path:
    return path.with_name(f"{path.name}.{name}")
