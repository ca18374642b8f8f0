"""The border of a worker process: whatever happens inside, the engine gets a sentence, never silence."""

from __future__ import annotations

import logging
from collections.abc import Callable

from twinslot.core.errors import ImageError, LifecycleError, TwinslotError
from twinslot.worker.protocol import GONE, Channel

log = logging.getLogger(__name__)


def serve(channel: Channel, work: Callable[[Channel], None]) -> int:
    """Do the work of one conversation and report how it failed, if it did.

    Returns:
        The process's exit status: 0 also for bad input, which is the engine's to judge; 1 for our own mistakes.
    """
    try:
        work(channel)
    except TwinslotError as e:
        if e.code != GONE:  # then nobody listens any more
            channel.send_error(e)
    except MemoryError:
        channel.send_error(ImageError("the image needs more memory than a worker may have", code="memory"))
    except Exception as e:  # the border; the traceback goes to the journal
        log.exception("a fault in the worker")
        channel.send_error(LifecycleError("a worker failed", code="worker", found=f"{type(e).__name__}: {e}"))
        return 1
    return 0
