"""`twinslot service`: the update service, started by the bus, gone when idle."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

from twinslot.core.errors import TwinslotError

if TYPE_CHECKING:
    from twinslot.config import Config

_log = logging.getLogger(__name__)


def main(config_root: str = "/") -> int:
    """Load the configuration below a directory and be the service.

    Returns:
        An exit status: 0 when it was idle or told to stop, otherwise that of the error, which is logged.
    """
    from twinslot.config import load

    _log_to_stderr()
    try:
        config = load(config_root)
    except TwinslotError as e:
        _log.error("%s", e)
        return e.exit_status
    return run(config)


def run(config: Config) -> int:
    """Be the service with a configuration; returns as `main`."""
    from twinslot.bus.server import serve
    from twinslot.bus.world import RealWorld

    _log_to_stderr()
    try:
        serve(RealWorld(config))
    except TwinslotError as e:
        _log.error("%s", e)
        return e.exit_status
    return 0


def _log_to_stderr() -> None:
    """Under systemd each line gets its priority (sd-daemon(3)); elsewhere the level's name."""
    handler = logging.StreamHandler(sys.stderr)
    if "JOURNAL_STREAM" in os.environ:
        handler.setFormatter(_Priority())
    else:
        handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


class _Priority(logging.Formatter):
    """`<3>` for errors, `<4>` for warnings, `<6>` for the rest: syslog's levels, as sd-daemon(3) names them."""

    def format(self, record: logging.LogRecord) -> str:
        """One prefix for each line, so that a traceback stays together."""
        level = 3 if record.levelno >= logging.ERROR else 4 if record.levelno >= logging.WARNING else 6
        return "\n".join(f"<{level}>{line}" for line in super().format(record).splitlines())
