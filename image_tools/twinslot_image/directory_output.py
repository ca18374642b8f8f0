"""A directory that appears whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from twinslot.core.errors import Refusal, RefusedError
from twinslot_image.output_place import cannot_write
from twinslot_image.replacement import sync, workspace
from twinslot_image.stop import undisturbed


def write_directory(path: Path, files: Mapping[str, bytes], *, mark: str, force: bool) -> None:
    """Write files below a directory that is not there yet, or is empty.

    A power cut leaves the old directory, the new one, or none of this name; then the old one stands beside it.

    Args:
        path: The directory.
        files: Content by path in it.
        mark: A file that says that a directory is of this kind; only such a one is replaced.
        force: Replace one that has the mark.

    Raises:
        RefusedError: `refused.output-exists`.
        DeviceError: `device.output`.
    """
    refuse_existing(path, mark, force=force)
    with workspace(path.absolute().parent) as place:
        for name, data in files.items():
            file = place / "new" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as sink:
                sink.write(data)
                sync(sink)
        with undisturbed():
            refuse_existing(path, mark, force=force)
            if path.is_dir() and not path.is_symlink():
                path.rename(place / "old")
            (place / "new").rename(path)


def refuse_existing(path: Path, mark: str, *, force: bool) -> None:
    """See `write_directory`; asked before the work begins, too."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise cannot_write(str(path), "something else", expected="a directory, or nothing")
    if not path.absolute().parent.is_dir():
        raise cannot_write(str(path), f"no directory '{path.parent}'")
    if path.is_dir() and any(path.iterdir()) and not (force and (path / mark).is_file()):
        found = "a directory of the same kind" if (path / mark).is_file() else "a directory with other files"
        hint = "name another directory" + (", or replace it with '--force'" if (path / mark).is_file() else "")
        raise RefusedError(Refusal("output-exists", f"'{path}' is there already", None, found, hint))
