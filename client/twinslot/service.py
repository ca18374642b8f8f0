"""`twinslot service`: the update service, started by the bus, gone when idle."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from twinslot.core.errors import TwinslotError
from twinslot.system import logs

if TYPE_CHECKING:
    from twinslot.config.options import Config

_log = logging.getLogger(__name__)


def main(config_root: str = "/") -> int:
    """Load the configuration below a directory and be the service.

    Returns:
        An exit status: 0 when it was idle or told to stop, otherwise that of the error, which is logged.
    """
    from twinslot.config.options import load

    logs.set_up()
    try:
        config = load(config_root)
    except TwinslotError as e:
        _log.error("%s", e)
        return e.exit_status
    return run(config, config_root)


def run(config: Config, config_root: str = "/") -> int:
    """Be the service with a configuration, which was read below that directory; returns as `main`."""
    from twinslot.app.service import ServiceUpdater
    from twinslot.bus.server.server import serve

    logs.set_up()
    try:
        serve(lambda origin: ServiceUpdater(config, config_root, origin))
    except TwinslotError as e:
        _log.error("%s", e)
        return e.exit_status
    return 0
