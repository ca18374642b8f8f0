"""Options of a call (`a{sv}`), checked by name and type. All mistakes are told at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Final

from twinslot.bus.library import Variant
from twinslot.core.errors import Refusal, RefusedError
from twinslot.engine.install import InstallOptions

Types = Mapping[str, str]  # option name to D-Bus type

INSTALL: Final[Types] = {field.name: "b" for field in dataclasses.fields(InstallOptions)}
ACTIVATE: Final[Types] = {"reboot": "b"}
COMMIT: Final[Types] = {"force": "s", "if_trial": "b"}
ROLLBACK: Final[Types] = {"reason": "s", "reboot": "b"}


class Options:
    """Options that a method takes and somebody gave.

    Args:
        given: As they came over the bus.
        types: What the method takes.

    Raises:
        RefusedError: `refused.option-unknown` and `refused.option-type`, one reason for each wrong option.
    """

    def __init__(self, given: Mapping[str, Variant], types: Types) -> None:
        reasons = tuple(reason for name in given if (reason := _wrong(name, given[name], types)))
        if reasons:
            raise RefusedError(reasons)
        self._values = {name: variant.value for name, variant in given.items()}

    def flag(self, name: str, *, default: bool) -> bool:
        """A boolean."""
        return bool(self._values.get(name, default))

    def words(self, name: str) -> str:
        """A string; empty when it was not given."""
        return str(self._values.get(name, ""))

    def over(self, defaults: InstallOptions) -> InstallOptions:
        """The options of an install."""
        return dataclasses.replace(defaults, **self._values)


def _wrong(name: str, value: Variant, types: Types) -> Refusal | None:
    if name not in types:
        known = ", ".join(types)
        return Refusal("option-unknown", f"there is no option '{name}'", known, name)
    if value.signature != types[name]:
        return Refusal("option-type", f"option '{name}' has the wrong type", types[name], value.signature)
    return None
