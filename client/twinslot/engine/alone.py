"""One of a kind at a time: whoever asks a server for this device, or tells it something."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from twinslot.core.errors import DeviceError
from twinslot.storage.sync import make_directory


@contextlib.contextmanager
def alone(directory: Path) -> Iterator[bool]:
    """Whether no other process does the same; the directory is root's alone, so nobody else can hold the lock (S27).

    Args:
        directory: Of this kind; made if it is not there.

    Raises:
        DeviceError: `device.repository`: it cannot be used.
    """
    try:
        make_directory(directory, 0o700)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        hint = "is the data partition mounted?"
        raise DeviceError(f"'{directory}' cannot be used", code="repository", found=e.strerror, hint=hint) from e
    try:
        yield _locked(descriptor)
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process holds it
        return False
    return True
