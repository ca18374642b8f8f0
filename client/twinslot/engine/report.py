"""What is known, without changing anything: `status`, `history`, `doctor`. No lock, no bus, no service.

`status` and `history` work for any user from the world-readable record; what only root can read (the raw environment)
is left out for others.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import twinslot
from twinslot.bootloader.base import Bootloader, CopyState, Environment
from twinslot.bootloader.choose import open_bootloader
from twinslot.config import Config
from twinslot.core import stored
from twinslot.core.bootenv import BootState, read_state
from twinslot.core.errors import DeviceError
from twinslot.core.evidence import BootFacts, disagreements, interpret
from twinslot.core.lifecycle import State
from twinslot.core.model import Floors, SlotName, SlotState
from twinslot.core.transaction import Transaction
from twinslot.storage.record import Record
from twinslot.storage.slots import RunningSlot, find_running_slot


def open_record(config: Config) -> Record:
    """The record, for reading.

    Raises:
        DeviceError: There is none yet, or it cannot be read.
    """
    return Record(config.record.directory, lambda: "", read_only=True)


def status(config: Config) -> dict[str, Any]:
    """Everything a person or a monitor asks first, JSON-ready. Missing knowledge is null, never an error."""
    view = _look(config)
    record, env = view.record, view.state
    floors = record.floors() if record else Floors()
    current = record.current() if record else None
    history = record.history(1) if record else []
    return {
        "version": twinslot.__version__,
        "running": view.running.slot,
        "state": _under_way(view, current),
        "slots": {str(name): _slot(view, name) for name in SlotName},
        "floors": stored.write(env.floors.highest(floors) if env else floors),
        "transaction": current.as_dict() if current else None,
        "last": history[0].as_dict() if history else None,
        "failed": {str(sequence): reason for sequence, reason in (record.failed() if record else {}).items()},
        "environment": _environment(view.environment),
    }


def _under_way(view: _View, current: Transaction | None) -> State:
    """The record's word; where it knows of nothing, for it may be lost or its disk full, the environment's (S12)."""
    if current is not None:
        return current.state
    if view.state is None or view.state.trial is None:
        return State.IDLE
    return State.TRIAL if view.state.trial is view.running.slot else State.ARMED


def history(config: Config, limit: int = 50) -> list[dict[str, Any]]:
    """Past transactions, newest first.

    Raises:
        DeviceError: There is no record.
    """
    record = open_record(config)
    try:
        return [transaction.as_dict() for transaction in record.history(limit)]
    finally:
        record.close()


DEADLINE_FILES: Final = tuple(f"/{place}/twinslot/deadline.env" for place in ("usr/lib", "run", "etc"))  # last wins


class Severity(enum.StrEnum):
    """How bad a finding is."""

    FINE = "fine"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Finding:
    """One piece of evidence: where it comes from, what it says, and what to do."""

    area: str
    severity: Severity
    text: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All evidence, and the decision that it leads to."""

    findings: tuple[Finding, ...]
    decision: str

    @property
    def healthy(self) -> bool:
        """No finding is a fault."""
        return all(finding.severity is not Severity.FAULT for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"healthy": self.healthy, "decision": self.decision, "findings": [asdict(f) for f in self.findings]}


def doctor(config: Config) -> Diagnosis:
    """Every piece of evidence about slots, both environment copies and the record. Root is needed for the copies."""
    view = _look(config)
    findings = (
        *_running_findings(view),
        *_environment_findings(view),
        *_record_findings(view),
        *_slot_findings(config),
    )
    return Diagnosis(findings, _decision(view))


@dataclass(frozen=True, slots=True)
class _View:
    running: RunningSlot
    environment: Environment | None
    environment_problem: str
    record: Record | None
    record_problem: str

    @property
    def state(self) -> BootState | None:
        return read_state(self.environment.variables) if self.environment and not self.environment.lost else None


def _look(config: Config) -> _View:
    environment, environment_problem = _read_environment(open_bootloader(config.boot))
    record, record_problem = None, ""
    try:
        record = open_record(config)
    except DeviceError as e:
        record_problem = str(e)
    slot = environment.variables.get("slot") if environment else None
    running = find_running_slot({name: config.slots.of(name) for name in SlotName}, slot)
    return _View(running, environment, environment_problem, record, record_problem)


def _read_environment(bootloader: Bootloader) -> tuple[Environment | None, str]:
    try:
        return bootloader.read(), ""
    except DeviceError as e:
        return None, str(e)


def _slot(view: _View, name: SlotName) -> dict[str, Any]:
    known = view.record.slot(name) if view.record else None
    return {
        "state": view.state.states[name] if view.state else None,
        "running": view.running.slot is name,
        "release": stored.write(known.release) if known else None,
        "installed_at": known.installed_at if known else None,
    }


def _environment(environment: Environment | None) -> dict[str, Any] | None:
    if environment is None:
        return None
    copies = [{"place": copy.place, "state": copy.state, "flags": copy.flags} for copy in environment.copies]
    return {"settled": environment.settled, "lost": environment.lost, "copies": copies}


def _running_findings(view: _View) -> Iterator[Finding]:
    for sentence in view.running.evidence:
        yield Finding("running slot", Severity.FINE, sentence)
    for sentence in view.running.disagreements:
        yield Finding(
            "running slot", Severity.WARNING, sentence, "the root mount decides; look at the boot environment"
        )
    if view.running.slot is None:
        hint = "compare '[slots]' in the configuration with 'findmnt /'"
        yield Finding("running slot", Severity.FAULT, "no configured slot holds the root file system", hint)


def _environment_findings(view: _View) -> Iterator[Finding]:
    if view.environment is None:
        yield Finding("environment", Severity.FAULT, view.environment_problem, "root is needed to read the raw copies")
        return
    for copy in view.environment.copies:
        good = copy.state in (CopyState.CURRENT, CopyState.OLDER)
        text = f"copy at {copy.place} is {copy.state}" + (f", flags {copy.flags}" if copy.flags is not None else "")
        severity = Severity.FINE if good else Severity.FAULT if view.environment.lost else Severity.WARNING
        yield Finding("environment", severity, text, "" if good else "'twinslot boot' repairs it")
    if view.state is None:
        return
    for name in SlotName:
        yield Finding("environment", Severity.FINE, f"slot {name} is {view.state.states[name]}")
    if view.state.reason:
        yield Finding("environment", Severity.FINE, f"the last slot was left because of '{view.state.reason}'")
    if view.running.slot is not None:
        target = view.record.current() if view.record else None
        facts = BootFacts(view.running.slot, "", view.state)
        for sentence in disagreements(facts, target.target if target else None):
            yield Finding("environment", Severity.WARNING, sentence, "'twinslot boot' reconciles it")


def _record_findings(view: _View) -> Iterator[Finding]:
    record = view.record
    if record is None:
        yield Finding("record", Severity.WARNING, view.record_problem, "'twinslot boot' creates or rebuilds it")
        return
    broken = record.first_broken_link()
    if broken is None:
        yield Finding("record", Severity.FINE, "the audit chain holds")
    else:
        yield Finding("record", Severity.FAULT, f"audit row {broken} does not follow from the one before", "tampering?")
    current = record.current()
    text = f"an update to {current.release.name} is in state {current.state}" if current else "no update is under way"
    yield Finding("record", Severity.FINE, text)
    if view.state and view.state.generation < record.generation():
        text = f"the environment went back from generation {record.generation()} to {view.state.generation}"
        yield Finding("record", Severity.WARNING, text, "'twinslot boot' reconciles it")


def _slot_findings(config: Config) -> Iterator[Finding]:
    for name in SlotName:
        for payload, path in config.slots.of(name).items():
            if not Path(path).exists():
                yield Finding("slots", Severity.FAULT, f"'{path}' ({payload} of slot {name}) is missing", "partitions?")


def _default_findings(config: Config) -> Iterator[Finding]:
    """Without the default, a lost environment cannot be rebuilt."""
    path = config.boot.default_env
    if path is not None and path.is_file():
        yield Finding("environment", Severity.FINE, f"'{path}' stands by for when both copies are lost")
    else:
        hint = "set 'boot.default_env' (docs/guide-device.md)"
        yield Finding("environment", Severity.WARNING, f"there is no default environment at '{path}'", hint)


def _deadline_findings(config: Config) -> Iterator[Finding]:
    """The deadline unit needs no Python, so it cannot read the configuration: two places must say the same."""
    seconds = "300"  # as in systemd/deadline
    for path in DEADLINE_FILES:
        with contextlib.suppress(OSError):
            for line in Path(path).read_text().splitlines():
                name, _, value = line.partition("=")
                seconds = value.strip() if name.strip() == "TWINSLOT_DEADLINE" else seconds
    same = seconds == str(config.trial.deadline)
    text = f"the deadline unit waits {seconds} seconds, 'trial.deadline' says {config.trial.deadline}"
    hint = "" if same else f"write TWINSLOT_DEADLINE={config.trial.deadline} to {DEADLINE_FILES[-1]}"
    yield Finding("deadline", Severity.FINE if same else Severity.WARNING, text, hint)


def _decision(view: _View) -> str:
    """In words, what the client would do at its next start, and what would boot."""
    if view.running.slot is None:
        return "nothing is changed: it is not known which slot runs"
    current = view.record.current() if view.record else None
    event = interpret(
        BootFacts(view.running.slot, "", view.state),
        current.target if current else None,
        current.id if current else "",
    )
    if view.state is None:
        return f"slot {view.running.slot} runs; the environment will be rebuilt from the record ({event})"
    boots = view.state.slot if view.state.states[view.state.slot] is not SlotState.BAD else view.state.slot.other
    return f"slot {view.running.slot} runs ({event}); the next boot starts slot {boots}"
