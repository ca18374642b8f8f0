"""What `doctor` looks at of who uses the device: an inhibitor that never goes holds every update, and is not ended."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from twinslot.core.inhibitors import lasted
from twinslot.policy.local import LocalPolicy
from twinslot.queries.diagnosis import Looked, Scene, Severity

LEAST: Final = 3600.0  # seconds; whoever lets people hold nothing is not warned of each use of the device
DAY: Final = 86_400


def in_use(scene: Scene) -> Looked:
    """Who has held the device for longer than the policy lets updates wait for people; bounds no one, and says so."""
    limit, found = _limit(scene), LocalPolicy(scene.config, lambda: scene.now, root=scene.root).inhibitors()
    uptime = _uptime(scene.root)
    for each in found:
        seconds = lasted(each, scene.now.timestamp(), uptime)
        text = f"'{each.who}' ({each.source}) uses the device{_since(scene.now, seconds)}: {each.why}"
        if seconds is not None and seconds > limit:
            hint = "updates wait for it, and nothing ends it: does it still hold for a reason?"
            yield Severity.WARNING, text, hint
        else:
            yield Severity.FINE, text, ""
    if not found:
        yield Severity.FINE, "nobody says that the device is in use; programs in 'ready.d' were not asked", ""


def never_open(scene: Scene, verified: str) -> Looked:
    """The steps for which there are windows, of which none is left.

    Args:
        scene: What is looked at.
        verified: The date that was verified last, ISO 8601; empty: none was.
    """
    policy = LocalPolicy(scene.config, lambda: scene.now, root=scene.root)
    for step in ("fetch", "restart") if policy.clock_known(verified) else ():
        state = policy.window(step, verified)
        if state is not None and not state.open and state.next is None:
            hint = f"an update would wait for one for ever: see the calendars of 'policy.{step}_window'"
            yield Severity.WARNING, f"no '{step}' window is open, and none ever opens again", hint


def _limit(scene: Scene) -> float:
    """Seconds: `policy.consent.limit`, or `limit_security` where a security update waits."""
    people, current = scene.config.policy.consent, scene.view.facts.record.current if scene.view.facts.record else None
    security = current is not None and current.change == "security"
    return max(LEAST, people.limit_security if security else people.limit)


def _since(now: datetime, seconds: float | None) -> str:
    if seconds is None:
        return ""
    begin = datetime.fromtimestamp(now.timestamp() - seconds, UTC)
    return f" since {begin:%Y-%m-%d %H:%M} UTC, for {seconds / DAY:.1f} days"


def _uptime(root: Path) -> float | None:
    """Seconds since the start; None: it cannot be told."""
    try:
        return float((root / "proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None
