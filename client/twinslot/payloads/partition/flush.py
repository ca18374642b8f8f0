"""When to flush while groups arrive, so that a power cut loses little of what was fetched and flushing costs little."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twinslot.storage.base import TargetDevice

# Bytes. What a cut may cost at most: at 1 MB/s four seconds of download; and an eMMC's cache flush of some milliseconds
# is below one per cent of the time that it takes to write as much (100 MB/s: 40 ms).
EVERY: Final = 4 * 1024 * 1024
SHARE: Final = 16  # one part in so many of the time may go into flushing; a slow network thus flushes after each group


class FlushPolicy:
    """Flushes after every `EVERY` bytes, and sooner when the last flush was short against the time since.

    Args:
        device: Where the bytes go.
        monotonic: Seconds.
    """

    def __init__(self, device: TargetDevice, monotonic: Callable[[], float]) -> None:
        self._device, self._monotonic = device, monotonic
        self._bytes = 0
        self._last = monotonic()
        self._took = 0.0  # seconds of the last flush

    def wrote(self, count: int) -> None:
        """So many bytes were handed to the device.

        Raises:
            DeviceError: `device.flush`.
        """
        self._bytes += count
        now = self._monotonic()
        if self._bytes < EVERY and now - self._last < SHARE * self._took:
            return
        self._device.flush()
        self._last, self._bytes = self._monotonic(), 0
        self._took = self._last - now
