"""The life of an update, as one table.

Rules:

1. Everything that decides what an event leads to stands here, as data. The engine only does what the table says:
   *store the new state, do the effects in order, feed back the event that the last effect reports.*
2. An event that a state does not list is our own mistake (`LifecycleError`), and nothing changes.
3. Power may return in any state. So each state lists every boot event (`BOOT_EVENTS`).
4. The closing effects (`CLOSING`) store the end of a transaction themselves, and stand last: until then the record
   keeps the state before, so that a cut repeats the whole transition.
5. Each effect may be done twice. A cut between storing and doing repeats at most one of them.
6. The environment alone decides what boots and whether it is committed (S12). `classify_boot` turns what stands
   there into a boot event; the record's state only says what to do about it.

The diagram in docs/lifecycle.md is printed from this table.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from twinslot.core.errors import LifecycleError


class State(enum.StrEnum):
    """Where an update stands, as stored in the record."""

    IDLE = "idle"  # nothing is under way
    WRITING = "writing"  # the target is bad and being filled
    WRITTEN = "written"  # the target is complete and was read back; it still counts as bad
    CHECKING = "checking"  # the target is being read back before it is (re)activated
    ARMED = "armed"  # the next boot tries the target
    TRIAL = "trial"  # the new system runs, on trial
    COMMITTING = "committing"  # well; the commit write is under way
    LEAVING = "leaving"  # not well, or asked to go back; the next boot is the old system


class Event(enum.StrEnum):
    """What happened."""

    ACCEPTED = "accepted"  # a manifest was verified and accepted
    REVERT = "revert"  # somebody asked for the other, committed slot
    VERIFIED = "verified"  # the target was read back and is what was signed
    FAILED = "failed"  # an effect did not succeed
    CANCELLED = "cancelled"  # somebody asked to stop
    REPLACED = "replaced"  # a newer install was accepted and takes its place
    ACTIVATE = "activate"  # boot the target next; it was read back in this boot
    RECHECK = "recheck"  # boot the target next, but read it back first
    HEALTHY = "healthy"  # every required check passed, or somebody forced it
    UNHEALTHY = "unhealthy"  # a required check failed
    GO_BACK = "go-back"  # somebody asked to leave the trial
    COMMITTED = "committed"  # the commit write landed
    # Boot events: what a start of the client finds (boot_outcome.classify_boot)
    BOOTED_OLD = "booted-old"  # the old system runs and nothing points elsewhere
    BOOTED_NEW = "booted-new"  # the target runs and is not committed
    STILL_ARMED = "still-armed"  # the old system runs and the next boot tries the target
    ROLLED_BACK = "rolled-back"  # the old system runs because the target was left
    GIVEN_UP = "given-up"  # the target runs although it was given up: the reboot that belongs to it never came
    BOOTED_COMMITTED = "booted-committed"  # the target runs and the environment says that it is committed


class Effect(enum.StrEnum):
    """What the engine does. Each may be done twice."""

    PREPARE = "prepare"  # mark the target bad, settle, wipe its first group (S4, S5)
    WRITE = "write"  # groups, flush, read back, first group last -> VERIFIED
    CHECK_TARGET = "check-target"  # read the target back against its stored digests -> VERIFIED
    ABANDON = "abandon"  # close the transaction; the target stays bad
    ARM = "arm"  # the one write that makes the target next
    REBOOT = "reboot"  # if the caller or the policy wants it
    DISARM = "disarm"  # the next boot is the running system again; the target is bad
    COMMIT = "commit"  # the one write that keeps the target, then settle -> COMMITTED
    GIVE_UP = "give-up"  # the one write that leaves the target, then settle
    STOP_COUNTING = "stop-counting"  # the running slot is good; stop counting tries; settle
    CLOSE_COMMITTED = "close-committed"  # record what is now installed; migrate the record; report
    CLOSE_ROLLED_BACK = "close-rolled-back"  # record the reason and the failed release; report


BOOT_EVENTS: Final = frozenset(
    {
        Event.BOOTED_OLD,
        Event.BOOTED_NEW,
        Event.STILL_ARMED,
        Event.ROLLED_BACK,
        Event.GIVEN_UP,
        Event.BOOTED_COMMITTED,
    }
)

ON_TRIAL: Final = frozenset({State.TRIAL, State.COMMITTING, State.LEAVING})  # another slot is the way back (S7)

WAITING: Final = frozenset({State.WRITTEN, State.ARMED})  # what is not started yet waits in one of them

CLOSING: Final = frozenset({Effect.ABANDON, Effect.CLOSE_COMMITTED, Effect.CLOSE_ROLLED_BACK})

Transition = tuple[State, tuple[Effect, ...]]

_BACK: Final[Transition] = (State.IDLE, (Effect.STOP_COUNTING, Effect.CLOSE_ROLLED_BACK))
_KEPT: Final[Transition] = (State.IDLE, (Effect.CLOSE_COMMITTED,))
_LEAVE: Final[Transition] = (State.LEAVING, (Effect.GIVE_UP, Effect.REBOOT))
_DROP: Final[Transition] = (State.IDLE, (Effect.ABANDON,))
_AGAIN: Final[Transition] = (State.LEAVING, (Effect.REBOOT,))
_DISARM: Final[Transition] = (State.IDLE, (Effect.DISARM, Effect.ABANDON))

TABLE: Final[Mapping[State, Mapping[Event, Transition]]] = {
    State.IDLE: {
        Event.ACCEPTED: (State.WRITING, (Effect.PREPARE, Effect.WRITE)),
        Event.REVERT: (State.CHECKING, (Effect.CHECK_TARGET,)),
        Event.BOOTED_OLD: (State.IDLE, ()),
        Event.BOOTED_NEW: (State.TRIAL, ()),  # the record was lost during the trial
        Event.STILL_ARMED: (State.ARMED, ()),  # the record was lost after arming
        Event.ROLLED_BACK: _BACK,  # the record was lost before the rollback was told
        Event.GIVEN_UP: _AGAIN,
        Event.BOOTED_COMMITTED: (State.IDLE, ()),
    },
    State.WRITING: {
        Event.VERIFIED: (State.WRITTEN, ()),
        Event.FAILED: _DROP,
        Event.CANCELLED: _DROP,
        Event.BOOTED_OLD: _DROP,
        Event.BOOTED_NEW: _LEAVE,  # only a lost environment starts a target that was never armed
        Event.STILL_ARMED: _DISARM,
        Event.ROLLED_BACK: _BACK,
        Event.GIVEN_UP: _AGAIN,
        Event.BOOTED_COMMITTED: _KEPT,
    },
    State.WRITTEN: {
        Event.ACTIVATE: (State.ARMED, (Effect.ARM, Effect.REBOOT)),
        Event.RECHECK: (State.CHECKING, (Effect.CHECK_TARGET,)),
        Event.CANCELLED: _DROP,
        Event.REPLACED: _DROP,
        Event.BOOTED_OLD: (State.WRITTEN, ()),
        Event.BOOTED_NEW: _LEAVE,
        Event.STILL_ARMED: (State.ARMED, ()),
        Event.ROLLED_BACK: _BACK,
        Event.GIVEN_UP: _AGAIN,
        Event.BOOTED_COMMITTED: _KEPT,
    },
    State.CHECKING: {
        Event.VERIFIED: (State.ARMED, (Effect.ARM, Effect.REBOOT)),
        Event.FAILED: _DISARM,
        Event.CANCELLED: _DROP,
        Event.BOOTED_OLD: _DROP,
        Event.BOOTED_NEW: _LEAVE,
        Event.STILL_ARMED: (State.ARMED, ()),
        Event.ROLLED_BACK: _BACK,
        Event.GIVEN_UP: _AGAIN,
        Event.BOOTED_COMMITTED: _KEPT,
    },
    State.ARMED: {
        Event.FAILED: _DISARM,  # whether or not the arming write landed after all
        Event.CANCELLED: _DISARM,
        Event.REPLACED: _DISARM,
        Event.BOOTED_OLD: (State.WRITTEN, ()),  # the arming write was lost; the target is still whole
        Event.BOOTED_NEW: (State.TRIAL, ()),
        Event.STILL_ARMED: (State.ARMED, ()),
        Event.ROLLED_BACK: _BACK,
        Event.GIVEN_UP: _AGAIN,
        Event.BOOTED_COMMITTED: _KEPT,
    },
    State.TRIAL: {
        Event.HEALTHY: (State.COMMITTING, (Effect.COMMIT,)),
        Event.UNHEALTHY: _LEAVE,
        Event.GO_BACK: _LEAVE,
        Event.BOOTED_OLD: _BACK,
        Event.BOOTED_NEW: (State.TRIAL, ()),
        Event.STILL_ARMED: (State.ARMED, ()),
        Event.ROLLED_BACK: _BACK,
        Event.GIVEN_UP: _AGAIN,
        Event.BOOTED_COMMITTED: _KEPT,
    },
    State.COMMITTING: {
        Event.COMMITTED: _KEPT,
        Event.FAILED: (State.TRIAL, ()),  # still on trial; the deadline decides if nobody else does
        Event.BOOTED_OLD: _BACK,
        Event.BOOTED_NEW: (State.TRIAL, ()),
        Event.STILL_ARMED: (State.ARMED, ()),
        Event.ROLLED_BACK: _BACK,
        Event.GIVEN_UP: _AGAIN,
        Event.BOOTED_COMMITTED: _KEPT,
    },
    State.LEAVING: {
        Event.FAILED: (State.TRIAL, ()),  # the write did not land; tries or the deadline end the trial
        Event.BOOTED_OLD: _BACK,
        Event.BOOTED_NEW: _LEAVE,
        Event.STILL_ARMED: (State.IDLE, (Effect.DISARM, Effect.CLOSE_ROLLED_BACK)),
        Event.ROLLED_BACK: _BACK,
        Event.GIVEN_UP: _AGAIN,
        Event.BOOTED_COMMITTED: _KEPT,
    },
}


# keeps: S3, S7, S10
def step(state: State, event: Event) -> Transition:
    """What the event leads to.

    Raises:
        LifecycleError: The table does not list the event in this state; nothing may change.
    """
    try:
        return TABLE[state][event]
    except KeyError:
        raise LifecycleError(
            f"event '{event}' cannot happen in state '{state}'",
            code="event",
            expected=", ".join(TABLE[state]),
            found=event,
        ) from None
