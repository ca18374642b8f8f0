"""What a repository offers to devices of one type, and which of it this device would take. Pure.

Whoever calls has seen to the signatures. An offer is a hint: the image behind it is trusted for its own signatures
alone, and policy decides as for every other image (S21).

The document is JSON in its one form (docs/image-format.md, section 3):

    {"format": 1, "offers": [{"epoch": 0, "image": "images/pump-2026.11.twin", "manifest": "SHA-256 of the manifest",
      "name": "2026.11", "sequence": 11, "size": 123456, ...}]}

and, where they are needed: `from` as in a manifest, `halted` (a reason: no device takes it any more), `waves` (each
with `share`, `start` and `spread`; docs/decisions/0053-a-repository-of-plain-files.md). Keys that are not known are
ignored, unless `requires` names them: then the offer is not for this client.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from twinslot.core.canonical import parse_document
from twinslot.core.fields import Fields, form
from twinslot.core.manifest import EPOCH_MAX, NAME, NAMES_MAX, RELEASE_NAME, SEQUENCE_MAX
from twinslot.core.waves import WHOLE, Wave, place_of, start_of

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
_OPTIONAL = ("from", "halted", "requires", "waves")


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
        lowest: The lowest running sequence that may take it.
        highest: The highest one.
        halted: Why no device takes it any more; empty: it is offered.
        waves: Who takes it when; empty: all at once.
        too_new: Features that this client lacks; empty: none.
    """

    name: str
    sequence: int
    epoch: int
    manifest: str
    image: str
    size: int
    lowest: int = 1
    highest: int = SEQUENCE_MAX
    halted: str = ""
    waves: tuple[Wave, ...] = ()
    too_new: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OfferFacts:
    """What is true of this device.

    Attributes:
        now: By its notion of time (S16).
        sequence: Of the release that runs; where it is not known, the floor.
        epoch: The lowest that is accepted.
        failed: Sequences that rolled back here (S13).
        device_id: What its place in a wave is drawn from.
    """

    now: datetime
    sequence: int
    epoch: int = 0
    failed: frozenset[int] = frozenset()
    device_id: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """What this device would do with the offers.

    Attributes:
        offer: The newest release that it may take one day; None: there is none.
        start: When its turn comes; None: now, or with no wave so far.
        why: Why it is not taken now; empty: it may be.
    """

    offer: Offer | None
    start: datetime | None = None
    why: str = ""


def parse_offers(data: bytes) -> tuple[Offer, ...]:
    """Read the document.

    Raises:
        ImageError: `image.json`, `image.not-canonical`, `image.offers`: it is not one.
    """
    whole = Fields(parse_document(data, _OFFERS), "", ("format", "offers"), _OFFERS, extensible=True)
    whole.integer("format", 1, 1)
    return tuple(_offer(value) for value in whole.objects("offers", OFFERS_MAX))


def _offer(value: object) -> Offer:
    fields = Fields(value, "offers", _KEYS, _OFFERS, _OPTIONAL, extensible=True)
    words = fields.names("requires", NAME, 1, NAMES_MAX) if fields.has("requires") else ()
    limits = Fields(fields.get("from") if fields.has("from") else {}, "offers.from", (), _OFFERS, ("highest", "lowest"))
    lowest = limits.integer("lowest", 1, SEQUENCE_MAX) if limits.has("lowest") else 1
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
    )


def _waves(fields: Fields) -> tuple[Wave, ...]:
    waves = []
    for value in fields.objects("waves", WAVES_MAX):
        each = Fields(value, "offers.waves", ("share", "spread", "start"), _OFFERS, extensible=True)
        share, spread = each.integer("share", 1, WHOLE), each.integer("spread", 0, SPREAD_MAX)
        waves.append(Wave(share, each.time("start"), spread))
    if not waves or (total := sum(wave.share for wave in waves)) > WHOLE:
        found = "no wave" if not waves else f"{total} millionths"
        raise fields.bad("waves", f"one wave or more, at most {WHOLE} millionths together", found)
    return tuple(waves)


# keeps: S29
def choose(offers: tuple[Offer, ...], facts: OfferFacts) -> Choice:
    """The newest release that is newer than what runs, and what stands in its way."""
    newer = [each for each in offers if each.sequence > facts.sequence and each.epoch >= facts.epoch]
    newest = sorted(newer, key=lambda each: each.sequence, reverse=True)
    choices = [Choice(each, *_turn(each, facts)) for each in newest]
    ready = next((choice for choice in choices if not choice.why), None)
    return ready or next((choice for choice in choices if choice.start is not None), None) or _first(choices)


def _first(choices: list[Choice]) -> Choice:
    return choices[0] if choices else Choice(None)


def _turn(offer: Offer, facts: OfferFacts) -> tuple[datetime | None, str]:
    """When, and why not now."""
    if offer.too_new:
        return None, f"it needs a newer client ({', '.join(offer.too_new)})"
    if offer.halted:
        return None, f"the maker has halted it: {offer.halted}"
    if offer.sequence in facts.failed:
        return None, "it rolled back on this device before"
    if not offer.lowest <= facts.sequence <= offer.highest:
        return None, "it cannot follow the release that runs"
    if not offer.waves:
        return None, ""
    start = start_of(offer.waves, place_of(facts.device_id, offer.manifest))
    if start is None:
        return None, "no wave has reached this device"
    return (None, "") if facts.now >= start else (start, f"its turn comes at {start:%Y-%m-%d %H:%M} UTC")
