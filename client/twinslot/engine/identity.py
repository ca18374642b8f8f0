"""Which device this is in a fleet: the id that draws its places in waves, and stands in its reports."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from twinslot.config.options import Config

_LINE: Final = 256  # bytes of an id, or of a class of networks


def device_id(config: Config) -> str:
    """The first line of `repository.device_id`; empty: there is none."""
    return first_line(config.repository.device_id)


def fingerprint_of(identity: str) -> str:
    """Tells one id from another and gives neither away: 16 hex digits; empty for no id."""
    return hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()[:16] if identity else ""


def first_line(path: Path) -> str:
    """Of a small file, without blanks around it; empty: there is none, or it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.readline(_LINE).decode(errors="replace").strip()
    except OSError:
        return ""
