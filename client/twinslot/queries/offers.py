"""What the repository has for this device, from what the last poll left. Changes nothing, asks nobody."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta
from typing import Any, Final

from twinslot.config.options import Config
from twinslot.core.errors import TwinslotError
from twinslot.core.model import Floors
from twinslot.core.offer import Choice, Offer, OfferFacts, choose, parse_offers
from twinslot.engine.facts import Facts, View
from twinslot.engine.trust_time import trust_time
from twinslot.repository.state import PollState, describe_poll, moment_of, read_state


def repository_status(config: Config, view: View) -> dict[str, Any]:
    """For `status`, JSON-ready."""
    state = poll_state(config)
    verified = view.record.document("verified-date") if view.record else None
    choice = chosen(config, view.facts, state, trust_time(config, verified).reference)
    offer = choice.offer
    told = None
    if offer is not None:
        told = {
            "release": {"name": offer.name, "sequence": offer.sequence, "epoch": offer.epoch},
            "image": f"{state.url}/{offer.image}",
            "size": offer.size,
            "manifest": offer.manifest,
            "start": f"{choice.start:%Y-%m-%dT%H:%M:%S+00:00}" if choice.start else None,
            "why_not": choice.why or None,
        }
    return describe_poll(state) | {"offer": told}


def poll_state(config: Config) -> PollState:
    """What the last poll left."""
    return read_state(config.record.directory, config.repository.url.rstrip("/"))


def chosen(config: Config, facts: Facts, state: PollState, now: datetime) -> Choice:
    """Of all offers for the names of this device the one that it would take.

    Args:
        config: Of this device.
        facts: What is true of it.
        state: What the last poll left.
        now: By the device's notion of time (S16): a wave does not begin because a clock fell back.
    """
    offers: list[Offer] = []
    for name in config.device.compatible:
        with contextlib.suppress(TwinslotError):  # the poll has read it; a file that was damaged since offers nothing
            offers += parse_offers(state.offers.get(name, _NONE).encode())
    floors = facts.state.floors if facts.state else Floors()
    if facts.record is not None:
        floors = floors.highest(facts.record.floors)
    known = facts.holds(facts.running) if facts.running else None
    failed = frozenset(facts.record.failed) if facts.record else frozenset[int]()
    sequence = known.release.sequence if known else floors.sequence
    return choose(tuple(offers), OfferFacts(now, sequence, floors.epoch, failed, _device_id(config)))


_NONE: Final = '{"format":1,"offers":[]}'


def _device_id(config: Config) -> str:
    try:
        with config.repository.device_id.open("rb") as file:
            return file.readline(256).decode(errors="replace").strip()
    except OSError:
        return ""


def silent_since(config: Config, state: PollState, now: datetime) -> datetime | None:
    """The last fresh answer, or the first question, when it is longer ago than `repository.silence`."""
    since = moment_of(state.fresh) or moment_of(state.first)
    return since if since and now - since > timedelta(seconds=config.repository.silence) else None
