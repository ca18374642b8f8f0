"""One update from acceptance to its outcome, as the record stores it."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from typing import Any, Final

from twinslot.core import stored
from twinslot.core.lifecycle import State
from twinslot.core.model import CheckResult, Floors, Release, SlotName, StoredPayload
from twinslot.core.origin import NOBODY, Origin
from twinslot.core.slotset import slots_from
from twinslot.core.stored import Kept

BYTES: Final = ("fetched", "written", "copied", "skipped", "zeroed")  # how bytes come and go; see `bytes_*`


class Outcome(enum.StrEnum):
    """How a transaction ended."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled-back"
    ABANDONED = "abandoned"


@dataclass(frozen=True, slots=True)
class Transaction(Kept):
    """All that is known of one update. Saved before each effect, so it survives a power cut at any instant.

    Attributes:
        id: 32 random hex digits; also in the boot environment (`ts_txn`).
        state: Where it stands.
        target: The slot being filled or tried.
        release: What the target will hold.
        floors: What the floors become at commit.
        payloads: The target's payloads with their digests, for later read-backs.
        kind: `install`, or `rollback` for a committed slot that is tried again.
        boot_id: Boot in which the target was last read back; activation in a later boot reads back first.
        boots: Boot ids of the trial so far, with how far each came (`kernel`, `client`, `checks`).
        checks: Health results of the last run.
        required_checks: Checks that the manifest asks for, by name.
        bytes_fetched: Bytes over the wire or from the file, so far.
        bytes_written: Bytes written to the target, so far.
        bytes_copied: Of those: taken from a slot of this device.
        bytes_skipped: Bytes that the target held in their place already, and that were not written.
        bytes_zeroed: Bytes of all-zero groups, which the kernel was asked to make.
        unused: What would have saved a part of the download (`patch`, `block list`, `ranges`), and why it did not.
        seconds: Wall seconds by phase.
        started: UTC time by the device's clock, ISO 8601; for people only (S16).
        ended: As `started`; empty while open.
        outcome: How it ended; None while open.
        reason: Why it did not commit; empty when it did.
        origin: Who asked for it (S19).
        change: What kind of change the release is, as its manifest says; empty: not known.
        activate: It is to be armed once policy lets it.
        restart: The device is to restart into it once policy lets it; None: as local configuration says.
        armed: It was made the next thing to boot at least once; only then can a failure be held against its release.
        forced: Somebody overrode a check; who and what is in the audit.
    """

    id: str
    state: State
    target: SlotName
    release: Release
    floors: Floors = field(default_factory=Floors)
    payloads: dict[str, StoredPayload] = field(default_factory=dict)
    kind: str = "install"
    boot_id: str = ""
    boots: dict[str, str] = field(default_factory=dict)
    checks: tuple[CheckResult, ...] = ()
    required_checks: tuple[str, ...] = ()
    bytes_fetched: int = 0
    bytes_written: int = 0
    bytes_copied: int = 0
    bytes_skipped: int = 0
    bytes_zeroed: int = 0
    unused: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    started: str = ""
    ended: str = ""
    outcome: Outcome | None = None
    reason: str = ""
    forced: bool = False
    armed: bool = False
    change: str = ""
    activate: bool = False
    restart: bool | None = None
    origin: Origin = NOBODY

    @property
    def source(self) -> SlotName:
        """The slot that ran when the transaction began, as far as two slots tell."""
        return slots_from(self.target).back()

    @property
    def moved(self) -> dict[str, int]:
        """Bytes by how they came and went."""
        return {name: getattr(self, f"bytes_{name}") for name in BYTES}

    def with_seconds(self, phase: str, seconds: float) -> Transaction:
        """The same with time added to one phase, rounded to milliseconds."""
        total = round(self.seconds.get(phase, 0.0) + seconds, 3)
        return replace(self, seconds=self.seconds | {phase: total})

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, the same shape in the record, in `--json` and on D-Bus; with what a newer client wrote (S18)."""
        return stored.write(self)

    @staticmethod
    def from_dict(data: object) -> Transaction:
        """Rebuild from `as_dict`, of this client or of another.

        Raises:
            ValueError: It is damaged.
        """
        return stored.read(Transaction, data)

    # keeps: S18
    def in_known_state(self) -> Transaction:
        """The same in a state of this version's table.

        A state that only a newer client has counts as `trial` if the target was ever armed, else as `checking`: in both
        rows the boot environment decides what becomes of it, and a target that was never armed is not kept.
        """
        if stored.is_known(self.state):
            return self
        return replace(self, state=State.TRIAL if self.armed else State.CHECKING)
