"""Where an image comes from, in the words of the audit: never with a secret (S19)."""

from __future__ import annotations

import contextlib
import os
import stat
import urllib.parse
from pathlib import Path
from typing import Final

_KINDS: Final = ((stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISBLK, "a block device"))


def source_name(source: str | int) -> str:
    """An address without user, password, query and fragment, where tokens stand; of a descriptor its path or its kind.

    What is no address at all is not shown, since nobody knows what stands in it.
    """
    return _address(source) if isinstance(source, str) else _descriptor(source)


def _address(url: str) -> str:
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "an address that cannot be read"
    if not host:
        return "an address that cannot be read"
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{'' if port is None else f':{port}'}{parts.path}"


def _descriptor(descriptor: int) -> str:
    with contextlib.suppress(OSError):
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
            return str(Path(f"/proc/self/fd/{descriptor}").readlink())
        return next((kind for asked, kind in _KINDS if asked(mode)), "a descriptor")
    return "a descriptor"
