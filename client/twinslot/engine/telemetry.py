"""Figures of a device over its life: updates, bytes, seconds, starts, checks, wear of its medium. Changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from twinslot.config.options import Config
from twinslot.core.model import SlotName
from twinslot.core.transaction import BYTES, Transaction
from twinslot.engine.facts import View
from twinslot.storage.wear import read_wear

HISTORY_MAX: Final = 100_000  # updates; a device has some hundreds in its life


def telemetry(config: Config, view: View, system: Path = Path("/sys")) -> dict[str, Any]:
    """JSON-ready. What is not known is null or absent.

    Args:
        config: Of this device.
        view: What is true of it.
        system: Where the kernel shows its devices.
    """
    history = view.record.history(HISTORY_MAX) if view.record else []
    return {
        "updates": _outcomes(history),
        "bytes": {name: sum(each.moved[name] for each in history) for name in BYTES},
        "last": _last(history),
        "starts": _starts(view, history),
        "wear": [each.as_dict() for each in read_wear(system)],
        "directory": str(config.record.directory),
    }


def _outcomes(history: Iterable[Transaction]) -> list[dict[str, Any]]:
    """How many updates ended in which way."""
    ended = ((str(each.kind), str(each.outcome), each.reason) for each in history if each.outcome is not None)
    return [
        {"kind": kind, "outcome": outcome, "reason": reason, "count": count}
        for (kind, outcome, reason), count in sorted(Counter(ended).items())
    ]


def _last(history: Iterable[Transaction]) -> dict[str, Any] | None:
    """Of the last update that ended: seconds by phase, bytes and checks."""
    last = next((each for each in history if each.outcome is not None), None)
    if last is None:
        return None
    checks = [{"name": each.name, "passed": each.passed, "required": each.required} for each in last.checks]
    told = {"id": last.id, "outcome": str(last.outcome), "ended": last.ended, "seconds": dict(last.seconds)}
    return told | {"bytes": last.moved, "checks": checks}


def _starts(view: View, history: Iterable[Transaction]) -> dict[str, Any]:
    """When each slot last started and was kept, and how many starts on trial came before each kind of end."""
    kept: dict[str, str | None] = {}
    for name in SlotName:
        known = view.facts.holds(name)
        kept[str(name)] = (known.started_at or None) if known else None
    trials: Counter[tuple[str, str]] = Counter()
    for each in history:
        if each.outcome is not None and each.boots:
            trials[str(each.outcome), each.reason] += len(each.boots)
    listed = [{"outcome": outcome, "reason": why, "count": count} for (outcome, why), count in sorted(trials.items())]
    return {"kept": kept, "boot": view.facts.boot_id, "trials": listed}
