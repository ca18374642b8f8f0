"""What the fleet process keeps between its runs: `fleet/state.json` beside the record. Replaced whole.

Nothing is decided by it alone. Lost or damaged, it is begun anew: the audit has what happened, the server what it
wants. Then reports leave again from all rows of orders that the server still shows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from twinslot.core import stored
from twinslot.core.backoff import Pause
from twinslot.core.errors import DeviceError
from twinslot.core.stored import Kept
from twinslot.fleet.reports import ServerAction
from twinslot.storage.sync import make_directory, write_whole

DIRECTORY: Final = "fleet"  # beside the record
FILE_NAME: Final = "state.json"
ACTIONS_MAX: Final = 32  # the newest; hawkBit wants one or two at a time
_LIMIT: Final = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class FleetState(Kept):
    """What is known.

    Attributes:
        home: Which controller at which server; another one begins anew.
        cursor: Number of the last row of the audit that needs no report any more.
        cursor_hash: Of that row, which tells whether this is the same audit.
        actions: Orders of the server, oldest first.
        config_data: Where attributes go, once the server has said so.
        told: Fingerprint of the attributes that the server has.
        told_boot: In which boot it got them.
        denied: Name of the order whose consent was denied last.
        failures: Runs that failed in a row, counted from the last one in which the server did something.
        pause: Until when the server is left alone, since it asked for that or was not there.
        sleep: Until when no poll is due.
    """

    home: str = ""
    cursor: int = 0
    cursor_hash: str = ""
    actions: tuple[ServerAction, ...] = ()
    config_data: str = ""
    told: str = ""
    told_boot: str = ""
    denied: str = ""
    failures: int = 0
    pause: Pause = field(default_factory=Pause)
    sleep: Pause = field(default_factory=Pause)


def read_state(directory: Path, home: str) -> FleetState:
    """What was known of this controller; new when nothing was, or it cannot be read.

    Args:
        directory: Of the record.
        home: Its address.
    """
    try:
        with (directory / DIRECTORY / FILE_NAME).open("rb") as file:
            state = stored.read(FleetState, json.loads(file.read(_LIMIT)))
    except (OSError, ValueError, RecursionError):
        return FleetState(home)
    return state if state.home == home else FleetState(home)


def write_state(directory: Path, state: FleetState) -> None:
    """Replace the file, whole, also through a power cut.

    Raises:
        DeviceError: `device.fleet-state`: the medium does not take it.
    """
    path = directory / DIRECTORY / FILE_NAME
    try:
        make_directory(path.parent, 0o700)
        write_whole(path, json.dumps(stored.write(state), indent=1).encode() + b"\n", 0o600)
    except OSError as e:
        hint = "is the data partition mounted, is there room, and does the directory belong to 'twinslot-fleet'?"
        raise DeviceError(f"'{path}' cannot be written", code="fleet-state", found=e.strerror, hint=hint) from e
