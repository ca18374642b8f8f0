"""The boot environment for one holder of the update lock: what was read or written last is known without reading again.

Nobody else writes while the lock is held (S17), so what the last call found past the cache is also the look that comes
before the next write; the look after it is the bootloader's own, always at the medium (S4). Who holds the lock for long
(the network, a whole slot) lets go of what is remembered: a person with 'fw_setenv' asks for no lock, and the decision
that follows has to start from what stands there then (`forget`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twinslot.bootloader.base import Bootloader, Environment
from twinslot.core.audit_chain import ChainEnd
from twinslot.core.boot_variables import anchored
from twinslot.core.model import LoaderTraits


class KnownEnvironment:
    """Implements `Bootloader` and remembers what the last call found.

    Args:
        bootloader: That reads and writes.

    Attributes:
        audit_end: Where the audit ends now, for each decision (S25); None: not known, and the anchor stays as it is.
    """

    def __init__(self, bootloader: Bootloader) -> None:
        self._bootloader = bootloader
        self._last: Environment | None = None
        self.audit_end: Callable[[], ChainEnd | None] = lambda: None

    @property
    def last(self) -> Environment:
        """What stood there after the last call; read when there was none, it ended with an error, or was forgotten.

        Raises:
            DeviceError: As `Bootloader.read`.
        """
        return self._last or self.read()

    def forget(self) -> None:
        """Time has gone by since the last call: the next one looks again."""
        self._last = None

    def describe(self) -> LoaderTraits:
        """See `Bootloader`."""
        return self._bootloader.describe()

    def read(self) -> Environment:
        """See `Bootloader`."""
        self._last = None
        self._last = self._bootloader.read()
        return self._last

    # keeps: S4, S25
    def write(self, changes: Mapping[str, str], since: Environment | None = None) -> Environment:
        """See `Bootloader`; the anchor of the audit goes with it, in the same write."""
        since, self._last = since or self._last, None
        self._last = self._bootloader.write(self._anchored(changes), since)
        return self._last

    def settle(self, since: Environment | None = None) -> Environment:
        """See `Bootloader`."""
        since, self._last = since or self._last, None
        self._last = self._bootloader.settle(since)
        return self._last

    def reset(self, changes: Mapping[str, str], since: Environment | None = None) -> Environment:
        """See `Bootloader`."""
        since, self._last = since or self._last, None
        self._last = self._bootloader.reset(self._anchored(changes), since)
        return self._last

    def _anchored(self, changes: Mapping[str, str]) -> Mapping[str, str]:
        end = self.audit_end()
        return changes if end is None else anchored(changes, end)
