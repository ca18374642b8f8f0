"""What a boot loader can do of section 3 of the boot contract, since not every one can do all of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class LoaderTraits:
    """What the boot loader does by itself. These defaults are U-Boot with our script, and a hook that says nothing.

    Attributes:
        counts: It starts a slot on trial several times and counts; otherwise once (EFI BootNext, Raspberry Pi tryboot).
        hands_over: When it leaves a slot on trial, `slot` says so afterwards; otherwise the variables stay as the
            client wrote them, and only a reset after which the old system is up shows that the trial is over.
        tells_reason: It writes `ts_reason` and `ts_failed` when it leaves a slot on trial.
        copies: Copies of the variables that a power cut cannot damage together; 1: the hook replaces its one file.
    """

    counts: bool = True
    hands_over: bool = True
    tells_reason: bool = True
    copies: int = 2


UBOOT: Final = LoaderTraits()
