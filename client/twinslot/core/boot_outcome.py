"""What a start of the client finds, turned into one boot event (S12).

The running slot is known from the root mount (S1); the environment was read raw. Both are facts; the record is only
asked which transaction they belong to.
"""

from __future__ import annotations

from dataclasses import dataclass

from twinslot.core.boot_variables import BootState
from twinslot.core.lifecycle import Event
from twinslot.core.model import SlotName, SlotState


@dataclass(frozen=True, slots=True)
class BootFacts:
    """What is certain after a start.

    Attributes:
        running: Slot whose partition holds the root file system.
        boot_id: The kernel's random id of this boot (/proc/sys/kernel/random/boot_id).
        environment: The current copy, typed; None when both copies are lost.
    """

    running: SlotName
    boot_id: str
    environment: BootState | None


def classify_boot(facts: BootFacts, target: SlotName | None, transaction: str) -> Event:
    """Which boot event the facts amount to.

    Args:
        facts: What is certain.
        target: Target of the open transaction; None when the record knows of none.
        transaction: Its id; empty when there is none.
    """
    env = facts.environment
    if env is None:
        return Event.BOOTED_NEW if facts.running is target else Event.BOOTED_OLD
    if env.states[facts.running] is SlotState.BAD and env.slot is facts.running.other:
        return Event.GIVEN_UP
    if env.trial is facts.running:
        return Event.BOOTED_NEW
    if facts.running is target:
        return Event.BOOTED_COMMITTED if _kept(env, facts.running) else Event.BOOTED_NEW
    if env.trial is not None:
        return Event.STILL_ARMED
    return Event.ROLLED_BACK if _left(env, transaction) else Event.BOOTED_OLD


def _kept(env: BootState, running: SlotName) -> bool:
    return env.states[running] is SlotState.GOOD and not env.counting


def _left(env: BootState, transaction: str) -> bool:
    """A reason stands there and tries are still being counted: nobody has told the story yet."""
    return bool(env.reason) and (env.counting or (bool(transaction) and env.transaction == transaction))


def disagreements(facts: BootFacts, target: SlotName | None) -> tuple[str, ...]:
    """Sentences for the audit: where the environment and what runs contradict each other or the record."""
    env = facts.environment
    if env is None:
        return ("both copies of the boot environment are lost",)
    found = []
    if env.states[facts.running] is SlotState.BAD:
        found.append(f"slot '{facts.running}' runs although the environment calls it bad")
    if env.slot is not facts.running and env.trial is None:
        found.append(f"slot '{facts.running}' runs although the environment chose '{env.slot}'")
    if env.trial is not None and target is not None and env.trial is not target:
        found.append(f"slot '{env.trial}' is on trial, the record expected '{target}'")
    if env.trial is not None and target is None:
        found.append(f"slot '{env.trial}' is on trial, the record knows of no transaction")
    return tuple(found)
