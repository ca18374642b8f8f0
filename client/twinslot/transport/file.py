"""Bytes of an image from a descriptor: a file, a pipe, a USB stick."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Final

from twinslot.core.errors import TransportError

CHUNK: Final = 256 * 1024  # bytes read at once


def read_descriptor(descriptor: int) -> Iterator[bytes]:
    """The bytes up to the end of the file or pipe. The caller owns the descriptor.

    A file may change while it is read; then a digest does not match and nothing of it is used. The change itself is
    reported, since it is the better explanation.

    Raises:
        TransportError: `transport.read`, or `transport.changed` when a file is not what it was at the start.
    """
    try:
        before = os.fstat(descriptor)
        while chunk := os.read(descriptor, CHUNK):
            yield chunk
        after = os.fstat(descriptor)
    except OSError as e:
        raise TransportError("the image cannot be read", code="read", found=e.strerror) from e
    if stat.S_ISREG(before.st_mode) and (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise TransportError(
            "the image file changed while it was read", code="changed", hint="copy it to its place first, then install"
        )
