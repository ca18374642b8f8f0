"""Recalls: a signed list of releases that must not run, and what a device that has one does. Pure.

They stand in the document of the offers (core/offer.py), under `recalls`:

    {"name": "2026.10", "reason": "alarm too quiet", "sequence": 10}

and, where it is so: `manifest` (only the release with this digest; without it every one of this sequence), `successor`
(the sequence of the release that takes its place). Like an offer a recall is a hint: it makes a device say what it
runs, and lets it go back or take the successor where its own configuration says so (`repository.on_recall`); floors,
signatures and policy hold for that as for every other change (S21).
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from twinslot.core.fields import Fields, form
from twinslot.core.manifest import RELEASE_NAME, SEQUENCE_MAX

RECALLS_MAX: Final = 256
_REASON = form(r"[^\x00-\x1f\x7f]{1,200}", "one line of text")


class OnRecall(enum.StrEnum):
    """What the device does by itself once what it runs is recalled; the words of `repository.on_recall`."""

    TELL = "tell"
    BACK = "back"
    SUCCESSOR = "successor"


@dataclass(frozen=True, slots=True)
class Recall:
    """One release that must not run.

    Attributes:
        name: For people.
        sequence: Of the release.
        reason: Why, in one line.
        manifest: Digest of the manifest; empty: every release of this sequence.
        successor: Sequence of the release that takes its place; 0: none is named.
    """

    name: str
    sequence: int
    reason: str
    manifest: str = ""
    successor: int = 0


def parse_recalls(values: Sequence[object], section: str) -> tuple[Recall, ...]:
    """Read the list.

    Raises:
        ImageError: `image.<section>`.
    """
    return tuple(_recall(value, section) for value in values)


def _recall(value: object, section: str) -> Recall:
    optional = ("manifest", "successor")
    fields = Fields(value, "recalls", ("name", "reason", "sequence"), section, optional, extensible=True)
    sequence = fields.integer("sequence", 1, SEQUENCE_MAX)
    return Recall(
        name=fields.text("name", RELEASE_NAME),
        sequence=sequence,
        reason=fields.text("reason", _REASON),
        manifest=fields.digest("manifest") if fields.has("manifest") else "",
        successor=fields.integer("successor", 1, SEQUENCE_MAX) if fields.has("successor") else 0,
    )


def recall_of(recalls: Sequence[Recall], sequence: int, manifest: str = "") -> Recall | None:
    """The recall of a release; None: it is not recalled.

    Args:
        recalls: The list.
        sequence: Of the release.
        manifest: Digest of its manifest; empty: not known, so the sequence alone decides.
    """
    for each in recalls:
        if each.sequence == sequence and (not each.manifest or not manifest or each.manifest == manifest):
            return each
    return None


class Action(enum.StrEnum):
    """What is done about a recall."""

    NOTHING = "nothing"
    CANCEL = "cancel"
    BACK = "back"
    INSTALL = "install"


@dataclass(frozen=True, slots=True)
class Holding:
    """What is true of a device with a recalled release.

    Attributes:
        running: The recall of the release that runs; None: another one is recalled.
        on_trial: What runs is on trial.
        waits_recalled: An update was written or armed and waits, and its release is recalled.
        waits_halted: The same, and its release is halted.
        idle: No update is under way.
        back_is_good: There is a committed release to go back to.
        back_recalled: Which is recalled itself.
        back_failed: Which is not known, or rolled back here before (S13).
        offered: Sequence of the release that the device would take; 0: none.
        image: Its path below the repository's address.
        offer_waits: Why not now; empty: now.
    """

    running: Recall | None
    on_trial: bool = False
    waits_recalled: bool = False
    waits_halted: bool = False
    idle: bool = True
    back_is_good: bool = False
    back_recalled: bool = False
    back_failed: bool = False
    offered: int = 0
    image: str = ""
    offer_waits: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is done, and where nothing is although policy asks for it, why.

    Attributes:
        action: What.
        image: Path of the image below the repository's address, for an install.
        why_not: Why nothing is done; empty: something is, or policy asks for nothing.
    """

    action: Action
    image: str = ""
    why_not: str = ""


# keeps: REQ-REP-02
def answer_to(policy: OnRecall, holding: Holding) -> Answer:
    """What this device does by itself. It never goes to a release that is recalled or that rolled back here.

    Args:
        policy: Of this device; a recall alone changes nothing of what runs. What waits and must not be taken any more
            is dropped in any case, since it would start by itself.
        holding: What is true of it.
    """
    if holding.waits_recalled or holding.waits_halted:
        return Answer(Action.CANCEL)
    if policy is OnRecall.TELL:
        return Answer(Action.NOTHING)
    if holding.running is None:
        return Answer(Action.NOTHING)
    if holding.on_trial:
        return Answer(Action.BACK)
    if not holding.idle:
        return Answer(Action.NOTHING, why_not="another update is under way")
    return _successor(holding, holding.running) if policy is OnRecall.SUCCESSOR else _back(holding)


def _back(holding: Holding) -> Answer:
    if not holding.back_is_good:
        return Answer(Action.NOTHING, why_not="the other slot holds no committed release")
    if holding.back_recalled:
        return Answer(Action.NOTHING, why_not="the release in the other slot is recalled, too")
    if holding.back_failed:
        return Answer(Action.NOTHING, why_not="the release in the other slot is not known, or rolled back here before")
    return Answer(Action.BACK)


def _successor(holding: Holding, recall: Recall) -> Answer:
    if not recall.successor:
        return Answer(Action.NOTHING, why_not="the recall names no successor")
    if holding.offered < recall.successor:
        return Answer(Action.NOTHING, why_not="the successor is not offered to this device")
    if holding.offer_waits:
        return Answer(Action.NOTHING, why_not=holding.offer_waits)
    return Answer(Action.INSTALL, image=holding.image)
