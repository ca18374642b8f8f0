"""Stored and exchanged objects as JSON, and back. What a newer client wrote is kept and handed back whole (S18).

Rules:

1. A key that this version does not know stays in `Kept.unknown` of the object in which it stood, at every level, and is
   written back there.
2. A word that an enumeration of this version does not have stays that word (`word`). It equals no member, so each table
   and each comparison takes it for none of those that it knows. `is_known` asks.
3. A missing key takes its field's default; without one the object is damaged.
4. A value of another type than its field's is damage: types of fields never change, a new meaning gets a new key.

Fields are declared once, as those of a dataclass; nested objects, tuples, dictionaries by text, enumerations and `None`
are read by their annotations.
"""

from __future__ import annotations

import dataclasses
import enum
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

_FLOAT_MAX: Final = sys.float_info.max  # what is larger, or no number, is damage: nothing counts with it
_UNKNOWN: Final = "unknown"  # the field's name; a key of this name is one that no version here knows

T = TypeVar("T")
WordT = TypeVar("WordT", bound=enum.StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Base of every stored object.

    Attributes:
        unknown: JSON values by key, of a newer client. Two objects are equal if all that this version knows is equal.
    """

    unknown: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


# keeps: S18
def write(stored: object) -> dict[str, Any]:
    """JSON-ready data of a dataclass, with whatever was kept at each level."""
    assert dataclasses.is_dataclass(stored)
    known = {name: _plain(getattr(stored, name)) for name in _hints(type(stored)) if name != _UNKNOWN}
    return dict(getattr(stored, _UNKNOWN, {})) | known


# keeps: S18
def read(kind: type[T], data: object) -> T:
    """Rebuild what `write` made, by this version or another.

    A dataclass that is not `Kept` leaves out what it does not know: it is never handed back.

    Raises:
        ValueError: A key without default is missing, or a value is of another type.
    """
    if not isinstance(data, dict):
        raise ValueError(f"'{kind.__name__}' is not an object")  # noqa: TRY004 - one class for every kind of damage
    hints = _hints(kind)
    fields = {name: _typed(hints[name], data[name], name) for name in hints if name in data and name != _UNKNOWN}
    if issubclass(kind, Kept):
        fields[_UNKNOWN] = {key: value for key, value in data.items() if key not in hints or key == _UNKNOWN}
    try:
        return kind(**fields)
    except TypeError as e:
        raise ValueError(f"'{kind.__name__}' lacks a key: {e}") from e


# keeps: S18
def word(kind: type[WordT], text: str) -> WordT:
    """The member, or the word itself when this version has no such member."""
    try:
        return kind(text)
    except ValueError:
        newer = str.__new__(kind, text)
        newer._name_ = newer._value_ = text
        return newer


def is_known(value: enum.StrEnum) -> bool:
    """Whether this version's enumeration has the word."""
    return str(value) in {str(member) for member in type(value)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return write(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, enum.StrEnum) else value


def _typed(hint: Any, value: Any, name: str) -> Any:
    """The value as its annotation wants it."""
    inner = typing.get_args(hint)
    if isinstance(hint, types.UnionType):  # of one type and None
        return None if value is None else _typed(inner[0], value, name)
    kind = typing.get_origin(hint) or hint
    if kind is tuple and isinstance(value, list):
        return tuple(_typed(inner[0], each, name) for each in value)
    if kind in (dict, Mapping) and isinstance(value, dict):
        return {key: _typed(inner[1], each, name) for key, each in value.items()}
    if dataclasses.is_dataclass(kind):
        return read(typing.cast("type[Any]", kind), value)
    return _leaf(kind, value, name)


def _leaf(kind: Any, value: Any, name: str) -> Any:
    if kind is Any:
        return value
    if issubclass(kind, enum.StrEnum) and isinstance(value, str):
        return word(kind, value)
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _FLOAT_MAX:
        return float(value)
    if kind is float or not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"'{name}' is not of type '{kind.__name__}'")
    return value


def _hints(kind: type) -> dict[str, Any]:
    """Annotations of a dataclass's fields, in order."""
    if kind not in _RESOLVED:
        resolved = typing.get_type_hints(kind)
        _RESOLVED[kind] = {each.name: resolved[each.name] for each in dataclasses.fields(kind)}
    return _RESOLVED[kind]


_RESOLVED: Final[dict[type, dict[str, Any]]] = {}  # what annotations mean, by class
