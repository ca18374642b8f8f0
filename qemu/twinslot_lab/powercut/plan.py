"""Which cut has which number: all of it follows from the seed and the number, so any one can be repeated."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

_TWICE, _ASKED, _AGAIN = 0.4, 0.5, 0.1  # shares of the cuts
_BURSTS = (0.04, 0.3, 2.0)  # seconds: inside one write of an environment copy, of both, or around what follows


@dataclass(frozen=True, slots=True)
class CutPhase:
    """A part of a story in which power goes.

    Attributes:
        name: As in the report.
        starting_point: Where it starts (story.py).
        story: Which story that is in.
        card: `never`, `always` or `either`: whether cuts aim at the moment when the environment is being written.
        answers: The guest can be asked for its audit chain just before the cut.
    """

    name: str
    starting_point: str
    story: str
    card: str = "never"
    answers: bool = False


WARM = (
    CutPhase("verify", "verify", "good", answers=True),
    CutPhase("prepare", "verify", "good", "always"),
    CutPhase("write", "write", "good", answers=True),
    CutPhase("read-back", "read-back", "good", answers=True),
    CutPhase("finish", "finish", "good"),
    CutPhase("arm", "finish", "good", "always"),
    CutPhase("reboot", "reboot", "good", "either"),
    CutPhase("start", "start", "good"),
    CutPhase("trial", "trial", "good", answers=True),
    CutPhase("commit", "commit", "good", "either", answers=True),
    CutPhase("boot", "boot", "good"),
    CutPhase("bad-trial", "bad-trial", "bad", answers=True),
    CutPhase("give-up", "give-up", "bad", "either"),
    CutPhase("return", "return", "bad", "either"),
    CutPhase("tries", "tries", "tries", "either"),
)
COLD = (  # for boards that cannot be frozen
    CutPhase("cold-install", "cold-install", "cold", answers=True),
    CutPhase("cold-trial", "cold-trial", "cold", "either"),
)


@dataclass(frozen=True, slots=True)
class Cut:
    """One cut.

    Attributes:
        number: Its number in the campaign.
        phase: Where.
        share: How far into the phase, 0 to 1. It is also how far the phase goes before the card is watched: 0.
        aimed: Cut at the card's first write in the phase, `delay` seconds later, instead of by `share`.
        delay: See `aimed`.
        twice: How far into the boot that follows power goes again; None: it does not.
        asked: The guest tells its audit chain right before.
        again: Afterwards the next install must work to its end.
    """

    number: int
    phase: CutPhase
    share: float
    aimed: bool
    delay: float
    twice: float | None
    asked: bool
    again: bool


def draw(seed: int, number: int, phases: Sequence[CutPhase] = WARM) -> Cut:
    """The cut with this number. Each block of `len(phases)` cuts has every phase once, in an order of its own."""
    block, place = divmod(number, len(phases))
    phase = random.Random(f"{seed}:{block}").sample(list(phases), len(phases))[place]
    chance = random.Random(f"{seed}/{number}")
    share, delay = chance.random(), chance.random() * chance.choice(_BURSTS)
    aimed = phase.card == "always" or (phase.card == "either" and chance.random() < 0.5)
    twice = chance.random() if chance.random() < _TWICE else None
    asked = chance.random() < _ASKED and phase.answers and not aimed
    return Cut(number, phase, round(share, 4), aimed, round(delay, 4), twice, asked, chance.random() < _AGAIN)
