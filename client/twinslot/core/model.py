"""The nouns: slots, floors, releases, and what a boot tells us. Plain frozen data, no behaviour that needs a device."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field

DIGEST_SIZE = 32  # bytes of a SHA-256 (FIPS 180-4, section 1)
SECTOR = 512  # bytes; the unit in which storage may tear a write


class SlotName(enum.StrEnum):
    """The two slots. Their names are the boot contract's (docs/boot-contract.md section 2)."""

    A = "a"
    B = "b"

    @property
    def other(self) -> SlotName:
        """The slot that this one is not."""
        return SlotName.B if self is SlotName.A else SlotName.A


class SlotState(enum.StrEnum):
    """What the boot environment says of a slot. A bad slot never boots."""

    GOOD = "good"
    TRIAL = "trial"
    BAD = "bad"


class Reason(enum.StrEnum):
    """Why a slot was left. The first five are written by script, deadline unit or client (boot contract section 2)."""

    LOAD_FAILED = "load-failed"
    BOOTLIMIT = "bootlimit"
    DEADLINE = "deadline"
    UNHEALTHY = "unhealthy"
    OPERATOR = "operator"
    RESETS = "resets"  # tries ran out, but the new system came up each time: innocent resets
    ENVIRONMENT = "environment-lost"  # the arming write was lost with its copy of the environment
    INTERRUPTED = "interrupted"  # power or process went away before arming
    CANCELLED = "cancelled"
    FAILED = "failed"  # the install ended with an error before arming


@dataclass(frozen=True, slots=True)
class Floors:
    """The lowest values still accepted (S8). They rise only in the commit write.

    Attributes:
        sequence: Release sequence; a manifest with a lower one is a downgrade.
        epoch: Security epoch; slots and images below it never boot again.
        root: Version of the TUF root that was last trusted.
    """

    sequence: int = 0
    epoch: int = 0
    root: int = 1

    def highest(self, other: Floors) -> Floors:
        """The higher of each, since the floors stand in two places and losing one lowers nothing."""
        return Floors(max(self.sequence, other.sequence), max(self.epoch, other.epoch), max(self.root, other.root))


@dataclass(frozen=True, slots=True)
class Release:
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
class StoredPayload:
    """One payload as it stands in a slot after an install.

    Attributes:
        size: Bytes from the start of the partition.
        group_size: Bytes per group; the last group may be shorter.
        digest: SHA-256 of the whole payload, 64 hex digits.
    """

    size: int
    group_size: int
    digest: str


@dataclass(frozen=True, slots=True)
class SlotRecord:
    """What the record knows of one slot."""

    slot: SlotName
    release: Release
    payloads: dict[str, StoredPayload] = field(default_factory=dict)
    transaction: str = ""
    installed_at: str = ""


@dataclass(frozen=True, slots=True)
class CheckResult:
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


def failed_checks(results: Iterable[CheckResult]) -> str | None:
    """The required checks that failed, each with its detail, for people; None when none did."""
    failed = (each for each in results if each.required and not each.passed)
    return ", ".join(f"{each.name}: {each.detail}" if each.detail else each.name for each in failed) or None
