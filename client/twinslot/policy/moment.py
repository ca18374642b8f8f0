"""What time it is, in the three ways that counting over restarts takes."""

from __future__ import annotations

import time

from twinslot.core.backoff import Moment
from twinslot.storage.lock import this_boot


def this_moment() -> Moment:
    """Now, on this machine."""
    return Moment(time.time(), this_boot(), time.clock_gettime(time.CLOCK_BOOTTIME))
