"""What is known, without changing anything: `status`, `history`. No lock, no bus, no service.

Both work for any user, from what is published beside the record; what only root can read (the raw environment) is left
out for others. `doctor` looks at the same evidence and more (`queries.doctor`).
"""

from __future__ import annotations

from typing import Any

import twinslot
from twinslot.bootloader.base import Environment
from twinslot.config.options import Config
from twinslot.core import stored
from twinslot.core.errors import DeviceError
from twinslot.core.lifecycle import State
from twinslot.core.model import SlotName
from twinslot.engine.facts import Facts, View, look, open_record
from twinslot.queries.policy import policy_status
from twinslot.repository import STATE_FILE
from twinslot.storage.device_key import DeviceKeyFiles


def status(config: Config) -> dict[str, Any]:
    """Everything a person or a monitor asks first, JSON-ready. Missing knowledge is null, never an error."""
    with look(config) as view:
        return _told(view, config) | {
            "policy": policy_status(config, view),
            "repository": _repository(config, view),
        }


def knows_repository(config: Config) -> bool:
    """Whether one is configured, or was asked: from a stick, without any configured."""
    return bool(config.repository.url) or (config.record.directory / STATE_FILE).is_file()


def _repository(config: Config, view: View) -> dict[str, Any] | None:
    if not knows_repository(config):
        return None
    from twinslot.queries.offers import repository_status

    return repository_status(config, view)


def _told(view: View, config: Config) -> dict[str, Any]:
    facts, said = view.facts, view.facts.record
    current = said.current if said else None
    past = view.record.history(2) if view.record else []
    ended = [each for each in past if current is None or each.id != current.id]
    return {
        "version": twinslot.__version__,
        "running": facts.running,
        "state": under_way(facts),
        "slots": {str(name): _slot(facts, name) for name in SlotName},
        "floors": stored.write(facts.floors),
        "transaction": current.as_dict() if current else None,
        "last": ended[0].as_dict() if ended else None,
        "failed": {str(sequence): reason for sequence, reason in (said.failed if said else {}).items()},
        "environment": _environment(facts.environment),
        "device_key": _device_key(config),
        "fallback": facts.fallback.as_dict(),
        "retired": view.retired,
    }


def under_way(facts: Facts) -> State:
    """The record's word; where it knows of nothing, for it may be lost or its disk full, the environment's (S12)."""
    if facts.record and facts.record.current:
        return facts.record.current.state
    if facts.state is None or facts.state.trial is None:
        return State.IDLE
    return State.TRIAL if facts.state.trial is facts.running else State.ARMED


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


def _slot(facts: Facts, name: SlotName) -> dict[str, Any]:
    known = facts.holds(name)
    return {
        "state": facts.state.states[name] if facts.state else None,
        "running": facts.running is name,
        "release": stored.write(known.release) if known else None,
        "installed_at": known.installed_at if known else None,
        "read_at": known.read_at or None if known else None,
        "started_at": known.started_at or None if known else None,
        "unsound": known.unsound or None if known else None,
    }


def _device_key(config: Config) -> dict[str, str] | None:
    """Algorithm and fingerprint of its public part; None: there is none, or it is damaged, which `doctor` tells."""
    try:
        public = DeviceKeyFiles(config.record.directory, config.device.key).public()
    except DeviceError:
        return None
    return {"algorithm": public.algorithm, "fingerprint": public.fingerprint} if public else None


def _environment(environment: Environment | None) -> dict[str, Any] | None:
    if environment is None:
        return None
    copies = [{"place": copy.place, "state": copy.state, "flags": copy.flags} for copy in environment.copies]
    return {"settled": environment.settled, "lost": environment.lost, "copies": copies}
