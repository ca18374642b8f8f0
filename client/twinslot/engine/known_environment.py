"""The boot environment for one holder of the update lock: what was read or written last is known without reading again.

Nobody else writes while the lock is held (S17). What S4 demands past the cache stays the bootloader's own: each write
reads both copies before and after.
"""

from __future__ import annotations

from collections.abc import Mapping

from twinslot.bootloader.base import Bootloader, Environment
from twinslot.core.model import LoaderTraits


class KnownEnvironment:
    """Implements `Bootloader` and remembers what the last call found.

    Args:
        bootloader: That reads and writes.
    """

    def __init__(self, bootloader: Bootloader) -> None:
        self._bootloader = bootloader
        self._last: Environment | None = None

    @property
    def last(self) -> Environment:
        """What stood there after the last call; read when there was none, or it ended with an error.

        Raises:
            DeviceError: As `Bootloader.read`.
        """
        return self._last or self.read()

    def describe(self) -> LoaderTraits:
        """See `Bootloader`."""
        return self._bootloader.describe()

    def read(self) -> Environment:
        """See `Bootloader`."""
        self._last = None
        self._last = self._bootloader.read()
        return self._last

    def write(self, changes: Mapping[str, str]) -> Environment:
        """See `Bootloader`."""
        self._last = None
        self._last = self._bootloader.write(changes)
        return self._last

    def settle(self) -> Environment:
        """See `Bootloader`."""
        self._last = None
        self._last = self._bootloader.settle()
        return self._last

    def reset(self, changes: Mapping[str, str]) -> Environment:
        """See `Bootloader`."""
        self._last = None
        self._last = self._bootloader.reset(changes)
        return self._last
