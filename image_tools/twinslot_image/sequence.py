"""A sequence that is far too high closes every device that commits it: nothing lower is ever taken again."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from twinslot.core.errors import ImageError, Refusal, RefusedError
from twinslot.core.manifest import parse_manifest
from twinslot_image.file_kind import read_image_front

JUMP_MAX: Final = 10**6  # above the release before; a million releases
ALONE_MAX: Final = 10**14  # when no release before is known: a date and time to the second, 20261129153000, is below it


def check_sequence(sequence: int, previous: Path | None, replaced: Path) -> None:
    """Hold a new sequence to those of the images before it.

    Args:
        sequence: Of the new release.
        previous: The release before; None: not given.
        replaced: What stands where the new image goes; when it is no image it counts for nothing.

    Raises:
        RefusedError: `refused.sequence-jump`.
        ImageError: `previous` is no image.
    """
    known = [] if previous is None else [parse_manifest(read_image_front(previous).manifest).release.sequence]
    if (found := _sequence(replaced)) is not None:
        known.append(found)
    limit = max(known) + JUMP_MAX if known else ALONE_MAX
    if sequence <= limit:
        return
    what = f"the sequence jumps far above the release before, {max(known)}" if known else "the sequence is very high"
    hint = "devices that commit it refuse everything below for ever; '--allow-jump' if it is meant"
    raise RefusedError(Refusal("sequence-jump", what, f"at most {limit}", str(sequence), hint))


def _sequence(path: Path) -> int | None:
    if not path.is_file():
        return None
    try:
        return parse_manifest(read_image_front(path).manifest).release.sequence
    except ImageError:
        return None
