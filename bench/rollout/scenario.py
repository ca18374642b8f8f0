"""What the fleet lives through, and its numbers. Change it here; the page says what it was.

First a good release goes out, group after group: the next group is taken when enough of the last one have committed.
Then a bad one does, which most devices leave again; the server is to stop it when too many of a group have failed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RolloutRelease:
    """One release of the story.

    Attributes:
        name: Of its image file, without `.twin`.
        sequence: Its sequence.
        fails: Share of the devices on which its health checks fail.
    """

    name: str
    sequence: int
    fails: float


@dataclass(frozen=True, slots=True)
class RolloutScenario:
    """Numbers of fleet and rollouts. Seconds are the devices' own, unless said otherwise.

    Attributes:
        devices: How many.
        seed: Of all draws.
        groups: Of each rollout, of equal size.
        success: Hundredths of a group that must have committed before the next one begins.
        error: Hundredths of a group that may fail; with more the server stops the rollout.
        good: Goes out first.
        bad: Goes out second.
        bad_network: Share of the devices whose requests fail often.
        lossy: How often theirs do, after the client's own three tries; before or after the server has heard them.
        cut: Share of the devices that lose power.
        cuts: How often theirs goes, of all steps between two of which it can.
        silent: Share of the devices that never answer.
        timer: Seconds from the end of a run to the next (twinslot-fleet.timer).
        spread: Up to so many more, drawn each time.
        start: Seconds from the restart to the first run (OnBootSec), spread as the others.
        trial: Seconds from the start of a new system to its verdict, the least and the most.
        speed: So many seconds pass for a device in one of the server's.
        workers: Devices that speak at the same time.
        limit: Seconds of the server until a rollout is given up.
        looks: Seconds of the server between two looks at a rollout.
    """

    devices: int = 1000
    seed: int = 1
    groups: int = 10
    success: int = 80
    error: int = 20
    good: RolloutRelease = RolloutRelease("2.0", 20, 0.02)
    bad: RolloutRelease = RolloutRelease("3.0", 30, 0.60)
    bad_network: float = 0.03
    lossy: float = 0.1
    cut: float = 0.01
    cuts: float = 0.05
    silent: float = 0.01
    timer: float = 300.0
    spread: float = 60.0
    start: float = 60.0
    trial: tuple[float, float] = (20.0, 100.0)
    speed: float = 10.0
    workers: int = 24
    limit: float = 900.0
    looks: float = 5.0
