"""Errors of the system that may pass: they say that something ran out or failed once, not that a release is sick (S6).

Pure: errors in, words out.
"""

from __future__ import annotations

import errno
from typing import Final

from twinslot.core.errors import DeviceError

# errno(3): descriptors of this process or of all, memory, processes, buffers of sockets.
SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOBUFS})
# And what a medium says that is full, read-only, over its quota, or failed at one access.
PASSING: Final = SHORTAGES | {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
_HINT: Final = "this passes when descriptors, memory or processes are free again; give the command again"

_OF_A_MEDIUM: Final = "the medium may be failing; give the command again"


def is_shortage(error: OSError) -> bool:
    """Whether this process lacked something, so that the error says nothing of the file, medium or program."""
    return error.errno in SHORTAGES


# keeps: S6
def may_pass(error: BaseException | None) -> bool:
    """Whether the error, or one that it was made of, is such a circumstance."""
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in PASSING):
            return True
        error = error.__cause__
    return False


def shortage(message: str, error: OSError) -> DeviceError:
    """The error to raise `from` one that may pass: `device.resources`.

    Args:
        message: What could not be done, with the name of the file or program.
        error: What the system said.
    """
    return DeviceError(message, code="resources", found=error, hint=_HINT if is_shortage(error) else _OF_A_MEDIUM)
