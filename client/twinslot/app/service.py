"""What a device is asked in the process of the service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twinslot.app.local import LocalUpdater

if TYPE_CHECKING:
    from twinslot.app.updater import JsonObject
    from twinslot.config.options import Config
    from twinslot.core.origin import Origin


class ServiceUpdater(LocalUpdater):
    """As `LocalUpdater`, in the process of the service.

    That process reads what workers send, so it never has the device's key (S22): what needs it is asked of another.

    Args:
        config: Of this device.
        config_root: Below which it was read.
        origin: Who asks.
    """

    def __init__(self, config: Config, config_root: str, origin: Origin) -> None:
        super().__init__(config, service_workers=True, origin=origin)
        self._config_root = config_root

    # keeps: S22
    def attest(self, nonce: str) -> JsonObject:
        """See `Updater`."""
        from twinslot.system.apart import answer_of

        return answer_of("attest", *(("--nonce", nonce) if nonce else ()), config_root=self._config_root)
