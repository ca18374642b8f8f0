"""Options declared on frozen dataclasses, and their checking: one declaration gives type, bounds, unit and manual.

A class whose fields are made with `option` is built from a parsed TOML table by `build`. Every error names the file,
the key, what was expected and what was found.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import difflib
import json
import re
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from twinslot.core.errors import DeviceError

T = TypeVar("T")
KeyPath = tuple[str, ...]
Origins = Mapping[KeyPath, Path]

# A payload's name is also a part of file names and of D-Bus data: short, lower case, no separators.
NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclasses.dataclass(frozen=True, slots=True)
class Option:
    """What the manual and the checker know of one key.

    Attributes:
        help: One sentence for people.
        unit: Of the number, for example `seconds`.
        low: Smallest number allowed.
        high: Largest number allowed.
        choices: The only words allowed; empty: any.
        required: The key must stand somewhere.
    """

    help: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    required: bool = False


def option(
    text: str,
    *,
    default: Any = dataclasses.MISSING,
    factory: Any = dataclasses.MISSING,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """Declare one key; without default it is required."""
    required = default is dataclasses.MISSING and factory is dataclasses.MISSING
    metadata = {"option": Option(text, unit, low, high, choices, required)}
    if factory is not dataclasses.MISSING:
        return dataclasses.field(default_factory=factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def build(kind: type[T], table: object, origins: Origins, at: KeyPath = ()) -> T:
    """Make `kind` from a parsed table.

    Raises:
        DeviceError: `device.config-unknown`, `-missing`, `-type`, `-range` or `-value`.
    """
    if not isinstance(table, dict):
        raise _wrong(at, origins, "a table", table)
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            raise _unknown((*at, key), origins, list(fields))
    values: dict[str, Any] = {}
    for name, field in fields.items():
        declared: Option = field.metadata["option"]
        if name in table:
            values[name] = _convert(hints[name], table[name], declared, origins, (*at, name))
        elif dataclasses.is_dataclass(hints[name]):  # its own keys may be required
            values[name] = build(hints[name], {}, origins, (*at, name))
        elif declared.required:
            raise DeviceError(
                f"{origin(at, origins)}: '{dotted((*at, name))}' must be set",
                code="config-missing",
                hint=f"it says: {declared.help[0].lower()}{declared.help[1:]}",
            )
    return kind(**values)


def dotted(at: KeyPath) -> str:
    """A key as people write it."""
    return ".".join(at)


def origin(at: KeyPath, origins: Origins) -> str:
    """The file that said this key, or the nearest table above it."""
    for length in range(len(at), 0, -1):
        if at[:length] in origins:
            return str(origins[at[:length]])
    return "configuration"


def _wrong(at: KeyPath, origins: Origins, expected: str, found: object, code: str = "config-type") -> DeviceError:
    shown = f"{_shown(found)} ({_kind(found)})" if code == "config-type" else found
    return DeviceError(f"{origin(at, origins)}: '{dotted(at)}' is wrong", code=code, expected=expected, found=shown)


_KINDS: Final = {bool: "boolean", int: "whole number", float: "number", str: "text", list: "list", dict: "table"}


def _kind(value: object) -> str:
    """The kind of a TOML value, in TOML's words."""
    return _KINDS.get(type(value), "date or time")


def _shown(value: object) -> str:
    """A TOML value as TOML writes it, cut short."""
    text = str(value).lower() if isinstance(value, bool) else json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _unknown(at: KeyPath, origins: Origins, known: list[str]) -> DeviceError:
    near = difflib.get_close_matches(at[-1].replace("-", "_"), known, 1)
    table = f"table '[{dotted(at[:-1])}]'" if at[:-1] else "the top level"
    return DeviceError(
        f"{origin(at, origins)}: {table} has no key '{at[-1]}'",
        code="config-unknown",
        expected=near[0] if near else " | ".join(known),
        found=at[-1],
        hint=f"did you mean '{near[0]}'?" if near else None,
    )


def _convert(hint: Any, value: object, declared: Option, origins: Origins, at: KeyPath) -> Any:
    if isinstance(hint, types.UnionType):  # only `X | None`; TOML has no null, so a key that stands is an X
        hint = next(kind for kind in typing.get_args(hint) if kind is not types.NoneType)
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type[Any], hint), value, origins, at)
    if typing.get_origin(hint) is tuple:
        return _convert_list(typing.get_args(hint)[0], value, declared, origins, at)
    if typing.get_origin(hint) is Mapping:
        return _convert_named(typing.get_args(hint)[1], value, declared, origins, at)
    return _SCALARS[hint](value, declared, origins, at)


def _convert_list(hint: Any, value: object, declared: Option, origins: Origins, at: KeyPath) -> tuple[Any, ...]:
    if isinstance(value, str) and hint is str:
        value = [value]
    if not isinstance(value, list):
        raise _wrong(at, origins, "a list", value)
    if declared.low is not None and len(value) < declared.low:
        raise _wrong(at, origins, f"at least {declared.low:g} entry", "an empty list", "config-range")
    named = [(*at[:-1], f"{at[-1]}[{number}]") if len(value) > 1 else at for number in range(1, len(value) + 1)]
    return tuple(_convert(hint, item, declared, origins, where) for item, where in zip(value, named, strict=True))


def _convert_named(hint: Any, value: object, declared: Option, origins: Origins, at: KeyPath) -> Mapping[str, Any]:
    """A table of payload names."""
    if not isinstance(value, dict):
        raise _wrong(at, origins, "a table", value)
    for name in value:
        if not NAME.fullmatch(name):
            raise _wrong((*at, name), origins, "a payload name of a-z 0-9 . _ -, at most 63", name, "config-value")
    named = {name: _SCALARS[hint](item, declared, origins, (*at, name)) for name, item in value.items()}
    return types.MappingProxyType(named)


def _string(value: object, declared: Option, origins: Origins, at: KeyPath) -> str:
    if not isinstance(value, str):
        raise _wrong(at, origins, "a string", value)
    if declared.choices and value not in declared.choices:
        raise _wrong(at, origins, " | ".join(declared.choices), value, "config-value")
    if not value or not value.isprintable():
        raise _wrong(at, origins, "one line of text", repr(value), "config-value")
    return value


def _path(value: object, declared: Option, origins: Origins, at: KeyPath) -> Path:
    text = _string(value, declared, origins, at)
    if not text.startswith("/"):
        raise _wrong(at, origins, "an absolute path", text, "config-value")
    return Path(text)


def _boolean(value: object, _declared: Option, origins: Origins, at: KeyPath) -> bool:
    if not isinstance(value, bool):
        raise _wrong(at, origins, "true or false", value)
    return value


def _integer(value: object, declared: Option, origins: Origins, at: KeyPath) -> int:
    if not isinstance(value, int) or isinstance(value, bool):  # in Python a bool is an int; here it is a mistake
        raise _wrong(at, origins, "a whole number", value)
    _bounded(value, declared, origins, at)
    return value


def _number(value: object, declared: Option, origins: Origins, at: KeyPath) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _wrong(at, origins, "a number", value)
    _bounded(value, declared, origins, at)
    return float(value)


def _bounded(value: float, declared: Option, origins: Origins, at: KeyPath) -> None:
    low, high = declared.low, declared.high
    # Written so that NaN, which compares false with everything, fails too.
    if (low is None or value >= low) and (high is None or value <= high) and value == value:
        return
    raise _wrong(at, origins, f"{bounds(declared)} {declared.unit}".strip(), value, "config-range")


def _time(value: object, _declared: Option, origins: Origins, at: KeyPath) -> dt.datetime:
    if not isinstance(value, dt.datetime) or value.tzinfo is None:
        raise _wrong(at, origins, "a date and time with offset, such as 2026-11-21T00:00:00Z", value)
    return value


def bounds(declared: Option) -> str:
    """The allowed range as text; empty when there is none."""
    low = "" if declared.low is None else f"{declared.low:.15g}"
    high = "" if declared.high is None else f"{declared.high:.15g}"
    return f"{low} to {high}" if low and high else (f"at least {low}" if low else (f"at most {high}" if high else ""))


_SCALARS: Final[Mapping[Any, Callable[[object, Option, Origins, KeyPath], Any]]] = {
    str: _string,
    Path: _path,
    bool: _boolean,
    int: _integer,
    float: _number,
    dt.datetime: _time,
}
