"""The nouns: slots, floors, releases, and what a boot tells us. Plain frozen data, no behaviour that needs a device."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from twinslot.core.stored import Kept

PARTITION = "partition"  # the type of a payload that is the content of one partition
SECTOR = 512  # bytes; the unit in which storage may tear a write


class SlotName(enum.StrEnum):
    """The slots. Their names are the boot contract's (section 2); which of them is what: `core.slotset.SlotSet`."""

    A = "a"
    B = "b"


class SlotState(enum.StrEnum):
    """What the boot environment says of a slot. A bad slot never boots."""

    GOOD = "good"
    TRIAL = "trial"
    BAD = "bad"


class Reason(enum.StrEnum):
    """Why a slot was left. The first six are written by script, deadline unit or client (boot contract section 2)."""

    LOAD_FAILED = "load-failed"
    BOOTLIMIT = "bootlimit"
    DEADLINE = "deadline"
    UNHEALTHY = "unhealthy"
    OPERATOR = "operator"
    NOT_BOOTED = "not-booted"  # armed, reset, and the old system is up; its boot loader does not say why
    RESETS = "resets"  # tries ran out, but the new system came up each time: innocent resets
    ENVIRONMENT = "environment-lost"  # the arming write was lost with its copy of the environment
    INTERRUPTED = "interrupted"  # power or process went away before arming
    CANCELLED = "cancelled"
    STOPPED = "service-stopped"  # the update service was told to end, as at a shutdown
    REPLACED = "replaced"  # a newer install took its place before it was booted
    OVERTAKEN = "overtaken"  # the environment has gone on to another update without it
    NEWER_CLIENT = "newer-client"  # a newer client left it in a state that this one does not know
    WATCH = "watch"  # the product's signals failed after the commit
    FAILED = "failed"  # the install ended with an error before arming


@dataclass(frozen=True, slots=True)
class LoaderTraits:
    """What a boot loader does by itself of section 3 of the boot contract.

    The defaults are what U-Boot does with our script, and what a hook is taken for that says nothing.

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


@dataclass(frozen=True, slots=True)
class Floors(Kept):
    """The lowest values still accepted (S8). They rise only in the commit write.

    Attributes:
        sequence: Release sequence; a manifest with a lower one is a downgrade.
        epoch: Security epoch; slots and images below it never boot again.
        root: Version of the TUF root that was last trusted.
    """

    sequence: int = 0
    epoch: int = 0
    root: int = 1

    # keeps: S18
    def highest(self, other: Floors) -> Floors:
        """The higher of each, since the floors stand in two places and losing one lowers nothing.

        A floor that only a newer client knows is one as well (S18).
        """
        return Floors(
            max(self.sequence, other.sequence),
            max(self.epoch, other.epoch),
            max(self.root, other.root),
            unknown=_highest(self.unknown, other.unknown),
        )


@dataclass(frozen=True, slots=True)
class Release(Kept):
    """Which release an image or a slot holds.

    Attributes:
        name: Product release, for people, for example `2026.11`.
        sequence: Orders releases; signed; not the name.
        epoch: Security epoch of the release.
        manifest: SHA-256 of the manifest's bytes, 64 hex digits; empty when not known (never installed by us).
    """

    name: str
    sequence: int
    epoch: int = 0
    manifest: str = ""


@dataclass(frozen=True, slots=True)
class StoredPayload(Kept):
    """One payload as it stands in a slot after an install.

    Attributes:
        size: Bytes from the start of the partition.
        group_size: Bytes per group; the last group may be shorter.
        digest: SHA-256 of the whole payload, 64 hex digits.
        type: Type of the payload (`core.manifest.Payload.type`).
    """

    size: int
    group_size: int
    digest: str
    type: str = PARTITION


@dataclass(frozen=True, slots=True)
class SlotRecord(Kept):
    """What the record knows of one slot.

    Attributes:
        slot: Which one.
        release: What it holds.
        payloads: With their digests.
        transaction: Of the update that brought it.
        installed_at: When it was committed; this and the dates below by the device's clock, UTC, ISO 8601 (S16).
        read_at: When all of it was last read from the medium and was what was installed; empty: not known.
        started_at: When a system that is kept last started from it; empty: not known.
        started_in: The kernel's id of that boot.
        unsound: What the last reading found, where that was something else; empty: nothing.
    """

    slot: SlotName
    release: Release
    payloads: dict[str, StoredPayload] = field(default_factory=dict)
    transaction: str = ""
    installed_at: str = ""
    read_at: str = ""
    started_at: str = ""
    started_in: str = ""
    unsound: str = ""


@dataclass(frozen=True, slots=True)
class CheckResult(Kept):
    """Outcome of one health check.

    Attributes:
        name: As configured.
        required: A failed required check ends the trial; a wanted one is only reported.
        passed: The verdict.
        detail: One line for people.
        seconds: Time taken, all tries together.
        tries: How often it was asked.
    """

    name: str
    required: bool
    passed: bool
    detail: str = ""
    seconds: float = 0.0
    tries: int = 1


def _highest(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The higher number under each key; of anything else the first."""
    both = dict(other) | dict(one)
    numbers = (key for key in one.keys() & other.keys() if type(one[key]) is type(other[key]) is int)
    return both | {key: max(one[key], other[key]) for key in numbers}
