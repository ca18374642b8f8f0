"""The SHA-256 of a file, whatever its size."""

from __future__ import annotations

import hashlib
from pathlib import Path

from twinslot_image.named_file import naming


def file_digest(path: Path) -> str:
    """In hex.

    Raises:
        OSError: It cannot be read; the error names it.
    """
    with naming(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
