"""Inhibitors: who says that the device is in use, why, and what must not happen meanwhile. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from twinslot.core.errors import Refusal, RefusedError
from twinslot.core.policy import Gate, Obstacle, ObstacleKind
from twinslot.core.text import printable

WORDS: Final[Mapping[str, frozenset[Gate]]] = {
    "fetch": frozenset({Gate.FETCH}),
    "write": frozenset({Gate.WRITE}),
    "restart": frozenset({Gate.ACTIVATE, Gate.RESTART}),  # what is armed starts at any reset
}
USUAL: Final = "restart"
NOT_ASKED: Final = Obstacle(
    ObstacleKind.IN_USE,
    Refusal(
        "not-asked",
        "programs that say whether the device is in use have to be asked outside of the service",
        hint="twinslot-continue.service does it in a moment",
    ),
)
TEXT_LIMIT: Final = 200  # characters that are shown of who and why
FILE_LIMIT: Final = 4096  # bytes of a file that are looked at


@dataclass(frozen=True, slots=True)
class Inhibitor:
    """One reason why the device counts as in use.

    Attributes:
        who: Name of it, for people.
        why: A clause.
        what: Words of `WORDS`.
        source: By which way it came: `bus`, `file`, `program` or `logind`.
        since: When it began, in seconds of the clock at that time; None: that is not known.
    """

    who: str
    why: str
    what: frozenset[str] = frozenset({USUAL})
    source: str = "file"
    since: float | None = field(default=None, compare=False)

    def holds(self, gate: Gate) -> bool:
        """Whether it stands against the step behind this gate."""
        return any(gate in WORDS[word] for word in self.what)

    def as_dict(self) -> dict[str, Any]:
        """For `status`."""
        told = {"who": self.who, "why": self.why, "what": sorted(self.what), "source": self.source}
        return told | {"since": None if self.since is None else written(self.since)}


def parse_what(text: str) -> frozenset[str]:
    """Words between colons; a word that is not known stands for all of them, and no word for the usual one.

    What a newer or mistaken product means is not guessed at: it wants something not to happen.
    """
    words = frozenset(word.strip() for word in text.split(":") if word.strip())
    if not words:
        return frozenset({USUAL})
    return words if words <= WORDS.keys() else frozenset(WORDS)


def asked_for(what: str, who: str, why: str) -> Inhibitor:
    """What a caller asks for, who can be told that it is wrong.

    Raises:
        RefusedError: `refused.inhibitor`: a word is not known, or who or why is missing.
    """
    words = frozenset(what.split(":")) if what else frozenset({USUAL})
    if not words <= WORDS.keys():
        hint = "words with colons between"
        raise RefusedError(
            Refusal("inhibitor", "it is not known what must not happen", ", ".join(WORDS), what[:TEXT_LIMIT], hint)
        )
    if not who.strip() or not why.strip():
        raise RefusedError(Refusal("inhibitor", "who uses the device and why must be said"))
    return Inhibitor(shown(who), shown(why), words, "bus")


def of_file(name: str, data: bytes, since: float | None = None) -> Inhibitor:
    """What a file says: the first line is why; a line `what=fetch:restart` says what must not happen.

    Args:
        name: Of the file, which says who.
        data: What is in it.
        since: When it was written; None: that is not known.
    """
    lines = [line.strip() for line in data[:FILE_LIMIT].decode(errors="replace").splitlines() if line.strip()]
    options = [line.partition("=")[2] for line in lines if line.startswith("what=")]
    reasons = [line for line in lines if not line.startswith("what=")]
    why = reasons[0] if reasons else "no reason is given"
    return Inhibitor(shown(name), shown(why), parse_what(options[0] if options else ""), since=since)


def written(moment: float) -> str:
    """A time as it is told: ISO 8601 in UTC."""
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%SZ}"


def lasted(inhibitor: Inhibitor, now: float, uptime: float | None) -> float | None:
    """Seconds since it began; None: that is not known. None outlives a start, so a clock that was set makes none older.

    Args:
        inhibitor: Which.
        now: By the clock.
        uptime: Seconds since the start; None: not known.
    """
    if inhibitor.since is None:
        return None
    seconds = max(0.0, now - inhibitor.since)
    return seconds if uptime is None else min(seconds, uptime)


def shown(text: str) -> str:
    """As it may be printed."""
    return printable(text)[:TEXT_LIMIT]


# keeps: S20
def obstacles(inhibitors: Iterable[Inhibitor], gate: Gate) -> tuple[Obstacle, ...]:
    """Those that stand against the step behind this gate."""
    hint = "it goes on when they let go; 'twinslot status' lists them"
    return tuple(
        Obstacle(ObstacleKind.IN_USE, Refusal("in-use", f"'{each.who}' uses the device", found=each.why, hint=hint))
        for each in inhibitors
        if each.holds(gate)
    )
