"""Giving way to what the device is there for: CPU and I/O priority of whoever moves an update.

On Linux both belong to a thread (setpriority(2), ioprio_set(2)), and threads and children inherit them. So an update
lowers those of its own thread, which ends with it: nothing has to be raised again, which needs a privilege.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import Final

log = logging.getLogger(__name__)

IO_CLASSES: Final = {  # ionice(1): class, and level within it
    "normal": (),
    "low": ("-c", "2", "-n", "7"),
    "idle": ("-c", "3"),
}
_TIMEOUT: Final = 10.0  # seconds for ionice, which only asks the kernel


def lower_priority(nice: int, io: str = "normal") -> None:
    """Lower the priority of this thread, and of what it starts from now on.

    Where that fails it is logged: an update that does not give way is better than none.

    Args:
        nice: 1 to 19, as nice(1); a thread that is nicer already stays so. 0 leaves it as whoever started it wanted.
        io: A key of `IO_CLASSES`. Heeded by the BFQ scheduler, and on some devices by mq-deadline; ionice(1) says more.
    """
    thread = threading.get_native_id()
    try:
        if nice and nice > os.getpriority(os.PRIO_PROCESS, thread):
            os.setpriority(os.PRIO_PROCESS, thread, nice)
        if IO_CLASSES[io]:
            _ionice(*IO_CLASSES[io], "-p", str(thread))
    except OSError as e:
        log.warning("the priority cannot be lowered: %s", e)


def _ionice(*words: str) -> None:
    from twinslot.system import process

    ended = process.run(["ionice", *words], timeout=_TIMEOUT)
    if ended.status != 0:
        raise OSError(f"ionice {ended.complaint()}")
