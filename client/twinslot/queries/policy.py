"""What the device's own policy says now: windows, who uses it, what an update waits for. Programs are not asked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from twinslot.config.options import Config
from twinslot.core import stored
from twinslot.core.lifecycle import WAITING
from twinslot.core.waiting import Waiting
from twinslot.engine.facts import View
from twinslot.policy.local import LocalPolicy
from twinslot.policy.waits import WaitsFile

if TYPE_CHECKING:
    from twinslot.core.windows import WindowState


def policy_status(config: Config, view: View) -> dict[str, Any]:
    """For `status`, JSON-ready."""
    policy = LocalPolicy(config, lambda: datetime.now(UTC))
    verified = (view.record.document("verified-date") if view.record else None) or ""
    current = view.facts.record.current if view.facts.record else None
    told = WaitsFile().told() if current is not None and current.state in WAITING else None
    asked = config.policy.consent.mode != "none"
    return {
        "waits": _waits(told),
        "inhibitors": [each.as_dict() for each in policy.inhibitors()],
        "windows": {name: _window(policy.window(name, verified)) for name in ("fetch", "restart")},
        "consent": policy.consent().describe(current.change if current else "") if asked else None,
        "clock_known": policy.clock_known(verified),
    }


def _waits(told: Waiting | None) -> dict[str, Any] | None:
    return None if told is None else {key: value or None for key, value in stored.write(told).items()}


def _window(state: WindowState | None) -> dict[str, Any] | None:
    if state is None:
        return None
    times = {"until": state.until, "next": state.next}
    return {"open": state.open} | {
        name: f"{moment:%Y-%m-%dT%H:%M:%SZ}" if moment else None for name, moment in times.items()
    }
