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

from twinslot.config.checks import check_section, check_sections
from twinslot.config.fields import build
from twinslot.config.files import find, merge_readable
from twinslot.config.options import Config
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
    _leave_out_wrong(kept, build(Config, kept, origins))
    return _whole(kept, origins), tuple(faults)


def _whole(table: dict[str, Any], origins: Any) -> Config:
    config = build(Config, table, origins)
    check_sections(config)
    return config


def _usable(name: str, kind: type[Any], table: dict[str, Any], origins: Any) -> dict[str, Any]:
    """The table as it stands, without what nobody knows, or nothing; by its name."""
    if name not in table:
        return _stand_in(name)
    found = table[name]
    if name in NEEDED and name != "health" and isinstance(found, dict):
        known = {field.name for field in dataclasses.fields(kind)}
        return {name: {key: value for key, value in found.items() if key in known}}
    if name in NEEDED:
        return {name: found}
    try:
        build(kind, found, origins, (name,))
    except DeviceError:
        return _stand_in(name)
    return {name: found}


def _leave_out_wrong(kept: dict[str, Any], config: Config) -> None:
    """What is not needed and wrong in a way that no single key can say."""
    for name in set(kept) - set(NEEDED):
        try:
            check_section(name, config)
        except DeviceError:
            del kept[name]
            kept |= _stand_in(name)


def _stand_in(name: str) -> dict[str, Any]:
    return {name: _STAND_INS[name]} if name in _STAND_INS else {}
