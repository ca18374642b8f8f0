"""What the last poll left, held against this device: which release it would take, and what of it is recalled."""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import Final

from twinslot.config.options import Config
from twinslot.core.approvals import Reach, parse_approvals, reach_of
from twinslot.core.errors import TwinslotError
from twinslot.core.lifecycle import State
from twinslot.core.model import Release, SlotName, SlotState
from twinslot.core.offer import Choice, Offer, Offered, OfferFacts, choose, parse_offers
from twinslot.core.recall import Answer, Holding, OnRecall, Recall, answer_to, recall_of
from twinslot.core.waves import wave_time
from twinslot.engine.facts import Facts
from twinslot.engine.identity import device_id, first_line
from twinslot.repository.state import PollState, moment_of

_NONE: Final = '{"format":1,"offers":[]}'


def chosen(config: Config, facts: Facts, state: PollState, now: datetime) -> Choice:
    """Of all offers for the names of this device the one that it would take.

    Args:
        config: Of this device.
        facts: What is true of it.
        state: What the last poll left.
        now: By the device's notion of time (S16): a wave does not begin because a clock fell back. Where the repository
            was published later than that, it is as late for waves (`core.waves.wave_time`).
    """
    now = wave_time(now, moment_of(state.published))
    return choose(offered_to(config, state), _offer_facts(config, facts, state, now))


def offered_to(config: Config, state: PollState) -> Offered:
    """Offers and recalls for all names of this device; a document that was damaged since it was read says nothing."""
    offers: list[Offer] = []
    recalls: list[Recall] = []
    for name in config.device.compatible:
        with contextlib.suppress(TwinslotError):
            found = parse_offers(state.offers.get(name, _NONE).encode())
            offers += found.offers
            recalls += found.recalls
    return Offered(tuple(offers), tuple(recalls))


def recalls_here(config: Config, facts: Facts, state: PollState) -> dict[SlotName, tuple[Release, Recall]]:
    """The slots that hold, or are being given, a release that must not run."""
    recalls = offered_to(config, state).recalls
    held: dict[SlotName, Release] = {}
    for name in SlotName:
        if (known := facts.holds(name)) is not None:
            held[name] = known.release
    current = facts.record.current if facts.record else None
    if current is not None and current.state not in (State.IDLE, State.WRITING):
        held[current.target] = current.release
    found = {name: recall_of(recalls, release.sequence, release.manifest) for name, release in held.items()}
    return {name: (held[name], recall) for name, recall in found.items() if recall is not None}


# keeps: REQ-REP-08
def halt_of_waiting(config: Config, facts: Facts, state: PollState) -> str:
    """Why the release of the update that waits is halted; empty: none waits, or it is not."""
    waiting = facts.transaction if facts.under_way in (State.WRITTEN, State.ARMED) else None
    if waiting is None or waiting.kind != "install":
        return ""
    release = waiting.release
    for each in offered_to(config, state).offers:
        if each.halted and each.sequence == release.sequence and release.manifest in ("", each.manifest):
            return each.halted
    return ""


def _offer_facts(config: Config, facts: Facts, state: PollState, now: datetime) -> OfferFacts:
    floors = facts.floors
    known = facts.holds(facts.running) if facts.running else None
    approvals: dict[str, Reach] = {}
    for role, text in state.approvals.items():
        with contextlib.suppress(TwinslotError):  # as above
            approvals[role] = reach_of(parse_approvals(text.encode()))
    return OfferFacts(
        now,
        known.release.sequence if known else floors.sequence,
        floors.epoch,
        facts.failed,
        device_id(config),
        config.repository.ring,
        first_line(config.repository.network_class),
        config.repository.approved_by,
        approvals,
    )


def recall_answer(config: Config, facts: Facts, state: PollState, now: datetime) -> Answer:
    """What this device does by itself about the recalls that concern it."""
    recalls = recalls_here(config, facts, state)
    running = recalls.get(facts.running) if facts.running else None
    target = facts.transaction.target if facts.transaction else None
    back, choice = facts.way_back, chosen(config, facts, state, now)
    known = facts.holds(back)
    return answer_to(
        OnRecall(config.repository.on_recall),
        Holding(
            running=running[1] if running else None,
            on_trial=facts.on_trial,
            waits_recalled=facts.under_way in (State.WRITTEN, State.ARMED) and target in recalls,
            waits_halted=bool(halt_of_waiting(config, facts, state)),
            idle=facts.under_way is State.IDLE,
            back_is_good=bool(facts.state and back and facts.state.states[back] is SlotState.GOOD),
            back_recalled=back in recalls,
            back_failed=known is None or known.release.sequence in facts.failed,
            offered=choice.offer.sequence if choice.offer else 0,
            image=choice.offer.image if choice.offer else "",
            offer_waits=choice.why,
        ),
    )
