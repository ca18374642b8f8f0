"""What `doctor` looks at of the device: record, slots, health checks, trust, clock, space, network. See `doctor`."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from twinslot.config.options import DROP_INS
from twinslot.core.errors import DeviceError
from twinslot.core.lifecycle import State
from twinslot.core.model import SlotName, SlotState
from twinslot.engine.anchor import break_of
from twinslot.engine.identity import device_id, fingerprint_of
from twinslot.engine.offered import chosen, recalls_here
from twinslot.engine.report_state import read_state as read_reported
from twinslot.health.directory import shown
from twinslot.health.selection import configured_checks, left_out
from twinslot.health.systemd import is_pattern
from twinslot.payloads.select import HANDLERS
from twinslot.queries.diagnosis import Looked, Scene, Severity
from twinslot.queries.doctor_boot import NOT_READABLE, denied
from twinslot.queries.doctor_use import never_open
from twinslot.queries.offers import poll_state, silent_since
from twinslot.repository.state import PollState
from twinslot.storage.known_lists import ListStore
from twinslot.storage.record.published import Published
from twinslot.storage.record.record import Record
from twinslot.storage.wear import read_wear
from twinslot.trust.kept_roots import CHAIN, NEWEST, read_chain

SPACE: Final = 32 << 20  # bytes: lists of up to 8 MiB for each slot (core/manifest.py), twice while replaced
NEAR: Final = timedelta(days=60)  # time to make a new root and ship it with a release

_RULES: Final = "see 'Health checks' in /usr/share/doc/twinslot/guide-device.md"
_REPORT: Final = "rows were changed or lost; keep a copy of the record and report it"
_FIRST_ROOT: Final = "put the first root.json there (/usr/share/doc/twinslot/guide-device.md)"


def record(scene: Scene) -> Looked:
    """The database, its chain, and what is under way."""
    found = scene.view.record
    if found is None:
        if denied(scene, scene.view.record_problem):
            yield Severity.UNKNOWN, NOT_READABLE, ""
        else:
            problem = scene.view.record_problem.partition(" (hint: ")[0]
            yield Severity.WARNING, problem, "'twinslot boot' creates or rebuilds it"
        return
    broken = found.first_broken_link() if isinstance(found, Record) else None
    if isinstance(found, Published):
        yield Severity.UNKNOWN, f"the audit chain is {NOT_READABLE}", ""
    elif broken is None:
        yield Severity.FINE, "the audit chain holds", ""
        yield from _anchored(scene, found)
    else:
        text = f"audit row {broken} does not follow from the one before"
        yield Severity.FAULT, text, _REPORT
    current = found.current()
    text = f"an update to {current.release.name} is in state {current.state}" if current else "no update is under way"
    yield Severity.FINE, text, ""


def _anchored(scene: Scene, found: Record | Published) -> Looked:
    """Whether the rows are those of which the boot environment has the end (S25)."""
    state = scene.view.facts.state
    if state is None or state.anchor is None or isinstance(found, Published):
        return
    kind = break_of(found, state.anchor)
    if kind:
        known = f"has the end at row {state.anchor.number} ({kind})"
        yield Severity.FAULT, f"the audit is not the one of which the boot environment {known}", _REPORT
    else:
        yield Severity.FINE, f"the boot environment has the end of the audit at row {state.anchor.number}", ""


def partitions(scene: Scene) -> Looked:
    """Whether every configured device is there, and every type of payload known."""
    for payload, kind in sorted(scene.config.slots.types.items()):
        if kind not in HANDLERS:
            text = f"payload '{payload}' is of type '{kind}', which this client does not know"
            yield Severity.FAULT, text, f"set 'slots.types' in the configuration; known: {', '.join(sorted(HANDLERS))}"
    for name in SlotName:
        for payload, path in scene.config.slots.of(name).items():
            if not path.exists():
                text = f"'{path}' ({payload} of slot {name}) does not exist"
                yield Severity.FAULT, text, "does the partition table have a partition of this name?"


def other_slot(scene: Scene) -> Looked:
    """What is there to go back to, and whether it still begins as it was installed."""
    facts = scene.view.facts
    if facts.running is None or facts.state is None or facts.record is None:
        return
    other = facts.state.way_back(facts.running)
    state, known = facts.state.states[other], facts.holds(other)
    current = facts.record.current
    if facts.under_way is State.ARMED and current is not None and current.target is other:
        yield Severity.FINE, f"slot {other} holds {current.release.name}, which starts on trial next", ""
    elif state is SlotState.BAD:
        yield Severity.FINE, f"slot {other} holds no release that boots", ""
    elif known is None:
        text = f"slot {other} is {state}, and the record does not know what it holds"
        yield Severity.WARNING, text, "a rollback to it is refused; install a release into it"
    elif changed := _changed(scene, other):
        hint = "do not roll back to it; install a release into it"
        yield Severity.FAULT, f"slot {other} is {state}, and payload '{changed}' no longer begins as installed", hint
    else:
        yield Severity.FINE, f"slot {other} is {state} and holds {known.release.name}", ""


def fallback(scene: Scene) -> Looked:
    """Whether the whole of it was read since it was installed, and how that ended."""
    facts = scene.view.facts
    if facts.state is None or facts.record is None or facts.way_back is None:
        return
    found = facts.fallback
    known = facts.holds(found.slot)
    if facts.state.states[facts.way_back] is SlotState.BAD or known is None:  # `other_slot` tells
        return
    if known.unsound:
        yield Severity.FAULT, found.why, "do not roll back to it; install a release into it"
    elif found.proven is None:
        yield Severity.WARNING, found.why, "'twinslot scrub' reads it; twinslot-scrub.timer does so now and then"
    else:
        yield Severity.FINE, f"slot {found.slot} was read whole at {known.read_at}", ""


def _changed(scene: Scene, slot: SlotName) -> str:
    """The first payload whose first group is not the one on its plain list; empty: none, as far as can be seen."""
    store = ListStore(scene.config.record.directory / "lists")
    for payload, path in scene.config.slots.of(slot).items():
        known = store.load(slot, payload)
        if known is None:
            continue
        try:
            with path.open("rb") as file:
                first = file.read(min(known.group_size, known.size))
        except OSError:
            continue
        if hashlib.sha256(first).digest() != known.group_digest(0):
            return payload
    return ""


def drop_ins(scene: Scene) -> Looked:
    """Files beside the configuration that look like a part of it and are none."""
    for place in DROP_INS:
        directory = scene.below(place)
        try:
            names = sorted(path.name for path in directory.iterdir())
        except OSError:
            continue
        for name in names:
            if name.startswith(".") or not name.endswith(".toml"):
                text = f"'{shown(name)}' in /{place} is not read"
                yield Severity.WARNING, text, "name it with .toml at the end and no dot in front, or remove it"
            elif not (directory / name).is_file() and os.path.realpath(directory / name) != os.devnull:
                text = f"'{shown(name)}' in /{place} is not read: it is no file, or a link to nowhere"
                yield Severity.WARNING, text, "remove it, or make it a file"


def health_checks(scene: Scene) -> Looked:
    """What is asked before a commit."""
    try:
        checks = configured_checks(scene.config.health)
    except DeviceError as e:
        yield Severity.FAULT, str(e), ""
        return
    aside = left_out(checks)
    for each in aside:
        severity = Severity.FAULT if each.terms.required else Severity.WARNING
        yield (
            severity,
            f"'{each.name}' is not asked: {each.why}",
            _RULES,
        )
    for unit in filter(is_pattern, scene.config.health.units):
        yield Severity.FAULT, f"'{unit}' is a pattern of units, so its check fails", "name each unit in 'health.units'"
    renamed = [check.name for check in checks if check not in aside and check.name.endswith(")") and " (" in check.name]
    names = {check.name for check in checks}
    for name in renamed:
        if name.rpartition(" (")[0] in names and name.rpartition(" (")[2].rstrip(")").isdigit():
            yield Severity.WARNING, f"two health checks have one name; the second is asked as '{name}'", "rename one"
    asked = len(checks) - len(aside)
    required = sum(check.terms.required for check in checks if check not in aside)
    if not required:
        text = "no required health check is configured: every release that starts is committed"
        yield Severity.WARNING, text, "add programs to /etc/twinslot/health.d, or units to 'health.units'"
    else:
        yield Severity.FINE, f"{asked} health check{'s' if asked != 1 else ''}, {required} required", ""


def trust(scene: Scene) -> Looked:
    """The root of trust and its dates, and those of the documents that came with the running release."""
    from twinslot.trust.roots import walk

    path = scene.config.trust.root
    try:
        walked = walk(path.read_bytes(), kept := _kept_roots(scene))
    except OSError as e:
        if denied(scene, str(e)):
            yield Severity.UNKNOWN, NOT_READABLE, ""
        else:
            hint = _FIRST_ROOT
            yield Severity.FAULT, f"the root of trust '{path}' cannot be read: found '{e.strerror}'", hint
        return
    except DeviceError:
        yield Severity.FAULT, f"'{path}' is no root document, or its signatures do not hold", _FIRST_ROOT
        return
    if walked.stopped is not None:
        count, why = len(kept) - walked.fit, walked.stopped.message
        what = (
            f"{count} of {len(kept)} root documents in the record do not follow from '{path}' and do not count: {why}"
        )
        yield Severity.WARNING, what, "somebody changed the record; the next image brings the roots that follow"
    expires = walked.newest.metadata.signed.expires
    yield _dated(scene, "the root document", expires, "make a new root with 'twinslot-image keys rotate'")
    for what, moment in _kept_dates(scene):
        yield _dated(scene, f"the {what} of the running release", moment, "install a newer release")


# keeps: S24
def _kept_roots(scene: Scene) -> tuple[bytes, ...]:
    record = scene.view.record
    return read_chain(record.document(CHAIN), record.document(NEWEST)) if record else ()


def _kept_dates(scene: Scene) -> list[tuple[str, datetime]]:
    text = scene.view.record.document("dates") if scene.view.record else None
    try:
        dates = json.loads(text or "{}")
        return [(what, datetime.fromisoformat(moment)) for what, moment in dates.items() if not what.startswith("root")]
    except (ValueError, TypeError, AttributeError):
        return []


def _dated(scene: Scene, what: str, expires: datetime, hint: str) -> tuple[Severity, str, str]:
    day = f"{expires.astimezone(UTC):%Y-%m-%d}"
    if expires <= scene.now:
        return Severity.WARNING, f"{what} expired on {day}", hint
    if expires - scene.now < NEAR:
        return Severity.WARNING, f"{what} expires soon, on {day}", hint
    return Severity.FINE, f"{what} expires on {day}", ""


def clock(scene: Scene) -> Looked:
    """Whether the clock can be believed (S16)."""
    build = scene.config.trust.build_time
    if build is None:
        hint = "stamp 'trust.build_time' when the root file system is built"
        yield Severity.WARNING, "'trust.build_time' is not set: a clock at 1970 is believed", hint
    verified = scene.view.record.document("verified-date") if scene.view.record else None
    known = [("the build time of this system", build)] if build else []
    if verified:
        known.append(("what was verified before", datetime.fromisoformat(verified)))
    late = [(what, moment) for what, moment in known if scene.now < moment]
    for what, moment in late:
        text = f"the clock says {_time(scene.now)}, which is before {what} ({_time(moment)})"
        yield Severity.WARNING, text, "check the clock's battery, or set the time from the network"
    yield from never_open(scene, verified or "")
    if not late:
        yield Severity.FINE, f"the clock says {_time(scene.now)}", ""


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def space(scene: Scene) -> Looked:
    """Room on the data partition."""
    directory = _existing(scene.config.record.directory)
    try:
        free = shutil.disk_usage(directory).free
    except OSError as e:
        text = f"'{directory}' cannot be looked at: found '{e.strerror}'"
        yield Severity.WARNING, text, "is the data partition mounted?"
        return
    text = f"'{directory}' has {free >> 20} MiB free"
    if free < SPACE:
        yield Severity.WARNING, text, f"make room: lists and record need up to {SPACE >> 20} MiB"
    else:
        yield Severity.FINE, text, ""
    if scene.is_root and not os.access(directory, os.W_OK):
        yield Severity.WARNING, f"'{directory}' is not writable", "is the data partition mounted read-only?"


def _existing(directory: Path) -> Path:
    return next((path for path in (directory, *directory.parents) if path.exists()), directory)


def addresses(scene: Scene) -> Looked:
    """Whether servers are asked in the clear."""
    if "http" in scene.config.http.schemes:
        text = "addresses that begin with http:// are allowed: others can see and delay what is fetched"
        yield Severity.WARNING, text, "set 'http.schemes' to [\"https\"] where the server has a certificate"
    else:
        yield Severity.FINE, "servers are asked over TLS only", ""


_STALE: Final = {
    "frozen": "what the repository gives has expired: what is new is held back, or the maker has stopped publishing",
    "refused": "what the repository gives is not trusted",
    "silent": "the repository has given nothing fresh for a long time",
}


def repository(scene: Scene) -> Looked:
    """Whether the device hears of new releases."""
    config = scene.config.repository
    state = poll_state(scene.config)
    if not config.url:
        told = f"; what '{state.source}' had was fresh until {state.expires}" if state.source else ""
        yield Severity.FINE, f"no repository is configured: nobody tells this device of new releases{told}", ""
        yield from _offered(scene, state)
        return
    last = f"; the last fresh answer came at {state.fresh}" if state.fresh else ""
    if not state.first:
        text, hint = (
            f"'{config.url}' was never asked",
            "'systemctl enable --now twinslot-poll.timer', or 'twinslot poll'",
        )
        yield Severity.WARNING, text, hint
    elif state.stale or silent_since(scene.config, state, scene.now):
        why, error = _STALE.get(state.stale, _STALE["silent"]), state.error.get("message")
        text = f"{why}{last}" + (f": {error}" if error else "")
        yield Severity.WARNING, text, "'twinslot poll' asks again; is the address right, and does the maker know?"
    elif state.failures:
        text = f"the last {state.failures} polls failed{last}: {state.error.get('message', 'no reason is known')}"
        yield Severity.WARNING, text, "'twinslot poll' asks again"
    else:
        yield Severity.FINE, f"the repository is fresh until {state.expires}", ""
    yield from _offered(scene, state)
    if not config.root.is_file():
        yield Severity.FAULT, f"there is no '{config.root}'", "put the first root of the repository there"


# keeps: REQ-REP-02
def _offered(scene: Scene, state: PollState) -> Looked:
    """What the repository says of the releases that are here."""
    for slot, (release, recall) in recalls_here(scene.config, scene.view.facts, state).items():
        runs = slot is scene.view.facts.running
        text = f"the maker has recalled {release.name} in slot {slot}{', which runs' if runs else ''}: {recall.reason}"
        hint = "'twinslot status' says what becomes of it" if runs else "install another release before one goes back"
        yield Severity.FAULT if runs else Severity.WARNING, text, hint
    choice = chosen(scene.config, scene.view.facts, state, scene.now)
    if choice.dead_end and choice.offer is not None:
        text = f"a dead end: {choice.offer.name} and whatever else is offered cannot follow the release that runs"
        yield Severity.WARNING, text, "ask the maker for a release that can"
    for role, why in state.unapproved.items():
        yield Severity.WARNING, f"role '{role}' approves nothing: {why}", "the maker's 'repository approve' does it"
    if state.identity and state.identity != fingerprint_of(device_id(scene.config)):
        text = "the id of this device is another one than at the last poll, and so is its place in each wave"
        yield Severity.WARNING, text, "is 'repository.device_id' a file that stays the same over updates?"


USED_UP: Final = 90  # hundredths of its life after which a medium is worth a warning


def wear(scene: Scene) -> Looked:
    """Whether the flash memory lasts."""
    found = read_wear(scene.root / "sys")
    for each in found:
        used = max(each.used_a or 0, each.used_b or 0)
        text = f"'{each.name}' ({each.product}) says that {used} % of its life are used"
        text += f", spare blocks: {each.spare}" if each.spare else ""
        if used >= USED_UP or each.spare in ("warning", "urgent"):
            yield Severity.WARNING, text, "plan to replace the medium: writes may begin to fail"
        else:
            yield Severity.FINE, text, ""
    if not found:
        yield Severity.FINE, "no medium says how much of its life is used", ""


def reports(scene: Scene) -> Looked:
    """Whether the maker hears of this device."""
    config = scene.config.reports
    if not (config.url or config.directory or config.beside_repository):
        yield Severity.FINE, "no destination is configured: nobody is told what becomes of updates", ""
        return
    state = read_reported(scene.config.record.directory)
    if state.failures:
        text = f"the last {state.failures} runs were not taken: {state.error.get('message', 'no reason is known')}"
        yield Severity.WARNING, text, "'twinslot report' tries again; is 'reports.url' right?"
        return
    last = max((place.at for place in state.places.values()), default="")
    yield Severity.FINE, f"the last report was taken at {last}" if last else "nothing was reported yet", ""
