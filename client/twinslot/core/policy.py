"""May the next step of an update be done now? The device's own policy, the same for every caller. Pure.

Four gates, each asked by the engine in one place:

- FETCH, before anything of an image is read;
- WRITE, before the target is marked bad, by the environment as it stands then;
- ACTIVATE, before a target is armed. An armed device tries it at *any* reset, so an update that must wait waits here,
  as `written`;
- RESTART, before the client itself asks for a restart. One that must wait stays armed.

An update that has to wait at ACTIVATE or RESTART ends there, in a state from which it goes on later; a request that has
to wait at another gate is refused.

What stands against a step beside the update itself (the device is in use, no window is open, nobody has agreed, the
battery is low) is gathered by the edges as obstacles, and heeded here. Of a request to go back only what is true of the
device counts, not what was arranged for updates; a system that is being left by the nets of its trial heeds nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from twinslot.core.errors import Refusal
from twinslot.core.lifecycle import State
from twinslot.core.model import SlotName


class Gate(enum.StrEnum):
    """A step that policy may hold back."""

    FETCH = "fetch"
    WRITE = "write"
    ACTIVATE = "activate"
    RESTART = "restart"


class ObstacleKind(enum.StrEnum):
    """What an obstacle is about."""

    IN_USE = "in-use"  # the product says that somebody depends on the device (S20)
    CONDITION = "condition"  # power, network, room
    WINDOW = "window"  # the time that was arranged
    CONSENT = "consent"  # nobody has agreed yet, or somebody holds it


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Something that stands against a step for now.

    Attributes:
        kind: What it is about.
        why: For whoever asks.
        until: When it goes by itself; None: that is not known.
    """

    kind: ObstacleKind
    why: Refusal
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Wish:
    """What the caller asked for.

    Attributes:
        remote: The image comes over a network.
        outside_window: A person does not want to wait for a window; of one request, and kept nowhere.
        activate: Arm the target.
        restart: Restart once it is armed, or left; None: as local configuration says.
        revert: The target is the other slot's committed release, not one that was just written.
    """

    activate: bool = True
    restart: bool | None = None
    revert: bool = False
    remote: bool = False
    outside_window: bool = False


@dataclass(frozen=True, slots=True)
class Question:
    """What the edges need to know to gather obstacles.

    Attributes:
        gate: Before which step.
        wish: What the caller asked for.
        release: Name of the release that the step is about; empty: not known.
        change: What kind of change it is, as its manifest says (`core.manifest.TYPES`); empty: not known.
        proven: When the way back was last read whole, ISO 8601; empty: it is not proven.
        verified: The date that was verified last, ISO 8601: the clock cannot be before it. Empty: none was.
    """

    gate: Gate
    wish: Wish
    release: str = ""
    change: str = ""
    verified: str = ""
    proven: str = ""


@dataclass(frozen=True, slots=True)
class PolicyFacts:
    """What policy goes by.

    Attributes:
        running: The slot that runs.
        on_trial: It is on trial or given up, so that `way_back` is needed (S7).
        way_back: Where it goes back to.
        under_way: Where the open update stands.
        restarts: Local configuration wants a restart into the trial: `install.reboot`.
        obstacles: What stands against this step.
    """

    running: SlotName
    on_trial: bool
    way_back: SlotName
    under_way: State
    restarts: bool
    obstacles: tuple[Obstacle, ...] = ()


@dataclass(frozen=True, slots=True)
class Go:
    """The step may be done."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Not now, and nothing is wrong.

    Attributes:
        why: Every reason.
        until: When it may go on by itself; None: that is not known.
        passes: What it waits for may pass by itself, so that it is worth to ask again.
    """

    why: tuple[Refusal, ...]
    until: datetime | None = None
    passes: bool = False


@dataclass(frozen=True, slots=True)
class Refuse:
    """Not as things stand."""

    why: Refusal


Verdict: TypeAlias = Go | Wait | Refuse


# keeps: S7, S20
def decide(gate: Gate, wish: Wish, facts: PolicyFacts) -> Verdict:
    """Whether the step behind this gate may be done."""
    verdict = _RULES[gate](wish, facts)
    heeded = [each for each in facts.obstacles if each.kind in _heeded(wish, facts)]
    if not isinstance(verdict, Go) or not heeded:
        return verdict
    ends = [each.until for each in heeded]
    until = None if None in ends else max(end for end in ends if end)
    return Wait(tuple(each.why for each in heeded), until, passes=True)


# keeps: REQ-POL-06
def _heeded(wish: Wish, facts: PolicyFacts) -> frozenset[ObstacleKind]:
    if facts.under_way is State.LEAVING:
        return frozenset()
    if wish.revert:
        return _OF_THE_DEVICE
    return frozenset(ObstacleKind) - ({ObstacleKind.WINDOW} if wish.outside_window else frozenset())


_OF_THE_DEVICE: Final = frozenset({ObstacleKind.IN_USE, ObstacleKind.CONDITION})


def _unless_on_trial(_: Wish, facts: PolicyFacts) -> Verdict:
    """The other slot is what the device goes back to (S7): nothing is written there, so nothing is fetched."""
    if not facts.on_trial:
        return Go()
    what = f"slot '{facts.running}' is on trial and slot '{facts.way_back}' is the way back"
    return Refuse(
        Refusal("on-trial", what, hint="wait for the commit, or use 'twinslot commit' or 'twinslot rollback'")
    )


def _activate(wish: Wish, facts: PolicyFacts) -> Verdict:
    if wish.revert and facts.under_way is not State.IDLE:
        return Refuse(Refusal("busy", "an update is under way", found=facts.under_way, hint="see 'twinslot status'"))
    if not wish.revert and facts.under_way is not State.WRITTEN:
        return Refuse(Refusal("nothing-written", "nothing to activate", hint="see 'twinslot status'"))
    if not wish.activate:
        return Wait(
            (Refusal("not-activated", "the update is written and not activated", hint="'twinslot activate' does it"),)
        )
    return Go()


def _restart(wish: Wish, facts: PolicyFacts) -> Verdict:
    """The nets of a trial restart unless an operator said that he does it: a system that was left must not run on."""
    unsaid = facts.restarts or facts.under_way is State.LEAVING
    if unsaid if wish.restart is None else wish.restart:
        return Go()
    return Wait((Refusal("not-restarted", "the next restart starts the other slot", hint="restart the device"),))


_RULES: Final[Mapping[Gate, Callable[[Wish, PolicyFacts], Verdict]]] = {
    Gate.FETCH: _unless_on_trial,
    Gate.WRITE: _unless_on_trial,
    Gate.ACTIVATE: _activate,
    Gate.RESTART: _restart,
}
