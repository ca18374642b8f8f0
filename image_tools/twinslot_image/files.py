"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

MODE_PUBLIC = 0o644
MODE_SECRET = 0o600


@contextmanager
def replacing(path: Path, mode: int = MODE_PUBLIC) -> Iterator[BinaryIO]:
    """A file beside `path` that takes its place when the block ends well, and vanishes when it does not.

    Flushed to the medium before the rename, so a power cut leaves the old file or the new one.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield cast("BinaryIO", file)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_whole(path: Path, data: bytes, mode: int = MODE_PUBLIC) -> None:
    """Write a small file, whole or not at all."""
    with replacing(path, mode) as file:
        file.write(data)
