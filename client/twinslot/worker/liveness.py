"""How long a worker may live without bringing anything.

A sign of life keeps the engine waiting, and the engine holds the update lock. So a worker that only ever says that it
lives, or counts bytes of which nothing comes, is left when an honest one would have given up by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from twinslot.core.bounds import ATTACHMENTS_SIZE_MAX, DIGEST_SIZE, GROUP_SIZE_MAX, GROUPS_MAX
from twinslot.core.errors import TransportError

# Bytes that may come between two parts at most: attachments, all lists and tables (32 and 40 a group), and a group.
BETWEEN: Final = ATTACHMENTS_SIZE_MAX + GROUPS_MAX * (DIGEST_SIZE + 40) + GROUP_SIZE_MAX
SLOWEST: Final = 16.0  # bytes a second; where the configuration sets no floor


class StallDetector:
    """Measures one worker.

    Args:
        silent: Seconds without a byte that an honest worker may need: all its tries and pauses.
        floor: Bytes a second that count as alive; 0: `SLOWEST`.
        clock: Monotonic seconds.
    """

    def __init__(self, silent: float, floor: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._silent, self._floor, self._clock = silent, floor or SLOWEST, clock
        self._since, self._counted = clock(), 0

    def brought(self, fetched: int) -> None:
        """Something came, or was asked for, when so many bytes had been fetched."""
        self._since, self._counted = self._clock(), fetched

    def lives(self, fetched: int) -> None:
        """It says that it lives, and how many bytes it has fetched.

        Raises:
            TransportError: `transport.too-slow`.
        """
        allowed = self._silent + min(fetched - self._counted, BETWEEN) / self._floor
        if (waited := self._clock() - self._since) > allowed:
            raise TransportError(
                "the worker runs but delivers no data",
                code="too-slow",
                expected=f"a part of the image within {allowed:.0f} seconds",
                found=f"{waited:.0f} seconds",
                hint="see the journal; install again",
            )
