"""Figures of a device over its life: updates, bytes, seconds, starts, checks, wear of its medium. Changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from twinslot.config.options import Config
from twinslot.core.model import SlotName
from twinslot.core.transaction import Transaction
from twinslot.engine.facts import View
from twinslot.storage.wear import read_wear

HISTORY_MAX: Final = 100_000  # updates; a device has some hundreds in its life
BYTES: Final = ("fetched", "written", "copied", "skipped", "zeroed")


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
        "bytes": {name: sum(getattr(each, f"bytes_{name}") for each in history) for name in BYTES},
        "last": _last(history),
        "starts": _starts(view),
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
    return told | {"bytes": {name: getattr(last, f"bytes_{name}") for name in BYTES}, "checks": checks}


def _starts(view: View) -> dict[str, Any]:
    """When each slot last started and was kept, and how many trials started before each end."""
    found = {}
    for name in SlotName:
        known = view.facts.holds(name)
        found[str(name)] = (known.started_at or None) if known else None
    return {"kept": found, "boot": view.facts.boot_id}
