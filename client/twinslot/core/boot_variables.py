"""The boot environment's variables as decisions (docs/boot-contract.md sections 2 and 3).

`BootState` reads the variables; each function below is one decision and returns the variables that change, for one
redundant write. Nothing here touches a device.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

from twinslot.core.audit_chain import ChainEnd
from twinslot.core.model import Floors, Reason, Release, SlotName, SlotState
from twinslot.core.slotset import slots_from

Changes = dict[str, str]


@dataclass(frozen=True, slots=True)
class BootState:
    """The contract's variables, typed. A variable that is missing or malformed takes its safest reading.

    Attributes:
        slot: The slot that the script starts next.
        states: What is known of each slot; unreadable means bad.
        counting: Tries are counted (`upgrade_available`).
        bootcount: Tries so far.
        generation: Number of client decisions; 0 means U-Boot's built-in default.
        transaction: Id of the transaction that decided last.
        trial_sequence: Release sequence of the image on trial; None when none is.
        trial_epoch: Its security epoch, so that the floor rises even when the record is lost.
        floors: As kept by the environment.
        failed_sequence: Release that last rolled back here (S13); None: none.
        reason: Why a slot was left; empty: nothing happened since the last decision.
        back: Where the slot that was armed last goes back to, as it is written; empty in an environment of before.
        retired: The device was taken out of service: no update is taken any more.
        anchor: Where the audit ended when the client decided last (S25); None in an environment of before.
    """

    slot: SlotName
    states: Mapping[SlotName, SlotState]
    counting: bool
    bootcount: int
    generation: int
    transaction: str
    trial_sequence: int | None
    trial_epoch: int
    floors: Floors
    failed_sequence: int | None
    reason: str
    back: str = ""
    anchor: ChainEnd | None = None
    retired: bool = False

    @property
    def trial(self) -> SlotName | None:
        """The slot on trial, if the script would start one."""
        return self.slot if self.on_trial(self.slot) else None

    def on_trial(self, slot: SlotName) -> bool:
        """Whether this slot, if it runs, is on trial: also where the boot loader has moved `slot` back already."""
        return self.counting and self.states[slot] is SlotState.TRIAL

    @property
    def ended_untold(self) -> bool:
        """The arming write stands and nothing says how the trial ended: only sense if the old system is up again."""
        return self.trial_sequence is not None and not self.reason

    def way_back(self, slot: SlotName) -> SlotName:
        """Where this slot, when it is left, goes back to."""
        return slots_from(slot).back(self.back)

    # keeps: S7
    def is_kept(self, running: SlotName) -> bool:
        """Whether this slot, which runs, is neither on trial nor given up: only then the others may change (S7)."""
        return not self.on_trial(running) and self.states[running] is not SlotState.BAD


def read_state(variables: Mapping[str, str]) -> BootState:
    """Type the variables of the current copy."""
    return BootState(
        slot=next((name for name in SlotName if name == variables.get("slot")), next(iter(SlotName))),
        states={name: _slot_state(variables.get(f"slot_{name}", "")) for name in SlotName},
        counting=variables.get("upgrade_available") == "1",
        bootcount=_number(variables.get("bootcount")) or 0,
        generation=_number(variables.get("ts_generation")) or 0,
        transaction=variables.get("ts_txn", ""),
        trial_sequence=_number(variables.get("ts_release")),
        trial_epoch=_number(variables.get("ts_release_epoch")) or 0,
        floors=Floors(
            _number(variables.get("ts_sequence")) or 0,
            _number(variables.get("ts_epoch")) or 0,
            _number(variables.get("ts_root")) or 1,
        ),
        failed_sequence=_number(variables.get("ts_failed")),
        reason=variables.get("ts_reason", ""),
        back=variables.get("ts_back", ""),
        anchor=ChainEnd.parse(variables.get("ts_audit", "")),
        retired=variables.get("ts_retired") == "1",
    )


def prepare(state: BootState, target: SlotName, transaction: str) -> Changes:
    """Before the target's first byte changes: it no longer counts as bootable (S5)."""
    return _decision(state, transaction) | {f"slot_{target}": SlotState.BAD} | _NO_TRIAL


# keeps: S4
def arm(state: BootState, target: SlotName, transaction: str, release: Release, back: SlotName) -> Changes:
    """Start the target on trial at the next boot; `back` is the slot that runs now, where a failed trial ends."""
    return _decision(state, transaction) | {
        "slot": target,
        f"slot_{target}": SlotState.TRIAL,
        "upgrade_available": "1",
        "bootcount": "0",
        "ts_release": str(release.sequence),
        "ts_release_epoch": str(release.epoch),
        "ts_back": back,
        "ts_reason": "",
    }


# keeps: S4, S8
def commit(
    state: BootState,
    target: SlotName,
    transaction: str,
    floors: Floors,
    epochs: Mapping[SlotName, int],
    kept: int,
) -> Changes:
    """Keep the target and raise the floors (S8), all in one write.

    Args:
        state: What stands in the environment.
        target: The slot on trial.
        transaction: Its transaction.
        kept: Sequence of the release that is kept; a failure of it is forgiven.
        floors: The new floors; never lower than those that stand.
        epochs: Security epoch of each other slot's release. One below the floor turns bad; one that is not known does
            so when the floor rises.
    """
    raised = state.floors.highest(floors)
    changes = _decision(state, transaction) | _quiet() | _floors(raised)
    changes |= {"slot": target, f"slot_{target}": SlotState.GOOD}
    changes |= _NO_TRIAL
    if state.failed_sequence == kept:
        changes["ts_failed"] = ""
    for name in slots_from(target).others:
        epoch = epochs.get(name)
        if raised.epoch > state.floors.epoch if epoch is None else epoch < raised.epoch:
            changes[f"slot_{name}"] = SlotState.BAD
    return changes


# keeps: S13
def give_up(state: BootState, target: SlotName, transaction: str, failed: int | None, reason: str) -> Changes:
    """Leave the target for good and start the slot that it came from, counting its tries.

    Args:
        state: What stands in the environment.
        target: The slot to leave.
        transaction: Its transaction.
        failed: Release to hold it against; None when it was never tried.
        reason: Why; never empty.
    """
    changes = _decision(state, transaction) | {
        "slot": state.way_back(target),
        f"slot_{target}": SlotState.BAD,
        "upgrade_available": "1",
        "bootcount": "0",
        "ts_reason": reason,
    }
    return changes if failed is None else changes | {"ts_failed": str(failed)}


def disarm(state: BootState, target: SlotName, running: SlotName, transaction: str, *, whole: bool) -> Changes:
    """The running slot boots again; the target was armed but never tried, so nothing is held against its release.

    Args:
        state: What stands in the environment.
        target: The slot that was armed.
        running: The slot that runs.
        transaction: Its transaction.
        whole: It holds a committed release that was just read back: it stays good.
    """
    kept = {f"slot_{target}": SlotState.GOOD} if whole else {}
    return prepare(state, target, transaction) | _quiet() | {"slot": running} | kept


# keeps: S13
def stop_counting(state: BootState, running: SlotName, transaction: str, reason: str = "") -> Changes:
    """The running slot came up after a rollback or a loss: keep it, stop counting. The reason stays for readers.

    A trial that ended without a word (`BootState.ended_untold`) is told in the same write: its slot is bad from now on,
    its release has failed (S13), and this is why.
    """
    changes = _decision(state, transaction) | _quiet() | {"slot": running, f"slot_{running}": SlotState.GOOD}
    if not state.ended_untold:
        return changes
    left = [name for name in slots_from(running).others if state.states[name] is SlotState.TRIAL]
    told = {"ts_failed": str(state.trial_sequence), "ts_reason": reason or Reason.NOT_BOOTED}
    return changes | {f"slot_{name}": SlotState.BAD for name in left} | told


# keeps: S8
def catch_up(state: BootState, generation: int, floors: Floors) -> Changes:
    """The environment is older than the record: no floor stays below the record's (S8), and it counts as the newest.

    Args:
        state: What stands in the environment.
        generation: The highest that the record saw.
        floors: As the record has them.
    """
    return {"ts_generation": str(max(state.generation, generation) + 1)} | _floors(state.floors.highest(floors))


def rebuild(
    running: SlotName,
    others: SlotState,
    transaction: str,
    generation: int,
    floors: Floors,
    *,
    trial: Release | None,
    failed: int | None,
) -> Changes:
    """Both copies were lost: everything anew, from the record and from the slot that really runs.

    Args:
        running: The slot that runs; it becomes good, or stays on trial when `trial` is its release.
        others: State of every other slot, bad unless the record vouches for it.
        transaction: The open or last transaction; empty when there is none.
        generation: Higher than any that the record saw.
        floors: As the record has them.
        trial: Its release when the running slot is still on trial.
        failed: Release that last rolled back here.
    """
    state = SlotState.GOOD if trial is None else SlotState.TRIAL
    quiet = _quiet() if trial is None else {"upgrade_available": "1", "bootcount": "1"}
    return (
        quiet
        | _floors(floors)
        | {
            "slot": running,
            f"slot_{running}": state,
            **{f"slot_{name}": others for name in slots_from(running).others},
            "ts_generation": str(generation),
            "ts_txn": transaction,
            "ts_release": "" if trial is None else str(trial.sequence),
            "ts_release_epoch": "" if trial is None else str(trial.epoch),
            "ts_back": "" if trial is None else slots_from(running).back(),
            "ts_failed": "" if failed is None else str(failed),
            "ts_reason": "",
        }
    )


# keeps: REQ-AUD-04
def retire(state: BootState) -> Changes:
    """The device takes no update any more; what runs goes on to start."""
    return _decision(state, state.transaction) | {"ts_retired": "1"}


# keeps: S25
def anchored(changes: Mapping[str, str], end: ChainEnd) -> Changes:
    """A decision, and in the same write where the audit ends: rows up to there cannot be dropped unnoticed (S25)."""
    return {"ts_audit": end.text, **changes}


def _decision(state: BootState, transaction: str) -> Changes:
    return {"ts_generation": str(state.generation + 1), "ts_txn": transaction}


def _quiet() -> Changes:
    return {"upgrade_available": "0", "bootcount": "0"}


def _floors(floors: Floors) -> Changes:
    return {"ts_sequence": str(floors.sequence), "ts_epoch": str(floors.epoch), "ts_root": str(floors.root)}


_NO_TRIAL: Changes = {"ts_release": "", "ts_release_epoch": "", "ts_reason": ""}


def _slot_state(text: str) -> SlotState:
    with contextlib.suppress(ValueError):
        return SlotState(text)
    return SlotState.BAD


def _number(text: str | None) -> int | None:
    """Decimal digits only, at most 20 (U64): what U-Boot and the client write."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= 20 else None
