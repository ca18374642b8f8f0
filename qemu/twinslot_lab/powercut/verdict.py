"""Is it a brick? What booted against what was signed and what the environment said, and the record against both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from twinslot_lab.powercut.account import Account
from twinslot_lab.powercut.drive_state import DriveState
from twinslot_lab.powercut.recovery import NONSENSE, Recovery
from twinslot_lab.powercut.starting_point import Row
from twinslot_lab.release import Image

# Why an update may have ended in each story; an emulator on a busy machine may also miss the deadline.
REASONS = {
    "good": {"interrupted", "deadline"},
    "cold": {"interrupted", "deadline"},
    "bad": {"unhealthy", "bootlimit", "resets", "deadline"},
    "tries": {"bootlimit", "resets", "deadline"},
}


@dataclass(frozen=True, slots=True)
class SlotContents:
    """The signed images of a story: what each slot may hold."""

    a: Image
    b: Image

    def of(self, slot: str) -> Image:
        """What a slot holds once it is whole."""
        return self.b if slot == "b" else self.a

    @property
    def sizes(self) -> dict[str, int]:
        """Slot -> bytes of its image."""
        return {slot: self.of(slot).slot.stat().st_size for slot in ("a", "b")}


def problems(story: str, system: SlotContents, drive_state: DriveState, recovery: Recovery) -> list[str]:
    """Every reason to call it a brick, one sentence each; empty: none."""
    if not any(copy["good"] for copy in drive_state.copies):
        return ["both copies of the environment are lost"]
    if recovery.failure:
        return [f"it does not come to rest: {recovery.failure.splitlines()[0]}"]
    assert recovery.account is not None  # no failure
    if recovery.account.lost_data:
        return [f"the data partition is not in use: {recovery.account.lost_data}"]
    first, last = recovery.boots[0], recovery.boots[-1]
    found = list(_images(system, recovery))
    if first.slot != drive_state.slot:
        found.append(f"slot '{first.slot}' started, the environment says '{drive_state.slot}'")
    if len(recovery.boots) > 1 and (first.slot, last.slot) != ("b", "a"):
        found.append("it restarted by itself, and not to leave a trial")
    if drive_state.variables.get("slot_b") == "good" and last.slot == "a":  # the factory calls it bad
        found.append("the commit had landed, and slot a runs")
    try:
        found += _record(system, last.slot, recovery.account)
        found += _ending(story, system, last.slot, recovery.account)
    except NONSENSE as e:
        found.append(f"the client's account makes no sense: {e!r}")
    return found


def _images(system: SlotContents, recovery: Recovery) -> Iterator[str]:
    for boot in recovery.boots:
        if boot.digest not in ("", system.of(boot.slot).digest):
            yield f"slot '{boot.slot}' runs something that nobody signed: {boot.digest}"
    if not recovery.boots[-1].digest:
        yield "what runs at rest was not measured"


def _record(system: SlotContents, running: str, account: Account) -> Iterator[str]:
    """Record and environment agree with what runs."""
    status = account.status
    environment, slots = status["environment"] or {}, status["slots"]
    if status["running"] != running:
        yield f"the client says that slot '{status['running']}' runs, it is '{running}'"
    if not environment.get("settled"):
        yield "the copies of the environment are not settled"
    if slots[running]["state"] != "good":
        yield f"the running slot is '{slots[running]['state']}'"
    known = (slots[running]["release"] or {}).get("name")
    if known != system.of(running).release.name:
        yield f"the record has release '{known}' in the running slot"
    if not account.doctor["healthy"]:
        faults = [f["text"] for f in account.doctor["findings"] if f["severity"] == "fault"]
        yield f"the doctor finds: {'; '.join(faults)}"
    if not any(f["text"] == "the audit chain holds" for f in account.doctor["findings"]):
        yield "the audit chain does not hold"


def _ending(story: str, system: SlotContents, running: str, account: Account) -> Iterator[str]:
    """The newest update ended as what runs says."""
    last: Mapping[str, Any] = account.history[0] if account.history else {}
    outcome, state = last.get("outcome"), account.status["state"]
    other = account.status["slots"]["a" if running == "b" else "b"]["state"]
    if last and last["release"]["name"] != system.b.release.name:
        yield f"the newest update is one to {last['release']['name']}"
    elif running == "b":
        if outcome != "committed" or state != "idle" or other != "good":
            yield f"slot b runs, and the update's outcome is '{outcome}', state '{state}', the other slot '{other}'"
        if story in ("bad", "tries"):
            yield f"slot b was kept, in the story '{story}'"
    elif other in ("good", "trial"):
        yield f"slot a runs, and slot b is '{other}'"
    elif story in ("bad", "tries") and outcome != "rolled-back":  # it was on trial, and the record had been told
        yield f"slot a runs, and the trial's outcome is '{outcome}'"
    elif last and outcome is None and state != "written":
        yield f"the update is open in state '{state}'"
    elif outcome == "committed" or (outcome and last["reason"] not in REASONS[story]):
        yield f"slot a runs, and the update ended '{outcome}' because of '{last['reason']}'"


def ending(recovery: Recovery) -> str:
    """The outcome in a word or two, for the table."""
    account = recovery.account
    if account is None:
        return "none"
    if recovery.boots[-1].slot == "b":
        return "new committed"
    last = account.history[0] if account.history else {}
    if last.get("outcome") == "rolled-back":
        return "old, rolled back"
    return "old, waiting" if account.status["state"] == "written" else "old, as before"


def lost(known: tuple[Row, ...], account: Account | None) -> int:
    """How many rows of the audit chain that the guest had told are gone or changed."""
    return len(set(known) - set(account.rows)) if account else len(known)
