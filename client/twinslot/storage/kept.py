"""One small value in a file of JSON: replaced whole, and as if it were not there where it cannot be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, TypeVar

from twinslot.core import stored
from twinslot.storage.sync import make_directory, write_whole

T = TypeVar("T")
_LIMIT: Final = 1 << 20  # bytes; the largest of them, of reports, has some kB


def read_kept(path: Path, kind: type[T]) -> T | None:
    """What was kept last.

    Args:
        path: Of the file.
        kind: A dataclass, as `core.stored` has them.

    Returns:
        None: nothing is kept, or it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return stored.read(kind, json.loads(file.read(_LIMIT)))
    except (OSError, ValueError, RecursionError):
        return None


def write_kept(path: Path, value: object) -> None:
    """Keep it: the old value or the new one, whenever power goes.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    make_directory(path.parent, 0o755)
    write_whole(path, json.dumps(stored.write(value), indent=1).encode() + b"\n", 0o644)
