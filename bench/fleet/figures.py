"""What the story came to: shares against the plan, peaks, how long the halt took, who was hit."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bench.fleet.scenario import DAY, HOUR, WAVES_A, WAVES_B, A, B, FleetScenario
from bench.fleet.simulate import NEVER, FleetOutcome
from twinslot.core.waves import PLACES, WHOLE, place_of


def figures(scenario: FleetScenario, outcome: FleetOutcome) -> dict[str, Any]:
    """JSON-ready."""
    halted = scenario.halted
    online = outcome.saw_halt[outcome.saw_halt < NEVER] - halted
    began_a, began_b = outcome.began["A"], outcome.began["B"]
    return {
        "devices": scenario.devices,
        "decisions": outcome.decided,
        "waves": {"A": _waves(scenario, A, WAVES_A, began_a), "B": _waves(scenario, B, WAVES_B, began_b)},
        "requests": {"peak": int(outcome.requests.max()), "mean": float(outcome.requests.mean())}
        | {"peak_minute": _minute(outcome.requests)},
        "bandwidth": {"peak": float(outcome.bandwidth.max()), "peak_at": int(outcome.bandwidth.argmax())}
        | {"mean_of_waves": float(outcome.bandwidth[outcome.bandwidth > 0].mean())},
        "metadata": {
            "peak_minute": _minute(outcome.metadata),
            "mean": float(outcome.metadata.mean()),
            "quiet": float(np.median(outcome.metadata)),
        },
        "halt": {
            "half": float(np.quantile(online, 0.5)),
            "most": float(np.quantile(online, 0.99)),
            "last": float(_last_online(scenario, outcome)),
            "began_after": int(((began_a > halted) & (began_a < NEVER)).sum()),
        },
        "hit": {
            "began": int((began_a < NEVER).sum()),
            "bricked": int(outcome.bricked.sum()),
            "share": float(outcome.bricked.mean()),
            "unhalted": int(scenario.devices * scenario.bricks),
        },
        "finished": {
            "began": int((began_b < NEVER).sum()),
            "waiting": dict(sorted(outcome.waiting.items())),
            "dead": int((outcome.dead & ~outcome.bricked).sum()),
            "dead_began": int((began_b[outcome.dead] < NEVER).sum()),
        },
        "series": {
            "requests": _hourly(outcome.requests.astype(float)),
            "bandwidth": _hourly(outcome.bandwidth),
            "A": _cumulative(began_a, scenario),
            "B": _cumulative(began_b, scenario),
            "halt": [[x, float((online <= x).mean())] for x in np.linspace(0, 3 * HOUR, 60).tolist()],
        },
    }


def _waves(
    scenario: FleetScenario,
    manifest: str,
    plan: tuple[tuple[int, float, float, float], ...],
    began: npt.NDArray[np.float64],
) -> list[dict[str, float]]:
    """Each wave's share of the fleet, by the places that the device's own code draws, and who began of it."""
    places = np.array([place_of(f"device-{number}", manifest) for number in range(scenario.devices)])
    low, found = 0, []
    total = 0
    for share, *_ in plan:
        total += share
        high = total * PLACES // WHOLE
        inside = (places >= low) & (places < high)
        found.append(
            {
                "plan": share / WHOLE,
                "share": float(inside.mean()),
                "off": float(abs(inside.mean() - share / WHOLE)),
                "began": int((began[inside] < NEVER).sum()),
            }
        )
        low = high
    return found


def _last_online(scenario: FleetScenario, outcome: FleetOutcome) -> float:
    """Until the last device that was not away and still lived had seen the halt."""
    seen = outcome.saw_halt
    there = ~outcome.away & (seen < NEVER)
    return float((seen[there] - scenario.halted).max())


def _minute(requests: npt.NDArray[np.int64]) -> float:
    whole = requests[: len(requests) // 60 * 60].reshape(-1, 60)
    return float(whole.mean(axis=1).max())


def _hourly(values: npt.NDArray[np.float64]) -> list[list[float]]:
    whole = values[: len(values) // 3600 * 3600].reshape(-1, 3600)
    return [[number * HOUR, float(peak)] for number, peak in enumerate(whole.max(axis=1))]


def _cumulative(began: npt.NDArray[np.float64], scenario: FleetScenario) -> list[list[float]]:
    times = np.arange(0, scenario.days * DAY, 2 * HOUR)
    known = np.sort(began[began < NEVER])
    return [[float(at), float(np.searchsorted(known, at) / scenario.devices)] for at in times]
