"""The service's face on the engine of this process, for `--no-service`: a factory, and the units."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twinslot.cli.world import JsonObject, World
from twinslot.engine.install import InstallOptions

if TYPE_CHECKING:
    from twinslot.config.options import Config
    from twinslot.core.progress import Observer
    from twinslot.engine.cancellation import Cancellation


class DirectClient:
    """Implements `cli_world.ServiceClient`.

    Args:
        world: Where the engine comes from.
        config: Of this device.
    """

    def __init__(self, world: World, config: Config) -> None:
        self._world, self._config = world, config

    def install(
        self, source: str | int, options: JsonObject, observer: Observer, cancelled: Cancellation
    ) -> JsonObject:
        """See `ServiceClient`."""
        chosen = InstallOptions(**options)
        return self._world.install(self._config, source, chosen, observer, cancelled).as_dict()

    def commit(self, options: JsonObject, observer: Observer) -> JsonObject | None:
        """See `ServiceClient`."""
        transaction = self._world.engine(self._config).commit(**options, observer=observer)
        return transaction.as_dict() if transaction else None

    def rollback(self, options: JsonObject, observer: Observer) -> JsonObject:  # noqa: ARG002 - the service's face
        """See `ServiceClient`."""
        return self._world.engine(self._config).rollback(**options).as_dict()

    def activate(self, options: JsonObject, observer: Observer) -> JsonObject:  # noqa: ARG002 - the service's face
        """See `ServiceClient`."""
        return self._world.engine(self._config).activate(**options).as_dict()

    def cancel(self) -> JsonObject:
        """See `ServiceClient`."""
        return self._world.engine(self._config).cancel().as_dict()

    def log(self, after: int, since: str, limit: int) -> JsonObject:
        """See `ServiceClient`."""
        return self._world.log(self._config, after, since, limit)

    def close(self) -> None:
        """Holds nothing."""
