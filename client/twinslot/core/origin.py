"""Who asked for a change (S19). Stored with the update and in each audit row."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from twinslot.core.stored import Kept, write


class OriginKind(enum.StrEnum):
    """By which way a request came."""

    UNKNOWN = "unknown"  # stored before origins were, or an update that was found in the boot environment
    CLI = "cli"  # the command, in the process of whoever typed it
    BUS = "bus"  # a caller of the service
    UNIT = "unit"  # a unit of systemd, without a person behind it
    SERVER = "server"  # an update server, by an action of its own


@dataclass(frozen=True, slots=True)
class Origin(Kept):
    """Who asked. What is not known is empty, and not stored.

    Attributes:
        kind: By which way.
        uid: The user id of the process that asked.
        login: The user's name; behind `sudo` that of whoever logged in, as the kernel keeps it (audit_getloginuid(3)).
        sender: Unique name on the bus.
        unit: Name of the unit.
        action: The server's own id of its request.
    """

    kind: OriginKind = OriginKind.UNKNOWN
    uid: int | None = None
    login: str = ""
    sender: str = ""
    unit: str = ""
    action: str = ""

    # keeps: S19
    def as_dict(self) -> dict[str, object]:
        """JSON-ready, for audit rows: only what is known."""
        return {name: value for name, value in write(self).items() if value not in (None, "")}


NOBODY: Final = Origin()  # not known
