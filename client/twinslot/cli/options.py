"""From the arguments of a verb to its options (`core.requests`): what has the name of a field is one."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from twinslot.config.options import Config

T = TypeVar("T")


def chosen(kind: type[T], arguments: argparse.Namespace, **more: Any) -> T:
    """The options of this kind that the arguments hold; what was not given (None) stays as by default.

    Args:
        kind: A class of `core.requests`.
        arguments: As parsed; an argument that sets an option has its name as `dest`.
        more: Options that arguments alone do not decide.
    """
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    given = {name: value for name, value in vars(arguments).items() if name in names and value is not None}
    return kind(**given | more)


def reboots(arguments: argparse.Namespace, config: Config) -> bool:
    """What the caller said; otherwise the configuration."""
    return config.install.reboot == "automatic" if arguments.reboot is None else bool(arguments.reboot)
