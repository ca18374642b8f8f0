"""The configuration for `boot`, `check` and `commit --if-trial`: a fault in it must not end a good trial.

What these verbs need is read as strictly as ever: `[slots]`, `[boot]`, `[record]`, `[health]`, `[trial]`. Of the rest,
and of drop-ins that cannot be read, what is at fault is told and left out. Nothing that may name a health check is left
out: without one of them a sick release would be kept (S6). Where that leaves no configuration, the verb ends with the
status `cli_trial.UNDECIDED`, which the units do not take for a failure, and the deadline decides.
"""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path
from typing import Any, Final

from twinslot.config.fields import build
from twinslot.config.files import find, merge_readable
from twinslot.config.options import Config, check_config
from twinslot.core.errors import DeviceError

NEEDED: Final = ("slots", "boot", "record", "health", "trial")
# For tables with keys that must stand somewhere, and which no verb of a trial asks.
_STAND_INS: Final[dict[str, dict[str, Any]]] = {
    "device": {"compatible": ["unknown"]},
    "trust": {"roles": ["unknown"]},
}


# keeps: S6
def load_for_trial(root: str | Path = "/") -> tuple[Config, tuple[DeviceError, ...]]:
    """Read the configuration, leaving out what is at fault and not needed.

    Returns:
        The configuration, and what is wrong with the one that stands there.

    Raises:
        DeviceError: `device.config-*`: what is at fault is needed, or may name a health check.
    """
    files = find(Path(root))
    table, origins, faults = merge_readable(files)
    if not faults:
        try:
            return _whole(table, origins), ()
        except DeviceError as e:
            faults.append(e)
    kept: dict[str, Any] = {}
    for name, kind in typing.get_type_hints(Config).items():
        kept |= _usable(name, kind, table, origins)
    return _whole(kept, origins), tuple(faults)


def _whole(table: dict[str, Any], origins: Any) -> Config:
    config = build(Config, table, origins)
    check_config(config)
    return config


def _usable(name: str, kind: type[Any], table: dict[str, Any], origins: Any) -> dict[str, Any]:
    """The table as it stands, without what nobody knows, or nothing; by its name."""
    if name not in table:
        return {name: _STAND_INS[name]} if name in _STAND_INS else {}
    found = table[name]
    if name in NEEDED and name != "health" and isinstance(found, dict):
        known = {field.name for field in dataclasses.fields(kind)}
        return {name: {key: value for key, value in found.items() if key in known}}
    if name in NEEDED:
        return {name: found}
    try:
        build(kind, found, origins, (name,))
    except DeviceError:
        return {name: _STAND_INS[name]} if name in _STAND_INS else {}
    return {name: found}
