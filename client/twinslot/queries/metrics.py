"""`metrics`: what a monitoring system asks of this device, as OpenMetrics text. Changes nothing; any user may ask.

Names and labels are public: add, never change (docs/guide-repository.md lists them).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import twinslot
from twinslot.config.options import Config
from twinslot.core.lifecycle import State
from twinslot.core.model import SlotName, SlotState
from twinslot.core.openmetrics import Family, render
from twinslot.core.stored import is_known
from twinslot.engine.facts import View, look
from twinslot.engine.offered import chosen, recalls_here
from twinslot.engine.report_state import place_beside, read_state
from twinslot.engine.telemetry import telemetry
from twinslot.engine.trust_time import trust_time
from twinslot.queries.offers import poll_state
from twinslot.queries.status import knows_repository, under_way

_SPARE: Final = {"normal": 0, "warning": 1, "urgent": 2}


def metrics(config: Config, system: Path = Path("/sys")) -> str:
    """The text.

    Args:
        config: Of this device.
        system: Where the kernel shows its devices.
    """
    with look(config) as view:
        figures = telemetry(config, view, system)
        families = [*_device(view), *_updates(figures), *_wear(figures), *_repository(config, view), *_reports(config)]
    return render(families)


def _device(view: View) -> Iterator[Family]:
    facts = view.facts
    yield Family("twinslot_client_info", "gauge", "the client that answers").add(1, version=twinslot.__version__)
    slots = Family("twinslot_slot_info", "gauge", "what each slot holds and in which state it is")
    running = Family("twinslot_slot_running", "gauge", "1 for the slot that runs")
    for name in SlotName:
        known = facts.holds(name)
        state = facts.state.states[name] if facts.state else None
        release = known.release if known else None
        slots.add(
            1,
            slot=name,
            state=str(state) if state else "unknown",
            release=release.name if release else None,
            sequence=str(release.sequence) if release else None,
        )
        running.add(1 if facts.running is name else 0, slot=name)
    yield from (slots, running)
    standing = Family("twinslot_update_state", "gauge", "1 for the state in which the update is that is under way")
    for each in State:
        standing.add(1 if under_way(facts) is each else 0, state=each)
    if not is_known(under_way(facts)):
        standing.add(1, state=str(under_way(facts)))
    yield standing
    back = facts.fallback
    proven = Family("twinslot_fallback_proven_timestamp_seconds", "gauge", "when the way back was proven", "seconds")
    yield proven.add(back.proven.timestamp() if back.proven else None)
    good = bool(facts.state and facts.way_back and facts.state.states[facts.way_back] is SlotState.GOOD)
    yield Family("twinslot_fallback_good", "gauge", "1 when there is a committed release to go back to").add(int(good))
    floors = Family("twinslot_floor", "gauge", "the lowest that is still accepted")
    yield floors.add(facts.floors.sequence, of="sequence").add(facts.floors.epoch, of="epoch")


def _updates(figures: dict[str, Any]) -> Iterator[Family]:
    ended = Family("twinslot_updates", "counter", "updates that ended, by how and why")
    for each in figures["updates"]:
        ended.add(each["count"], kind=each["kind"], outcome=each["outcome"], reason=each["reason"])
    yield ended
    total = Family("twinslot_update_bytes", "counter", "bytes of all updates since the record was begun", "bytes")
    for name, count in figures["bytes"].items():
        total.add(count, how=name)
    yield total
    starts = Family("twinslot_trial_starts", "counter", "starts on trial, by how and why the update ended")
    for each in figures["starts"]["trials"]:
        starts.add(each["count"], outcome=each["outcome"], reason=each["reason"])
    yield starts
    last = figures["last"]
    if last is None:
        return
    ended_at = Family("twinslot_last_update_timestamp_seconds", "gauge", "when the last update ended", "seconds")
    yield ended_at.add(_timestamp(last["ended"]), outcome=last["outcome"])
    seconds = Family(
        "twinslot_last_update_phase_seconds", "gauge", "what each phase of the last update took", "seconds"
    )
    for phase, value in last["seconds"].items():
        seconds.add(value, phase=phase)
    yield seconds
    size = Family("twinslot_last_update_size_bytes", "gauge", "bytes of the last update", "bytes")
    for name, count in last["bytes"].items():
        size.add(count, how=name)
    yield size
    checks = Family("twinslot_check_passed", "gauge", "1 for each health check of the last update that passed")
    for check in last["checks"]:
        checks.add(int(check["passed"]), check=check["name"], required="yes" if check["required"] else "no")
    yield checks


def _wear(figures: dict[str, Any]) -> Iterator[Family]:
    used = Family("twinslot_storage_life_used_ratio", "gauge", "how much of its life an eMMC says is used", "ratio")
    spare = Family("twinslot_storage_spare_blocks", "gauge", "spare blocks of an eMMC: 0 normal, 1 warning, 2 urgent")
    for each in figures["wear"]:
        for kind in ("a", "b"):
            value = each[f"used_{kind}"]
            used.add(value / 100 if value is not None else None, device=each["name"], type=kind)
        spare.add(_SPARE.get(each["spare"]), device=each["name"])
    yield from (used, spare)


def _repository(config: Config, view: View) -> Iterator[Family]:
    if not knows_repository(config):
        return
    state = poll_state(config)
    fresh = Family("twinslot_repository_fresh_timestamp_seconds", "gauge", "the last fresh answer", "seconds")
    yield fresh.add(_timestamp(state.fresh))
    yield Family("twinslot_repository_failures", "gauge", "polls that failed in a row").add(state.failures)
    stale = Family("twinslot_repository_stale", "gauge", "1 while the repository gives nothing trusted and fresh")
    yield stale.add(int(bool(state.stale)), why=state.stale)
    verified = view.record.document("verified-date") if view.record else None
    choice = chosen(config, view.facts, state, trust_time(config, verified).reference)
    offered = Family("twinslot_offer_info", "gauge", "what is offered, and whether the device may take it now")
    if choice.offer is not None:
        release = choice.offer
        offered.add(1, release=release.name, sequence=str(release.sequence), ready="no" if choice.why else "yes")
    yield offered
    recalled = Family("twinslot_recalled", "gauge", "1 for a slot whose release must not run")
    found = recalls_here(config, view.facts, state)
    for name in SlotName:
        recalled.add(int(name in found), slot=name)
    yield recalled


def _reports(config: Config) -> Iterator[Family]:
    if not config.reports.url and config.reports.directory is None and not config.reports.beside_repository:
        return
    state = read_state(config.record.directory)
    yield Family("twinslot_report_failures", "gauge", "runs in a row that the server did not take").add(state.failures)
    last = Family("twinslot_report_timestamp_seconds", "gauge", "when a destination last took a report", "seconds")
    row = Family("twinslot_report_row", "gauge", "number of the last row of the audit that a destination has")
    directory, stick = config.reports.directory, place_beside(config)
    destinations = {"server": config.reports.url, "directory": str(directory or ""), "stick": str(stick or "")}
    for kind, name in destinations.items():
        if name and (place := state.places.get(name)):
            last.add(_timestamp(place.at), destination=kind)
            row.add(place.number, destination=kind)
    yield from (last, row)


def _timestamp(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
