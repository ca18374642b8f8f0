"""What is asked of the system manager: a restart of the device, and to start a unit of ours."""

from __future__ import annotations

import logging
import time
from typing import Final

from twinslot.core.circumstance import may_pass
from twinslot.core.errors import DeviceError
from twinslot.system import process

log = logging.getLogger(__name__)

CONTINUE: Final = "twinslot-continue.service"
TRIES: Final = 5  # a second between two


def reboot() -> None:
    """Ask systemd, which stops services in order; the caller goes on until it is stopped.

    Raises:
        DeviceError: `device.reboot`: it cannot be asked for, or was refused.
    """
    try:
        # Who blocks a shutdown was asked by policy, and the nets of a trial ask nobody.
        ended = _started_in_the_end(["systemctl", "--no-block", "--check-inhibitors=no", "reboot"])
    except OSError as e:
        raise DeviceError("the reboot cannot be asked for", code="reboot", found=e, hint="reboot by hand") from e
    if ended.status != 0:
        raise DeviceError("the reboot was refused", code="reboot", found=ended.complaint(), hint="reboot by hand")


def ask_again() -> None:
    """Have systemd start what asks policy again; where that fails, the timer does it later."""
    start_unit(CONTINUE)


def start_unit(name: str) -> None:
    """Have systemd start a unit; nothing waits for it, and where that fails it is told."""
    try:
        ended = process.run(["systemctl", "--no-block", "start", name], timeout=60)
    except OSError as e:
        log.warning("'%s' cannot be started: %s", name, e.strerror)
        return
    if ended.status != 0:
        log.warning("'%s' cannot be started: %s", name, ended.complaint())


def _started_in_the_end(argv: list[str]) -> process.ProgramResult:
    """Run a program that is needed, also when this process lacks for a moment what it takes to start one.

    Raises:
        OSError: As the system says it; the caller names what was meant.
    """
    for _ in range(TRIES - 1):
        try:
            return process.run(argv, timeout=60)
        except OSError as e:
            if not may_pass(e):
                raise
            log.warning("'%s' cannot be started now, so it is tried again: %s", argv[0], e.strerror)
        time.sleep(1)
    return process.run(argv, timeout=60)
