"""The story: a fleet lives, two rollouts go out, and what the server believes is compared with what devices run."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from bench.rollout.crowd import Crowd
from bench.rollout.member import FleetMember, made
from bench.rollout.operator import RolloutLook, RolloutOperator
from bench.rollout.scenario import RolloutRelease, RolloutScenario
from twinslot.fleet.ddi import home

_OVER: Final = ("finished", "error", "canceled")
_BEHIND: Final = ("waiting", "running")


class RolloutStory:
    """One run.

    Args:
        scenario: See there.
        operator: Of the server.
        prefix: With which the names of the targets begin.
        memory: Bytes that the server holds; 0: not known.
    """

    def __init__(
        self,
        scenario: RolloutScenario,
        operator: RolloutOperator,
        prefix: str,
        memory: Callable[[], int] = lambda: 0,
    ) -> None:
        self._scenario, self._operator, self._prefix, self._memory = scenario, operator, prefix, memory
        self.names = [f"{prefix}-{number:04}" for number in range(scenario.devices)]
        draw = random.Random(scenario.seed)
        homes = {name: home(operator.url, operator.tenant, name) for name in self.names}
        self._members = {name: made(homes[name], name, scenario, draw) for name in self.names}
        self._most = 0

    def run(self) -> dict[str, Any]:
        """All of it, JSON-ready."""
        began = time.monotonic()
        self._operator.prepare(self.names)
        prepared = time.monotonic() - began
        members = [member for member in self._members.values() if member is not None]
        crowd = Crowd(members, self._scenario, self._operator.url, self._operator.authorization)
        with crowd.living() as log:
            parts = {
                name: self._rolled(release, log.now)
                for name, release in (("good", self._scenario.good), ("bad", self._scenario.bad))
            }
            seconds = log.now()
        requests = sum(log.seconds.values())
        return {
            "scenario": asdict(self._scenario),
            "devices": {"answer": len(members), "never": len(self.names) - len(members)},
            "seconds": {"prepared": prepared, "lived": seconds, "whole": time.monotonic() - began},
            "memory": self._most,
            "requests": {
                "all": requests,
                "mean": requests / seconds,
                "most": max(_smooth(log.seconds, seconds)),
                "by": {f"{kind} {status or 'no answer'}": n for (kind, status), n in sorted(log.kinds.items())},
                "series": [[10.0 * at, rate] for at, rate in enumerate(_smooth(log.seconds, seconds))],
            },
            "rollouts": parts,
            "books": self._books(members),
            "end": self._compared(),
        }

    def _rolled(self, release: RolloutRelease, now: Callable[[], float]) -> dict[str, Any]:
        """One rollout, until nothing of it moves any more."""
        began = now()
        number = self._operator.roll_out(
            release.name, self._prefix, self._scenario.groups, self._scenario.success, self._scenario.error
        )
        series: list[list[Any]] = []
        stopped = 0.0
        while True:
            look = self._operator.look(number)
            series.append([now(), look.states])
            self._most = max(self._most, self._memory())
            stopped = stopped or (now() - began if look.status in ("paused", "stopped") else 0.0)
            if self._settled(look) or now() - began > self._scenario.limit:
                break
            time.sleep(self._scenario.looks)
        return {
            "release": asdict(release),
            "status": look.status,
            "groups": list(look.groups),
            "states": look.states,
            "began": began,
            "seconds": now() - began,
            "stopped": stopped,
            "series": series,
            "reached": self._reached(release),
        }

    def _settled(self, look: RolloutLook) -> bool:
        """Whether only devices that never answer are behind, or those whose group will not begin."""
        running = look.states.get("running", 0)
        waiting = 0 if look.status in ("paused", "stopped") else look.states.get("waiting", 0)
        began = sum(look.states.values()) > 0 and look.status not in ("creating", "ready", "starting")
        silent = sum(member is None for member in self._members.values())
        busy = any(member.busy for member in self._members.values() if member is not None)
        return began and not waiting and running <= silent and not busy

    def _reached(self, release: RolloutRelease) -> dict[str, int]:
        members = [member for member in self._members.values() if member is not None]
        return dict(Counter(end for each in members if (end := each.service.ends.get(release.name))))

    def _books(self, members: Sequence[FleetMember]) -> dict[str, Any]:
        errors: Counter[str] = Counter()
        for member in members:
            errors.update(member.books.errors)
        return {
            "cuts": sum(member.books.cuts for member in members),
            "cut": sum(member.books.cuts > 0 for member in members),
            "bad networks": sum(member.lossy > 0 for member in members),
            "errors": dict(sorted(errors.items())),
            "faults": [fault for member in members for fault in member.books.faults][:20],
            "false": [each for member in members for each in member.books.false],
        }

    def _compared(self) -> dict[str, Any]:
        """What the server believes of each order at the end, against what the device made of it."""
        pairs: Counter[str] = Counter()
        lost, false, unjust = [], [], []
        for name, member in self._members.items():
            orders = self._operator.orders(name)
            if member is None:
                pairs.update(f"never answers: {status}" for status in orders.values())
                continue
            for order, status in orders.items():
                truth = member.service.ends.get(member.ordered.get(order, ""), "not started")
                pairs[f"{truth}: {status}"] += 1
                where = f"{name}, order {order}: the server has '{status}', the device '{truth}'"
                false += [where] if status == "finished" and truth != "committed" else []
                unjust += [where] if status == "error" and truth == "committed" else []
                lost += [where] if status not in _OVER and order in member.ordered else []
            lost += [f"{name}: {fault}" for fault in member.books.faults]
        return {"pairs": dict(sorted(pairs.items())), "lost": lost, "false": false, "unjust": unjust}


def _smooth(seconds: Mapping[int, int], lasts: float) -> list[float]:
    """Per second, over ten seconds each."""
    return [sum(seconds.get(at + more, 0) for more in range(10)) / 10 for at in range(0, int(lasts) + 1, 10)]
