"""What is known, without changing anything: `status`, `history`. No lock, no bus, no service.

Both work for any user, from what is published beside the record; what only root can read (the raw environment) is left
out for others. `doctor` looks at the same evidence and more (`engine.doctor`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import twinslot
from twinslot.bootloader.base import Bootloader, Environment
from twinslot.bootloader.select import open_bootloader
from twinslot.config.options import Config
from twinslot.core import stored
from twinslot.core.boot_variables import BootState, read_state
from twinslot.core.errors import DeviceError
from twinslot.core.lifecycle import State
from twinslot.core.model import Floors, SlotName
from twinslot.core.transaction import Transaction
from twinslot.storage.record.published import Published
from twinslot.storage.record.record import FILE_NAME, Record
from twinslot.storage.running_slot import RunningSlot, find_running_slot


def open_record(config: Config) -> Record | Published:
    """The record, for reading; for whoever may not read it, what is published of it.

    Raises:
        DeviceError: There is none yet, or it cannot be read.
    """
    directory = config.record.directory
    database = directory / FILE_NAME
    if database.exists() and not os.access(database, os.R_OK, effective_ids=True):
        return Published(directory)
    return Record(directory, lambda: "", read_only=True)


def status(config: Config) -> dict[str, Any]:
    """Everything a person or a monitor asks first, JSON-ready. Missing knowledge is null, never an error."""
    view = _look(config)
    try:
        return _told(view)
    finally:
        view.close()


def _told(view: _View) -> dict[str, Any]:
    record, env = view.record, view.state
    floors = record.floors() if record else Floors()
    current = record.current() if record else None
    ended = [each for each in record.history(2) if current is None or each.id != current.id] if record else []
    return {
        "version": twinslot.__version__,
        "running": view.running.slot,
        "state": _under_way(view, current),
        "slots": {str(name): _slot(view, name) for name in SlotName},
        "floors": stored.write(env.floors.highest(floors) if env else floors),
        "transaction": current.as_dict() if current else None,
        "last": ended[0].as_dict() if ended else None,
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


@dataclass(frozen=True, slots=True)
class _View:
    running: RunningSlot
    environment: Environment | None
    environment_problem: str
    record: Record | Published | None
    record_problem: str

    def close(self) -> None:
        if self.record is not None:
            self.record.close()

    @property
    def state(self) -> BootState | None:
        return read_state(self.environment.variables) if self.environment and not self.environment.lost else None


def _look(config: Config, find: Callable[..., RunningSlot] = find_running_slot) -> _View:
    environment, environment_problem = _read_environment(open_bootloader(config.boot))
    record: Record | Published | None = None
    record_problem = ""
    try:
        record = open_record(config)
    except DeviceError as e:
        record_problem = str(e)
    slot = environment.variables.get("slot") if environment else None
    running = find({name: config.slots.of(name) for name in SlotName}, slot)
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
