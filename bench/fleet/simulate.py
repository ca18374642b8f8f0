"""The fleet, slot by slot.

Each decision is made by the device's own code: `parse_offers`, `choose` (waves, places, halts), `decide` (policy at the
gate), `pause_after` and `left_of` (back-off), `TrustTime.reference` and `wave_time` (which time it is). numpy keeps the
books: who polls when, who is away, how many asked in which second.

A device polls in its own rhythm. A poll that finds nothing new is one small request. One that finds a new list reads it
and decides; one whose turn has come by the device's own clock decides again, and begins where policy lets it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from bench.fleet.scenario import BEGIN, DAY, HOUR, A, FleetScenario, moment, publications
from twinslot.core.backoff import Moment, left_of, pause_after
from twinslot.core.errors import Refusal
from twinslot.core.lifecycle import State
from twinslot.core.model import SlotName
from twinslot.core.offer import Offered, OfferFacts, choose, parse_offers
from twinslot.core.policy import Gate, Go, Obstacle, ObstacleKind, PolicyFacts, Wish, decide
from twinslot.core.waves import wave_time
from twinslot.trust.verdict import TrustTime

SLOT: Final = 900.0  # seconds of events that are handled together, each at its own second; less than between two polls
NEVER: Final = 1e18
SMALL: Final = 379  # bytes of HTTP for a poll that finds nothing (`python -m bench.poll_bytes` counts them)
LIST: Final = 6000  # bytes of the documents of a new list of offers
LIST_REQUESTS: Final = 5  # timestamp, next root, snapshot, offers, list
AGAIN: Final = 3000  # bytes when the timestamp alone is new; taken for half of a new list
AGAIN_REQUESTS: Final = 3  # timestamp, next root, list
_FREE: Final = PolicyFacts(SlotName.A, on_trial=False, way_back=SlotName.B, under_way=State.IDLE, restarts=True)
_USED: Final = PolicyFacts(
    SlotName.A, False, SlotName.B, State.IDLE, True, (Obstacle(ObstacleKind.IN_USE, Refusal("in-use", "in use")),)
)
Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]


@dataclass
class FleetOutcome:
    """What was seen.

    Attributes:
        requests: By second of the story.
        bandwidth: Bytes per second of images, by second of the story.
        metadata: Bytes of metadata, by second of the story.
        began: By release: device -> second at which it began to fetch.
        bricked: Devices that never came back.
        saw_halt: By device, when it knew of the halt; NEVER: it did not.
        away: Devices that were away when the halt was published, or some time in the three hours after.
        dead: Devices without a clock.
        waiting: Devices that had not begun B at the end, and why, with how many.
        decided: Calls of the device's own code.
    """

    requests: Whole
    bandwidth: Floats
    metadata: Whole
    began: dict[str, Floats] = field(default_factory=dict)
    bricked: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    saw_halt: Floats = field(default_factory=lambda: np.zeros(0))
    away: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    dead: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    waiting: dict[str, int] = field(default_factory=dict)
    decided: int = 0


class SimulatedFleet:
    """All devices.

    Args:
        scenario: Of the story.
    """

    def __init__(self, scenario: FleetScenario) -> None:
        self._scenario = scenario
        n = scenario.devices
        self.random = np.random.default_rng(scenario.seed)
        draw = self.random
        self.skew = draw.normal(0, 60, n)
        wrong = draw.random(n) < scenario.skewed
        self.skew[wrong] = draw.uniform(-12 * HOUR, 12 * HOUR, int(wrong.sum()))
        self.dead = draw.random(n) < scenario.dead
        away = draw.random(n) < scenario.offline
        self.away_from = np.where(away, draw.uniform(0, scenario.days * DAY, n), NEVER)
        self.away_until = self.away_from + draw.uniform(0.5 * DAY, 4 * DAY, n)
        self.fragile = draw.random(n) < scenario.bricks
        self.next_poll = draw.uniform(0, sum(scenario.poll), n)
        self.seen = np.full(n, -1, np.int64)  # which publication a device knows
        self.published = np.full(n, -NEVER)  # when the timestamp that it trusted last was signed
        self.turn = np.full(n, NEVER)  # when, by its own clock, a device should look again
        self.sequence = np.full(n, 10, np.int64)
        self.busy_until = np.zeros(n)
        self.failures = np.zeros(n, np.int64)
        self.bricked = np.zeros(n, bool)
        self.saw_halt = np.full(n, NEVER)
        self.began = {"A": np.full(n, NEVER), "B": np.full(n, NEVER)}
        self.lists = [(at, parse_offers(data)) for at, data in publications(scenario)]
        seconds = int(scenario.days * DAY)
        self.requests = np.zeros(seconds + 1, np.int64)
        self.flow = np.zeros(seconds + 1)
        self.metadata = np.zeros(seconds + 1, np.int64)
        self.decided = 0

    def run(self) -> FleetOutcome:
        """The whole story."""
        end = self._scenario.days * DAY
        slots: dict[int, list[Whole]] = {}
        self._file(np.arange(self._scenario.devices), slots, end)
        for slot in range(int(end / SLOT)):
            for batch in self._due(slots, slot):
                self._poll(batch)
                self._file(batch, slots, end)
        reasons: dict[str, int] = {}
        for device in np.flatnonzero((self.began["B"] == NEVER) & ~self.bricked):
            why = self._why(int(device), end)
            reasons[why] = reasons.get(why, 0) + 1
        halted = self._scenario.halted
        away = (self.away_from < halted + 3 * HOUR) & (self.away_until > halted)
        flow = np.cumsum(self.flow)
        seen = (self.bricked, self.saw_halt, away, self.dead, reasons, self.decided)
        return FleetOutcome(self.requests, flow, self.metadata, self.began, *seen)

    def _due(self, slots: dict[int, list[Whole]], slot: int) -> Iterator[Whole]:
        """Devices that poll in this slot, also those that were put into it meanwhile."""
        while batches := slots.pop(slot, None):
            yield np.concatenate(batches)

    def _file(self, devices: Whole, slots: dict[int, list[Whole]], end: float) -> None:
        devices = devices[(self.next_poll[devices] < end) & ~self.bricked[devices]]
        which = (self.next_poll[devices] // SLOT).astype(np.int64)
        order = np.argsort(which, kind="stable")
        devices, which = devices[order], which[order]
        cuts = np.flatnonzero(np.diff(which)) + 1
        for part, first in zip(
            np.split(devices, cuts), which[np.concatenate(([0], cuts))] if len(which) else [], strict=False
        ):
            if len(part):
                slots.setdefault(int(first), []).append(part)

    def _poll(self, devices: Whole) -> None:
        now = self.next_poll[devices]
        away = (now >= self.away_from[devices]) & (now < self.away_until[devices])
        busy = now < self.busy_until[devices]
        low, more = self._scenario.poll
        self.next_poll[devices] = now + low + self.random.uniform(0, more, len(devices))
        back = devices[away]
        self.next_poll[back] = self.away_until[back] + self.random.uniform(0, 0.25 * HOUR, len(back))  # OnBootSec
        begin, lasts = self._scenario.outage
        out = ~away & ~busy & (now >= begin) & (now < begin + lasts)
        for device, at in zip(devices[out], now[out], strict=True):
            self._failed(int(device), float(at))
        ask = ~away & ~busy & ~out
        asking, at = devices[ask], now[ask]
        np.add.at(self.requests, at.astype(np.int64), 1)
        self.failures[asking] = 0
        begins = np.array([when for when, _ in self.lists])
        version = np.searchsorted(begins, at, side="right") - 1
        every = self._scenario.publishes
        published = np.maximum(begins[version], at // every * every)
        fresh = version > self.seen[asking]
        again = (published > self.published[asking]) & ~fresh
        self.published[asking] = published
        for which, requests, size in ((fresh, LIST_REQUESTS, LIST), (again, AGAIN_REQUESTS, AGAIN)):
            np.add.at(self.requests, at[which].astype(np.int64), requests - 1)
            np.add.at(self.metadata, at[which].astype(np.int64), size)
        np.add.at(self.metadata, at[~fresh & ~again].astype(np.int64), SMALL)
        halt = fresh & (version >= 1) & (self.seen[asking] < 1)
        self.saw_halt[asking[halt]] = at[halt]
        self.seen[asking] = np.maximum(self.seen[asking], version)
        own = np.where(self.dead[asking], -NEVER, at + self.skew[asking])
        turned = self.turn[asking] <= np.maximum(own, published)
        for device, moment_ in zip(asking[fresh | turned], at[fresh | turned], strict=True):
            self._decide(int(device), float(moment_))

    def _failed(self, device: int, now: float) -> None:
        """The server is away: the device's own pause, kept as the timer comes."""
        self.failures[device] += 1
        began = Moment(now, "boot", now)
        pause = pause_after(int(self.failures[device]), 0.0, float(self.random.random()), began)
        self.decided += 1
        while (left := left_of(pause, Moment(0.0, "boot", self.next_poll[device]))) > 0:
            self.next_poll[device] += max(left, 1.0) if left > HOUR else HOUR

    def _facts(self, device: int, now: float) -> OfferFacts:
        clock = moment(now + float(self.skew[device]))
        built = BEGIN - timedelta(days=100)
        time = TrustTime(built if self.dead[device] else clock, built, built)
        now_for_waves = wave_time(time.reference, moment(float(self.published[device])))
        return OfferFacts(now_for_waves, int(self.sequence[device]), device_id=f"device-{device}")

    def _list(self, device: int) -> Offered:
        return self.lists[max(0, int(self.seen[device]))][1]

    def _decide(self, device: int, now: float) -> None:
        choice = choose(self._list(device), self._facts(device, now))
        self.decided += 1
        if choice.start is not None:
            self.turn[device] = (choice.start - BEGIN).total_seconds()
            return
        self.turn[device] = NEVER
        if choice.offer is None or choice.why:
            return
        facts = _USED if self.random.random() < self._scenario.in_use else _FREE
        if not isinstance(decide(Gate.FETCH, Wish(remote=True), facts), Go):
            self.turn[device] = 0.0  # the next poll asks again
            return
        self._install(device, choice.offer.name, choice.offer.manifest, choice.offer.sequence, now)

    def _install(self, device: int, name: str, manifest: str, sequence: int, now: float) -> None:
        self.began[name][device] = now
        takes = self._scenario.image / self._scenario.rate
        first, last = int(now), min(int(now + takes), len(self.flow) - 1)
        self.flow[first] += self._scenario.rate
        self.flow[last] -= self._scenario.rate
        self.requests[first] += 3  # head, patch, a range
        self.busy_until[device] = now + takes + self._scenario.settle
        if manifest == A and self.fragile[device]:
            self.bricked[device] = True
            return
        self.sequence[device] = sequence

    def _why(self, device: int, now: float) -> str:
        if self.away_from[device] <= now < self.away_until[device]:
            return "it is away"
        if self.published[device] == -NEVER:
            return "it never had an answer"
        choice = choose(self._list(device), self._facts(device, now))
        if choice.start is not None and self.dead[device]:
            return "it has no clock, and its turn comes with the next timestamp"
        return choice.why or "it begins with its next poll"


def simulated(scenario: FleetScenario) -> dict[str, Any]:
    """The story with these numbers: what the page and the report say of it."""
    from bench.fleet.figures import figures

    return figures(scenario, SimulatedFleet(scenario).run())
