"""Descriptors that came with a message, or go with one."""

from __future__ import annotations

import os

from twinslot.core.circumstance import is_shortage, shortage
from twinslot.core.errors import Refusal, RefusedError


def duplicate(descriptor: int, what: str) -> int:
    """A descriptor of our own; the caller closes it.

    Args:
        descriptor: Whose file is meant.
        what: Its name in messages.

    Raises:
        DeviceError: `device.resources`: this process has no descriptor left.
        RefusedError: `refused.no-descriptor`: it is not open.
    """
    try:
        return os.dup(descriptor)
    except OSError as e:
        if is_shortage(e):
            raise shortage(f"{what} cannot be taken over now", e) from e
        raise RefusedError(Refusal("no-descriptor", f"{what} is not open", hint="keep it open until the answer")) from e
