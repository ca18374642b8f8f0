"""What an update waits for, as it is told outside of the engine."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from twinslot.core.errors import Refusal
from twinslot.core.stored import Kept


@dataclass(frozen=True, slots=True)
class Waiting(Kept):
    """What the gate said that was asked last.

    Attributes:
        gate: Before which step it waits; empty: nothing was asked since the device started.
        reasons: Each as `Refusal.as_dict`.
        until: When it may go on by itself, ISO 8601 in UTC; empty: that is not known.
        asked: When the gate was asked, by the device's clock, likewise.
    """

    gate: str = ""
    reasons: tuple[dict[str, Any], ...] = ()
    until: str = ""
    asked: str = ""

    @property
    def codes(self) -> frozenset[str]:
        """Of the reasons."""
        return frozenset(str(reason.get("code")) for reason in self.reasons)

    @staticmethod
    def of(gate: str, reasons: tuple[Refusal, ...], until: datetime | None, asked: str) -> Waiting:
        """From a verdict."""
        end = f"{until:%Y-%m-%dT%H:%M:%SZ}" if until else ""
        return Waiting(gate=str(gate), reasons=tuple(each.as_dict() for each in reasons), until=end, asked=asked)
