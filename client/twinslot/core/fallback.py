"""Whether the way back is proven: the slot that a failed start or a rollback leads to was read whole, and has started.

Pure. The dates are those of the device's clock when it was read (S16): whoever decides by them says what a clock that
is not to be believed means.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from twinslot.core.model import SlotName, SlotRecord, SlotState

_DATE: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)  # as `engine.open_update.timestamp` writes it


@dataclass(frozen=True, slots=True)
class Fallback:
    """What is known of the way back.

    Attributes:
        slot: Where the running system goes back to; None: not known.
        proven: When its content was last read whole and was what had been installed; None: it is not proven now.
        started: When a system last started from it and was kept; None: never, or not known.
        why: Why it is not proven, in a sentence; empty when it is.
    """

    slot: SlotName | None
    proven: datetime | None = None
    started: datetime | None = None
    why: str = ""

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        dates = {"proven": _text(self.proven), "started": _text(self.started)}
        return {"slot": str(self.slot) if self.slot else None} | dates | {"why": self.why}


# keeps: REQ-AUD-01
def judge_fallback(slot: SlotName | None, state: SlotState | None, known: SlotRecord | None) -> Fallback:
    """What the evidence comes to.

    Args:
        slot: The way back; None: not known.
        state: What the boot environment says of it.
        known: What the record knows of it.
    """
    if slot is None or state is None:
        return Fallback(slot, why="what runs, or the boot environment, is not known")
    if state is not SlotState.GOOD:
        return Fallback(slot, why=f"slot {slot} is {state}")
    if known is None or not known.payloads:
        return Fallback(slot, why=f"the record does not know what slot {slot} holds")
    read, started = parse_date(known.read_at), parse_date(known.started_at)
    if known.unsound:
        return Fallback(slot, None, started, f"slot {slot} was read and is not sound: {known.unsound}")
    if read is None:
        return Fallback(slot, None, started, f"slot {slot} was never read whole")
    if started is None:
        return Fallback(slot, None, None, f"no system is known to have started from slot {slot}")
    return Fallback(slot, read, started)


def parse_date(text: str) -> datetime | None:
    """A date of the record; None: there is none, or it is damaged."""
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC) if _DATE.fullmatch(text) else None
    except ValueError:  # the 31st of February
        return None


def _text(date: datetime | None) -> str | None:
    return date.strftime("%Y-%m-%dT%H:%M:%SZ") if date else None
