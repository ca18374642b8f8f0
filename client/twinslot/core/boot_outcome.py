"""What a start of the client finds, turned into one boot event (S12).

The running slot is known from the root mount (S1); the environment was read raw. Both are facts; the record is only
asked which transaction they belong to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from twinslot.core.boot_variables import BootState
from twinslot.core.lifecycle import Event
from twinslot.core.model import UBOOT, LoaderTraits, Reason, SlotName, SlotState

BOOT_LIMIT: Final = 3  # bootlimit of the boot contract


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


# keeps: S3, S12, S13
def classify_boot(
    facts: BootFacts,
    target: SlotName | None,
    transaction: str,
    traits: LoaderTraits = UBOOT,
    armed_in: str = "",
) -> Event:
    """Which boot event the facts amount to.

    Args:
        facts: What is certain.
        target: Target of the open transaction; None when the record knows of none.
        transaction: Its id; empty when there is none.
        traits: What the boot loader does by itself: with one that changes no variable, a trial that is over looks in
            the environment as one that is still to come.
        armed_in: Boot id of the boot in which the target was armed; empty when it is not known.
    """
    env = facts.environment
    if env is None:
        return Event.BOOTED_NEW if facts.running is target else Event.BOOTED_OLD
    if env.states[facts.running] is SlotState.BAD and env.slot is not facts.running:
        return Event.GIVEN_UP
    if env.on_trial(facts.running):
        return Event.BOOTED_NEW
    if facts.running is target:
        return Event.BOOTED_COMMITTED if _kept(env, facts.running) else Event.BOOTED_NEW
    if env.trial is not None:
        return Event.ROLLED_BACK if _passed(facts, traits, armed_in) else Event.STILL_ARMED
    if _left(env, transaction) or (env.ended_untold and not traits.tells_reason):
        return Event.ROLLED_BACK
    return Event.BOOTED_OLD


def _kept(env: BootState, running: SlotName) -> bool:
    return env.states[running] is SlotState.GOOD and not env.counting


def _left(env: BootState, transaction: str) -> bool:
    """A reason stands there and tries are still being counted: nobody has told the story yet."""
    return bool(env.reason) and (env.counting or (bool(transaction) and env.transaction == transaction))


def _passed(facts: BootFacts, traits: LoaderTraits, armed_in: str) -> bool:
    """The variables say that the target is next, and its one try is over: the old system came up by a later reset.

    Where the record is lost nobody knows in which boot it was armed. Then it counts as over, since the other mistake
    would wait for ever, or try a sick release again (S13).
    """
    return not traits.hands_over and armed_in != facts.boot_id


def why_left(env: BootState, traits: LoaderTraits, stored: str, boots: int) -> str:
    """The reason why a slot on trial was left, also when its boot loader does not say it.

    Args:
        env: What stands in the environment.
        traits: What the boot loader does by itself.
        stored: The reason in the record; empty when there is none.
        boots: Starts of the trial in which the client came up.
    """
    innocent = boots >= (BOOT_LIMIT if traits.counts else 1)
    if env.reason == Reason.BOOTLIMIT and innocent:
        return Reason.RESETS
    if env.reason or stored:
        return env.reason or stored
    if not env.ended_untold or (traits.hands_over and traits.tells_reason):
        return Reason.ENVIRONMENT
    return Reason.RESETS if innocent else Reason.NOT_BOOTED


# keeps: S12
def disagreements(facts: BootFacts, target: SlotName | None, traits: LoaderTraits = UBOOT) -> tuple[str, ...]:
    """Sentences for the audit: where the environment and what runs contradict each other or the record."""
    env = facts.environment
    if env is None:
        what = "both copies of the boot environment are" if traits.copies > 1 else "the boot environment is"
        return (f"{what} lost",)
    found = []
    if env.states[facts.running] is SlotState.BAD:
        found.append(f"slot '{facts.running}' runs although the environment calls it bad")
    if env.slot is not facts.running and env.trial is None and not env.on_trial(facts.running):
        found.append(f"slot '{facts.running}' runs although the environment chose '{env.slot}'")
    if env.trial is not None and target is not None and env.trial is not target:
        found.append(f"slot '{env.trial}' is on trial, the record expected '{target}'")
    if env.trial is not None and target is None:
        found.append(f"slot '{env.trial}' is on trial, the record knows of no transaction")
    return tuple(found)
