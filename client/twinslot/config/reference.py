"""The manual of the configuration, printed from its declaration."""

from __future__ import annotations

import dataclasses
import datetime as dt
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from twinslot.config.fields import Option, bounds
from twinslot.config.options import Config


def reference() -> str:
    """The manual of every key, as Markdown tables (docs/config.md)."""
    lines = list(_REFERENCE_HEAD)
    for title, kind in _tables(Config, ()):
        lines += ["", f"## `{title}`", "", str(kind.__doc__), "", "| key | type | default | allowed | meaning |"]
        lines += ["|---|---|---|---|---|", *(_row(kind, field) for field in _keys(kind))]
    return "\n".join(lines) + "\n"


_REFERENCE_HEAD: Final = (
    "# Configuration reference",
    "",
    "Printed by `python3 -m twinslot.config.reference`; a test holds this page to the code.",
    "",
    "The main file is the first that exists of `/etc/twinslot/config.toml`, `/run/twinslot/config.toml` and",
    "`/usr/lib/twinslot/config.toml`. Then every `config.d/*.toml` beside these three, sorted by name, adds to it; a",
    "name in `/etc` hides the same name elsewhere, and an empty file or a link to `/dev/null` masks it. Hidden files",
    "and other suffixes count for nothing; what is no file is left out with a warning. Tables merge key by key, lists",
    "are replaced. An unknown key is refused; for `boot`, `check` and `commit --if-trial` it is an error in the",
    "journal ([decision 21](decisions/0021-a-configuration-fault-ends-no-trial.md)).",
)


def _tables(kind: type[Any], at: tuple[str, ...]) -> Iterator[tuple[str, type[Any]]]:
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint, path = hints[field.name], (*at, field.name)
        items = typing.get_args(hint)
        if dataclasses.is_dataclass(hint):
            table = typing.cast(type[Any], hint)
            yield f"[{'.'.join(path)}]", table
            yield from _tables(table, path)
        elif items and dataclasses.is_dataclass(items[0]):
            yield f"[[{'.'.join(path)}]]", typing.cast(type[Any], items[0])


def _keys(kind: type[Any]) -> Iterator[dataclasses.Field[Any]]:
    """Its fields but for tables, which have a section of their own."""
    hints = typing.get_type_hints(kind)
    return (field for field in dataclasses.fields(kind) if not dataclasses.is_dataclass(hints[field.name]))


def _row(kind: type[Any], field: dataclasses.Field[Any]) -> str:
    declared: Option = field.metadata["option"]
    default = "**required**" if declared.required else _shown(field.default)
    allowed = " \\| ".join(f"`{word}`" for word in declared.choices)
    if not allowed and _is_number(kind, field.name):
        allowed = f"{bounds(declared)} {declared.unit}".strip()
    named = _type_name(typing.get_type_hints(kind)[field.name])
    return f"| `{field.name}` | {named} | {default} | {allowed} | {declared.help} |"


def _is_number(kind: type[Any], name: str) -> bool:
    hint = typing.get_type_hints(kind)[name]
    return hint in (int, float) or set(typing.get_args(hint)) in ({int, types.NoneType}, {float, types.NoneType})


def _shown(default: object) -> str:
    if default in (None, (), dataclasses.MISSING):  # missing: made empty for each configuration
        return "none"
    if isinstance(default, tuple):
        return ", ".join(_shown(item) for item in default)
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, float):
        return f"`{default:g}`"
    return f'`"{default}"`' if isinstance(default, str | Path) else f"`{default}`"


def _type_name(hint: Any) -> str:
    names = {str: "string", int: "integer", float: "number", bool: "boolean", Path: "path", dt.datetime: "date-time"}
    if hint in names:
        return names[hint]
    first = typing.get_args(hint)[0]
    if typing.get_origin(hint) is Mapping:
        return f"table of {names[typing.get_args(hint)[1]]}s"
    if typing.get_origin(hint) is tuple:
        return "tables" if dataclasses.is_dataclass(first) else f"list of {names[first]}s"
    return names[first]


if __name__ == "__main__":
    import sys

    sys.stdout.write(reference())
