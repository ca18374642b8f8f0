"""The story that the fleet lives through, and its numbers. Change it here; the page says what it was.

Day 0: release A is published in three waves, 1 %, 9 % and 90 %. It bricks one device in a hundred. The first wave ends
after a day, and silence counts as failure from then on; the maker halts A some hours later, in the middle of the second
wave. Day 5: release B takes its place, in waves of its own. The server is away for two hours on day 6, in the middle of
B's second wave.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from twinslot.core.canonical import encode

BEGIN: Final = datetime(2026, 12, 1, tzinfo=UTC)
HOUR: Final = 3600.0
DAY: Final = 86_400.0
A, B = "a" * 64, "b" * 64  # digests of the manifests


@dataclass(frozen=True, slots=True)
class FleetScenario:
    """Numbers of the fleet and its server.

    Attributes:
        devices: How many.
        seed: Of all draws.
        days: How long it is watched.
        poll: Seconds between two polls at least, and how much longer at most (twinslot-poll.timer).
        image: Bytes that one update fetches.
        rate: Bytes per second at which a device fetches.
        settle: Seconds from the fetched image to the commit, with the restart.
        bricks: Share of the devices with A that never come back.
        offline: Share of the devices that are away for some days at some time.
        skewed: Share of the devices whose clock is wrong by hours; the rest is wrong by a minute.
        dead: Share of the devices without a clock: they believe that it is when their system was built.
        in_use: Chance that somebody uses the device when it would begin, so that policy has it wait.
        halted: Seconds after which A is halted.
        outage: When the server goes away, and for how long.
        publishes: Seconds after which the maker publishes anew, whether anything is new or not.
    """

    devices: int = 1_000_000
    seed: int = 20261201
    days: int = 12
    poll: tuple[float, float] = (1 * HOUR, 0.5 * HOUR)
    image: int = 1_700_000
    rate: int = 250_000
    settle: float = 300.0
    bricks: float = 0.01
    offline: float = 0.03
    skewed: float = 0.01
    dead: float = 0.001
    in_use: float = 0.1
    halted: float = 1 * DAY + 9 * HOUR
    outage: tuple[float, float] = (6 * DAY + 2 * HOUR, 2 * HOUR)
    publishes: float = 1 * DAY


WAVES_A: Final = ((10_000, 0.0, 6 * HOUR, 1 * DAY), (90_000, 1 * DAY, 1 * DAY, 0.0), (900_000, 3 * DAY, 5 * DAY, 0.0))
WAVES_B: Final = (
    (10_000, 5 * DAY, 6 * HOUR, 6 * DAY),
    (190_000, 6 * DAY, 1 * DAY, 0.0),
    (800_000, 7 * DAY, 3 * DAY, 0.0),
)


def publications(scenario: FleetScenario) -> list[tuple[float, bytes]]:
    """When the server has which list of offers, as devices read it."""
    halted = _offer("A", 11, A, WAVES_A) | {"halted": "one in a hundred is silent"}
    return [
        (0.0, _document(_offer("A", 11, A, WAVES_A))),
        (scenario.halted, _document(halted)),
        (4.5 * DAY, _document(halted, _offer("B", 12, B, WAVES_B))),
    ]


def moment(seconds: float) -> datetime:
    """A time of the story."""
    return BEGIN + timedelta(seconds=seconds)


def _offer(
    name: str, sequence: int, manifest: str, waves: tuple[tuple[int, float, float, float], ...]
) -> dict[str, Any]:
    listed = []
    for share, start, spread, end in waves:
        wave = {"share": share, "spread": int(spread), "start": f"{moment(start):%Y-%m-%dT%H:%M:%SZ}"}
        listed.append(wave | ({"end": f"{moment(end):%Y-%m-%dT%H:%M:%SZ}"} if end else {}))
    base = {"epoch": 0, "image": f"images/{name}.twin", "manifest": manifest, "name": name, "sequence": sequence}
    return base | {"size": 80_000_000, "waves": listed}


def _document(*offers: dict[str, Any]) -> bytes:
    return encode({"format": 1, "offers": list(offers)})
