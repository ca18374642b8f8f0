"""Options of a method (`a{sv}`): the fields of a request in `core.requests`, typed for the bus by their own types."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Final, TypeVar

from twinslot.bus.library import Variant
from twinslot.bus.names import text
from twinslot.core.errors import Refusal, RefusedError
from twinslot.core.requests import ActivateOptions, CommitOptions, InstallOptions, RollbackOptions

T = TypeVar("T")

OF_METHOD: Final[Mapping[str, type[Any]]] = {
    "Install": InstallOptions,
    "InstallFile": InstallOptions,
    "Activate": ActivateOptions,
    "Commit": CommitOptions,
    "Rollback": RollbackOptions,
}

# D-Bus specification, "Summary of types"
_TYPES: Final[Mapping[object, str]] = {bool: "b", str: "s", int: "x", tuple[str, ...]: "as"}
_WORDS: Final = {"b": "boolean", "s": "string", "x": "64-bit whole number", "as": "list of strings"}


def types_of(kind: type[Any]) -> Mapping[str, str]:
    """D-Bus type of each option, in the order of the fields. A field that may be None is one that may be left out.

    Raises:
        TypeError: A field has a type that the bus does not carry: a mistake in `core.requests`.
    """
    hints = typing.get_type_hints(kind)
    return {field.name: _type_of(hints[field.name], field.name) for field in dataclasses.fields(kind)}


def pack(options: Any) -> dict[str, Variant]:
    """Options for a call: those that differ from their default, so that an older service hears only what is meant."""
    kinds = types_of(type(options))
    given = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    plain = type(options)()
    return {name: Variant(kinds[name], _sent(value)) for name, value in given.items() if value != getattr(plain, name)}


def unpack(kind: type[T], given: Mapping[str, Variant]) -> T:
    """Options as they came over the bus; all mistakes are told at once.

    Raises:
        RefusedError: `refused.option-unknown` and `refused.option-type`, one reason for each wrong option.
    """
    expected = types_of(kind)
    reasons = tuple(reason for name in given if (reason := _wrong(name, given[name], expected)))
    if reasons:
        raise RefusedError(reasons)
    return kind(**{name: _taken(variant.value) for name, variant in given.items()})


def _type_of(hint: object, name: str) -> str:
    if isinstance(hint, types.UnionType):
        hint = next(each for each in typing.get_args(hint) if each is not types.NoneType)
    if hint not in _TYPES:
        raise TypeError(f"the option '{name}' has a type that the bus does not carry: {hint}")
    return _TYPES[hint]


def _sent(value: object) -> object:
    if isinstance(value, str):
        return text(value)
    return [text(each) for each in value] if isinstance(value, tuple) else value


def _taken(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _wrong(name: str, value: Variant, expected: Mapping[str, str]) -> Refusal | None:
    if name not in expected:
        return Refusal("option-unknown", f"there is no option '{name}'", ", ".join(expected), name)
    if value.signature != expected[name]:
        what = f"option '{name}' has the wrong type"
        return Refusal("option-type", what, described(expected[name]), described(value.signature))
    return None


def described(signature: str) -> str:
    """A D-Bus type in words, with its signature."""
    return f"{_WORDS[signature]} ({signature})" if signature in _WORDS else signature
