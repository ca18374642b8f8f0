"""What the repository has for this device, from what the last poll left. Changes nothing, asks nobody."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from twinslot.config.options import Config
from twinslot.core import stored
from twinslot.core.offer import Choice
from twinslot.engine.facts import View
from twinslot.engine.offered import chosen, halt_of_waiting, recall_answer, recalls_here
from twinslot.engine.trust_time import trust_time
from twinslot.repository.state import PollState, describe_poll, moment_of, place_of_images, read_state


def repository_status(config: Config, view: View) -> dict[str, Any]:
    """For `status`, JSON-ready."""
    state = poll_state(config)
    verified = view.record.document("verified-date") if view.record else None
    now = trust_time(config, verified).reference
    choice = chosen(config, view.facts, state, now)
    offer = choice.offer
    told = None
    if offer is not None:
        told = {
            "release": {"name": offer.name, "sequence": offer.sequence, "epoch": offer.epoch},
            "image": f"{place_of_images(state)}/{offer.image}",
            "size": offer.size,
            "manifest": offer.manifest,
            "start": f"{choice.start:%Y-%m-%dT%H:%M:%S+00:00}" if choice.start else None,
            "why_not": choice.why or None,
            "wave": _wave(choice),
            "dead_end": choice.dead_end,
        }
    recalled = [
        {"slot": name, "running": name is view.facts.running, "release": stored.write(release)} | stored.write(recall)
        for name, (release, recall) in recalls_here(config, view.facts, state).items()
    ]
    halted = halt_of_waiting(config, view.facts, state)
    answer = recall_answer(config, view.facts, state, now) if recalled or halted else None
    image = f"{place_of_images(state)}/{answer.image}" if answer and answer.image else None
    said = {"action": answer.action, "image": image} if answer else {}
    why = {"why_not": answer.why_not or None} if answer else {}
    found = {"offer": told, "recalled": recalled, "halted": halted or None, "recall_answer": said | why or None}
    return describe_poll(state) | found


def _wave(choice: Choice) -> dict[str, Any] | None:
    """Which wave, and by when its success must be told."""
    turn = choice.turn
    if turn is None:
        return None
    return {"number": turn.number, "end": f"{turn.wave.end:%Y-%m-%dT%H:%M:%S+00:00}" if turn.wave.end else None}


def poll_state(config: Config) -> PollState:
    """What the last poll left."""
    return read_state(config.record.directory, config.repository.url.rstrip("/"))


def silent_since(config: Config, state: PollState, now: datetime) -> datetime | None:
    """The last fresh answer, or the first question, when it is longer ago than `repository.silence`."""
    since = moment_of(state.fresh) or moment_of(state.first)
    return since if since and now - since > timedelta(seconds=config.repository.silence) else None
