"""What a caller of the service may do; each method of the bus, and some options, take one."""

from __future__ import annotations

import enum
from typing import Self


class Right(enum.StrEnum):
    """None of them contains another; root has all. The words are those of the actions of polkit."""

    READ = "read", "look at this device"
    OFFER = "offer", "offer images to this device"
    OPERATE = "operate", "activate, commit, roll back or cancel on this device"
    INHIBIT = "inhibit", "say that this device is in use"
    OVERRIDE = "override", "override a check of this device"

    meaning: str

    def __new__(cls, value: str, meaning: str) -> Self:
        """A member with what it lets a caller do, as the end of a sentence with "may"."""
        member = str.__new__(cls, value)
        member._value_, member.meaning = value, meaning
        return member
