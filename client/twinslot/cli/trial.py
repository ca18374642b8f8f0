"""Patience of the units that judge a trial: a fault that passes must not end a healthy one (S6, decision 34).

`boot`, `check` and `commit --if-trial` are tried again while what stands in their way may pass. What lasts ends with
`UNDECIDED`, which their units do not take for a failure: then the deadline decides, with its own reason.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from twinslot.core.circumstance import may_pass
from twinslot.core.errors import TwinslotError

if TYPE_CHECKING:
    from twinslot.cli.host import Host

UNDECIDED: Final = 78  # EX_CONFIG of sysexits(3): no success, yet no reason to end a trial (the units know it)
BOOT_PATIENCE: Final = 20.0  # seconds; systemd ends twinslot-boot.service after 120
PATIENCE: Final = 300.0  # seconds for the others where no configuration tells the deadline: its default
PAUSES: Final = (1.0, 2.0, 4.0, 8.0)  # seconds before each further try; the last one again and again
# What says nothing of the release, whatever made it: somebody else holds the lock, or the medium of the environment
# did not take or give what it should.
_OF_CIRCUMSTANCE: Final = frozenset(
    {"refused.locked", "device.lock", "device.env-write", "device.env-unreadable", "device.env-hook"}
)
_NOT_CHECKED: Final = "refused.not-checked"  # no check has failed either; twinslot-check.service alone runs them
_OF_CONFIGURATION: Final = ("device.config-", "device.env-config", "device.health-names")

log = logging.getLogger(__name__)


def of_a_unit(arguments: argparse.Namespace) -> bool:
    """Whether this is a command of the units that judge a trial."""
    return arguments.verb in ("boot", "check") or (arguments.verb == "commit" and arguments.if_trial)


def passes(error: BaseException) -> bool:
    """Whether the same command may do better a moment later.

    Not after a required check has failed: that ends the trial, whatever else failed then. Nor where only the reboot is
    missing.
    """
    if isinstance(error, TwinslotError) and (error.unhealthy or error.code == "device.reboot"):
        return False
    return may_pass(error) or (isinstance(error, TwinslotError) and error.code in _OF_CIRCUMSTANCE)


def left_to_the_deadline(error: BaseException, arguments: argparse.Namespace) -> bool:
    """Whether the command of a unit could not tell if the release is well."""
    if not of_a_unit(arguments):
        return False
    if passes(error):
        return True
    return isinstance(error, TwinslotError) and error.code.startswith((*_OF_CONFIGURATION, _NOT_CHECKED))


# keeps: S6
def patiently(verb: Callable[[], int], arguments: argparse.Namespace, host: Host) -> int:
    """Run the verb until it ends otherwise than by what may pass, or its time is over.

    Raises:
        TwinslotError: What lasts, or what is no circumstance.
        OSError: The same.
    """
    began, number = host.monotonic(), 0
    while True:
        try:
            return verb()
        except (TwinslotError, OSError, MemoryError) as e:
            pause = PAUSES[min(number, len(PAUSES) - 1)]
            if not passes(e) or host.monotonic() - began + pause >= _time_left(arguments, host):
                raise
            log.warning("'%s' is tried again in %.0f s: %s", arguments.verb, pause, e)
        number += 1
        host.pause(pause)


def _time_left(arguments: argparse.Namespace, host: Host) -> float:
    """Seconds."""
    if arguments.verb == "boot":
        return BOOT_PATIENCE
    try:
        return float(host.config(arguments.config_root).trial.deadline)
    except (TwinslotError, OSError, MemoryError):
        return PATIENCE
