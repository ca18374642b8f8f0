"""What a repository offers to devices of one type, and which of it this device would take. Pure.

Whoever calls has seen to the signatures. An offer is a hint: the image behind it is trusted for its own signatures
alone, and policy decides as for every other image (S21).

The document is JSON in its one form (docs/image-format.md, section 3):

    {"format": 1, "offers": [{"epoch": 0, "image": "images/pump-2026.11.twin", "manifest": "SHA-256 of the manifest",
      "name": "2026.11", "sequence": 11, "size": 123456, ...}]}

and, where they are needed: `barrier` (true: no device passes it by), `from` as in a manifest, `halted` (a reason: no
device takes it any more), `waves` (each with `share`, `start` and `spread`, and where needed `approved_by`, `end`,
`networks` and `rings`; docs/decisions/0053-a-repository-of-plain-files.md and 0071). Beside `offers` may stand
`recalls` (core/recall.py). Keys that are not known are ignored, unless `requires` names them: then the offer is not for
this client.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from twinslot.core.approvals import Reach
from twinslot.core.canonical import parse_document
from twinslot.core.fields import Fields, form
from twinslot.core.manifest import EPOCH_MAX, NAME, NAMES_MAX, RELEASE_NAME, SEQUENCE_MAX
from twinslot.core.recall import RECALLS_MAX, Recall, parse_recalls, recall_of
from twinslot.core.waves import WHOLE, Turn, Wave, place_of, turn_of

_OFFERS: Final = "offers"
OFFERS_SUFFIX: Final = ".offers.json"  # of the target's path; before it stands the name of the device type
OFFERS_MAX: Final = 256
WAVES_MAX: Final = 64
OFFERS_LIMIT: Final = 1 << 20  # bytes of the document
SPREAD_MAX: Final = 366 * 86_400  # seconds
SIZE_MAX: Final = 1 << 44  # bytes; as `install.max_image_size` at most
_FEATURES: Final[frozenset[str]] = frozenset()
_PATH = form(r"(?:[A-Za-z0-9_][A-Za-z0-9._+-]*/){0,8}[A-Za-z0-9_][A-Za-z0-9._+-]{0,200}\.twin", "a path of plain names")
_REASON = form(r"[^\x00-\x1f\x7f]{1,200}", "one line of text")
_KEYS = ("epoch", "image", "manifest", "name", "sequence", "size")
_OPTIONAL = ("barrier", "from", "halted", "requires", "waves")
_WAVE = ("share", "spread", "start")
_WAVE_OPTIONAL = ("approved_by", "end", "networks", "rings")


@dataclass(frozen=True, slots=True)
class Offer:
    """One release that the repository has for this type of device.

    Attributes:
        name: Of the release, for people.
        sequence: Orders releases.
        epoch: Security epoch.
        manifest: SHA-256 of the manifest, 64 hex digits.
        image: Path of the image below the repository's address.
        size: Bytes of the image.
        lowest: The lowest running sequence that may take it; 0: any, and where it is not known.
        highest: The highest one.
        halted: Why no device takes it any more; empty: it is offered.
        waves: Who takes it when; empty: all at once.
        too_new: Features that this client lacks; empty: none.
        barrier: No device passes it by: those behind it say so in `lowest`.
    """

    name: str
    sequence: int
    epoch: int
    manifest: str
    image: str
    size: int
    lowest: int = 0
    highest: int = SEQUENCE_MAX
    halted: str = ""
    waves: tuple[Wave, ...] = ()
    too_new: tuple[str, ...] = ()
    barrier: bool = False


@dataclass(frozen=True, slots=True)
class Offered:
    """What one document says.

    Attributes:
        offers: Releases for devices of this type.
        recalls: Releases that must not run on them.
    """

    offers: tuple[Offer, ...] = ()
    recalls: tuple[Recall, ...] = ()


@dataclass(frozen=True, slots=True)
class OfferFacts:
    """What is true of this device.

    Attributes:
        now: By its notion of time (S16).
        sequence: Of the release that runs; where it is not known, the floor.
        epoch: The lowest that is accepted.
        failed: Sequences that rolled back here (S13).
        device_id: What its place in a wave is drawn from.
        ring: Where it is pinned; empty: nowhere.
        network: Class of the network that it has; empty: not known.
        roles: Roles that must have approved whatever it takes, beside those that its wave names.
        approvals: What each role has approved.
    """

    now: datetime
    sequence: int
    epoch: int = 0
    failed: frozenset[int] = frozenset()
    device_id: str = ""
    ring: str = ""
    network: str = ""
    roles: tuple[str, ...] = ()
    approvals: Mapping[str, Reach] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Choice:
    """What this device would do with the offers.

    Attributes:
        offer: The newest release that it may take one day; None: there is none.
        start: When its turn comes; None: now, or with no wave so far.
        why: Why it is not taken now; empty: it may be.
        turn: Its turn in the waves; None: it has none, or there are no waves.
        dead_end: Newer releases are offered, and none of them can follow the one that runs.
    """

    offer: Offer | None
    start: datetime | None = None
    why: str = ""
    turn: Turn | None = None
    dead_end: bool = False


def parse_offers(data: bytes) -> Offered:
    """Read the document.

    Raises:
        ImageError: `image.json`, `image.not-canonical`, `image.offers`: it is not one.
    """
    whole = Fields(parse_document(data, _OFFERS), "", ("format", "offers"), _OFFERS, ("recalls",), extensible=True)
    whole.integer("format", 1, 1)
    recalls = whole.objects("recalls", RECALLS_MAX) if whole.has("recalls") else []
    offers = tuple(_offer(value) for value in whole.objects("offers", OFFERS_MAX))
    return Offered(offers, parse_recalls(recalls, _OFFERS))


def _offer(value: object) -> Offer:
    fields = Fields(value, "offers", _KEYS, _OFFERS, _OPTIONAL, extensible=True)
    words = fields.names("requires", NAME, 1, NAMES_MAX) if fields.has("requires") else ()
    limits = Fields(fields.get("from") if fields.has("from") else {}, "offers.from", (), _OFFERS, ("highest", "lowest"))
    lowest = limits.integer("lowest", 1, SEQUENCE_MAX) if limits.has("lowest") else 0
    return Offer(
        name=fields.text("name", RELEASE_NAME),
        sequence=fields.integer("sequence", 1, SEQUENCE_MAX),
        epoch=fields.integer("epoch", 0, EPOCH_MAX),
        manifest=fields.digest("manifest"),
        image=fields.text("image", _PATH),
        size=fields.integer("size", 1, SIZE_MAX),
        lowest=lowest,
        highest=limits.integer("highest", lowest, SEQUENCE_MAX) if limits.has("highest") else SEQUENCE_MAX,
        halted=fields.text("halted", _REASON) if fields.has("halted") else "",
        waves=_waves(fields) if fields.has("waves") else (),
        too_new=tuple(word for word in words if word not in _FEATURES),
        barrier=fields.flag("barrier") if fields.has("barrier") else False,
    )


def _waves(fields: Fields) -> tuple[Wave, ...]:
    waves = [_wave(value) for value in fields.objects("waves", WAVES_MAX)]
    if not waves or (total := sum(wave.share for wave in waves)) > WHOLE:
        found = "no wave" if not waves else f"{total} millionths"
        raise fields.bad("waves", f"one wave or more, at most {WHOLE} millionths together", found)
    return tuple(waves)


def _wave(value: object) -> Wave:
    fields = Fields(value, "offers.waves", _WAVE, _OFFERS, _WAVE_OPTIONAL, extensible=True)
    roles, networks, rings = (
        fields.names(key, NAME, 1, NAMES_MAX) if fields.has(key) else () for key in ("approved_by", "networks", "rings")
    )
    start, spread = fields.time("start"), fields.integer("spread", 0, SPREAD_MAX)
    end = fields.time("end") if fields.has("end") else None
    try:
        last = start + timedelta(seconds=spread)
    except OverflowError as e:
        raise fields.bad(
            "start", "a start so that the last device's is before the year 10000", fields.get("start")
        ) from e
    if end is not None and end < last:
        raise fields.bad("end", "an end behind the start of the last device", fields.get("end"))
    share = fields.integer("share", 0 if rings else 1, WHOLE)
    return Wave(share, start, spread, end, roles, networks, rings)


# keeps: S29
def choose(offered: Offered, facts: OfferFacts) -> Choice:
    """The newest release that is newer than what runs, and what stands in its way."""
    newer = [each for each in offered.offers if each.sequence > facts.sequence and each.epoch >= facts.epoch]
    newest = sorted(newer, key=lambda each: each.sequence, reverse=True)
    choices = [_choice(each, facts, offered.recalls) for each in newest]
    ready = next((choice for choice in choices if not choice.why), None)
    found = ready or next((choice for choice in choices if choice.start is not None), None)
    if found is None and choices:
        found = replace(choices[0], dead_end=not any(_follows(each, facts) for each in newest))
    return found or Choice(None)


def _follows(offer: Offer, facts: OfferFacts) -> bool:
    return offer.lowest <= facts.sequence <= offer.highest


def _choice(offer: Offer, facts: OfferFacts, recalls: Sequence[Recall]) -> Choice:
    if why := _obstacle(offer, facts, recalls):
        return Choice(offer, why=why)
    turn = turn_of(offer.waves, place_of(facts.device_id, offer.manifest), facts.ring)
    if offer.waves and turn is None:
        return Choice(offer, why="no wave has reached this device")
    if turn is not None and facts.now < turn.start:
        return Choice(offer, turn.start, f"its turn comes at {turn.start:%Y-%m-%d %H:%M} UTC", turn)
    return Choice(offer, why=_held_back(offer, turn, facts), turn=turn)


def _obstacle(offer: Offer, facts: OfferFacts, recalls: Sequence[Recall]) -> str:
    """What stands in the way whenever the turn comes; empty: nothing."""
    if offer.too_new:
        return f"it needs a newer client ({', '.join(offer.too_new)})"
    if recall := recall_of(recalls, offer.sequence, offer.manifest):
        return f"the maker has recalled it: {recall.reason}"
    if offer.halted:
        return f"the maker has halted it: {offer.halted}"
    if offer.sequence in facts.failed:
        return "it rolled back on this device before"
    return "" if _follows(offer, facts) else "it cannot follow the release that runs"


# keeps: REQ-REP-01
def _held_back(offer: Offer, turn: Turn | None, facts: OfferFacts) -> str:
    """What stands in the way although the turn has come; empty: nothing."""
    wave, reach = (turn.wave, turn.reach) if turn else (None, WHOLE)
    roles = sorted({*facts.roles, *(wave.roles if wave else ())})
    lacking = [role for role in roles if facts.approvals.get(role, {}).get(offer.manifest, 0) < reach]
    if lacking:
        number = f"wave {turn.number}" if turn else "it"
        return f"{number} is not approved by {', '.join(lacking)}"
    if wave and wave.networks and facts.network not in wave.networks:
        has = facts.network or "not known"
        return f"its wave is for networks of class {' or '.join(wave.networks)}, and this one's is {has}"
    return ""
