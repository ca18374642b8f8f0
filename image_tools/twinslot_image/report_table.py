"""What all reports come to: who runs what, who failed and why, who is silent, who is there twice. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from twinslot.core.events import ENDS, AuditEvent
from twinslot.core.offer import Offer, Offered
from twinslot.core.recall import recall_of
from twinslot.core.text import printable
from twinslot.core.waves import place_of, turn_of
from twinslot_image.report_read import AHEAD, TEXT_MAX, Collected, DeviceHistory

COLUMNS: Final = (
    "device",
    "key",
    "known",
    "release",
    "sequence",
    "state",
    "outcome",
    "reason",
    "checks",
    "last",
    "silent",
    "recalled",
    "late",
    "broken",
)


@dataclass(frozen=True, slots=True)
class DeviceLine:
    """One device in the table.

    Attributes:
        device: Its id, as it says.
        key: Fingerprint.
        known: The key is one of those that are known.
        release: What runs, by its last report.
        sequence: Of that; 0: not known.
        state: Of an update that is under way.
        outcome: How its last update ended; empty: none ended.
        reason: Why not well; empty: well.
        checks: Names of the health checks that failed, joined.
        last: When it last reported.
        silent: It is longer ago than it should be.
        recalled: What it runs is recalled.
        late: Release whose wave has ended without it; silence counts as failure. Empty: none.
        broken: Where its rows do not follow each other.
    """

    device: str
    key: str
    known: bool
    release: str
    sequence: int
    state: str
    outcome: str
    reason: str
    checks: str
    last: datetime
    silent: bool
    recalled: bool
    late: str
    broken: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tabulated:
    """The table and what it comes to."""

    lines: tuple[DeviceLine, ...]
    twins: Mapping[str, tuple[str, ...]]  # device id -> fingerprints of all keys that use it
    ends: tuple[tuple[datetime, str, str, str], ...]  # when, device key, event, release: of every update that ended
    refused: Mapping[str, str]
    twice: int

    @property
    def releases(self) -> Counter[str]:
        """How many devices run each release."""
        return Counter(line.release for line in self.lines)

    @property
    def reasons(self) -> Counter[str]:
        """Why updates ended without a commit."""
        return Counter(line.reason for line in self.lines if line.reason)


def tabulate(
    collected: Collected, now: datetime, silence: timedelta, offered: Mapping[str, Offered] | None = None
) -> Tabulated:
    """Judge what was collected.

    Args:
        collected: The reports.
        now: When it is judged.
        silence: Longer without a report than this, a device counts as silent.
        offered: What a repository offers by device type, to know whose wave has ended; None: not asked.
    """
    histories = sorted(
        collected.devices.values(), key=lambda each: (_text(each.newest(now).device.get("id")), each.key)
    )
    lines = tuple(_line(each, now, silence, offered or {}) for each in histories)
    by_id: dict[str, list[str]] = {}
    for line in lines:
        by_id.setdefault(line.device, []).append(line.key)
    twins = {device: tuple(keys) for device, keys in by_id.items() if device and len(keys) > 1}
    ends = tuple(sorted(end for each in histories for end in _ends(each)))
    return Tabulated(lines, twins, ends, collected.refused, collected.twice)


def _line(history: DeviceHistory, now: datetime, silence: timedelta, offered: Mapping[str, Offered]) -> DeviceLine:
    newest = history.newest(now)
    running = _mapping(_mapping(newest.status.get("slots")).get(str(newest.status.get("running"))))
    release = _mapping(running.get("release"))
    sequence = release.get("sequence")
    sequence = sequence if isinstance(sequence, int) else 0
    outcome, reason, checks = _last_end(history)
    mine = [offered[name] for name in _names(newest.device.get("compatible")) if name in offered]
    return DeviceLine(
        device=_text(newest.device.get("id")),
        key=history.key,
        known=newest.known,
        release=_text(release.get("name")) or "not known",
        sequence=sequence,
        state=_text(newest.status.get("state")),
        outcome=outcome,
        reason=reason,
        checks=checks,
        last=newest.at,
        silent=now - newest.at > silence,
        recalled=any(recall_of(each.recalls, sequence, _text(release.get("manifest"))) for each in mine),
        late=_late(newest.device, sequence, mine, now),
        broken=(*history.broken, *_ahead(newest.at, now)),
    )


def _ahead(last: datetime, now: datetime) -> Iterator[str]:
    """A device whose clock is wrong is never silent by its own dates."""
    if last > now + AHEAD:
        yield f"its last report is dated {last:%Y-%m-%d}, so whether it is silent is not known"


def _last_end(history: DeviceHistory) -> tuple[str, str, str]:
    """Outcome, reason and failed checks of the last update that ended, from its row (S10)."""
    rows = [row for report in history.reports for row in report.rows if row["event"] in ENDS]
    if not rows:
        return "", "", ""
    last = max(rows, key=lambda row: row["number"])
    fields = _mapping(last["fields"])
    updates = (each for report in history.reports for each in report.updates)
    update = next((each for each in updates if each.get("id") == fields.get("transaction")), {})
    failed = [_text(each.get("name")) for each in update.get("checks", []) if each.get("passed") is False]
    reason = "" if last["event"] == AuditEvent.COMMITTED else _text(fields.get("reason")) or "not said"
    return str(last["event"]), reason, ", ".join(failed)


def _late(device: Mapping[str, Any], sequence: int, offered: Iterable[Offered], now: datetime) -> str:
    """The newest release whose wave has ended for this device, and that it does not run."""
    ended = [
        offer
        for each in offered
        for offer in each.offers
        if offer.sequence > sequence and not offer.halted and _has_ended(offer, device, now)
    ]
    return max(ended, key=lambda offer: offer.sequence).name if ended else ""


def _has_ended(offer: Offer, device: Mapping[str, Any], now: datetime) -> bool:
    turn = turn_of(offer.waves, place_of(str(device.get("id", "")), offer.manifest), _text(device.get("ring")))
    return turn is not None and turn.wave.end is not None and turn.wave.end < now


def _ends(history: DeviceHistory) -> Iterable[tuple[datetime, str, str, str]]:
    seen = set()
    for report in history.reports:
        for row in report.rows:
            if row["event"] in ENDS and row["number"] not in seen:
                seen.add(row["number"])
                yield (
                    _moment(row["at"], report.at),
                    history.key,
                    row["event"],
                    _text(_mapping(row["fields"]).get("release")),
                )


def _moment(text: str, otherwise: datetime) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else otherwise
    except (ValueError, OverflowError):  # before the year 1 or after 9999, where its zone is taken off
        return otherwise


def _names(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return printable(str(value))[:TEXT_MAX] if value not in (None, "") else ""
