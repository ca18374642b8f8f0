"""One TOML table whose keys are declared: unknown ones are refused first, with the nearest name, then the values."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from twinslot.core.errors import ImageError
from twinslot.core.pkcs11_uri import is_pkcs11

_REQUIRED: Final[Any] = object()
_PATH: Final = re.compile(r"[^\0]+")
KINDS: Final[Mapping[type, str]] = {
    str: "a text",
    int: "a whole number",
    bool: "true or false",
    float: "a number with a fraction",
    list: "a list",
    dict: "a table",
    datetime: "a date with its time and offset, such as 2027-11-01T00:00:00Z",
}


class Table:
    """Access to the values of one table.

    Args:
        data: What the parser found.
        file: Where it stands, for errors; paths are relative to it.
        where: Dotted place in the file.
        keys: Every key that it may have.

    Raises:
        ImageError: `image.description`, from here and from each getter.
    """

    def __init__(self, data: object, file: Path, where: str, keys: Sequence[str]) -> None:
        self._file, self._where = file, where
        if not isinstance(data, dict):
            raise self.bad("", KINDS[dict], data)
        self._data: dict[str, Any] = data
        for key in sorted(data.keys() - set(keys)):
            raise self._unknown(key, keys)

    def get(self, key: str, kind: type, default: Any = _REQUIRED) -> Any:
        """A value of a kind, or the default when the key is absent."""
        if key not in self._data:
            if default is _REQUIRED:
                what = f"{self._file}: '{self._name(key)}' is missing"
                raise ImageError(what, code="description", expected=KINDS[kind])
            return default
        value = self._data[key]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.bad(key, KINDS[kind], value)
        return value

    def has(self, key: str) -> bool:
        """Whether the file has the key."""
        return key in self._data

    def table(self, key: str, keys: Sequence[str]) -> Table | None:
        """The table below a key; None without it."""
        if key not in self._data:
            return None
        return Table(self.get(key, dict), self._file, self._name(key), keys)

    def number(self, key: str, low: int, high: int, default: Any = _REQUIRED) -> int:
        """A whole number from `low` to `high`."""
        value: int = self.get(key, int, default)
        if not low <= value <= high:
            raise self.bad(key, f"{low} to {high}", value)
        return value

    def text(self, key: str, pattern: re.Pattern[str], form: str, default: Any = _REQUIRED) -> str:
        """A text that the pattern matches whole; `form` says the pattern in words."""
        value: str = self.get(key, str, default)
        if not pattern.fullmatch(value):
            raise self.bad(key, form, value)
        return value

    def choice(self, key: str, words: Iterable[str], default: str | None) -> str:
        """One of the words."""
        if default is None and key not in self._data:
            what = f"{self._file}: '{self._name(key)}' is missing"
            raise ImageError(what, code="description", expected=" or ".join(words))
        value: str = self.get(key, str, default or "")
        if value not in (*words, default):
            raise self.bad(key, " or ".join(words), value)
        return value

    def names(
        self, key: str, pattern: re.Pattern[str], form: str, high: int, default: Any = _REQUIRED
    ) -> tuple[str, ...]:
        """A list of at most `high` different texts, each matched by the pattern; one text stands for a list of one."""
        values = self._data.get(key)
        if isinstance(values, str):
            values = [values]
        elif not isinstance(values, list):
            values = self.get(key, list, default)
        for value in values:
            if not isinstance(value, str):
                raise self.bad(key, "a list of texts", value)
            if not pattern.fullmatch(value):
                raise self.bad(key, form, value)
        if not (len(values) if key in self._data and default is _REQUIRED else 1):
            raise self.bad(key, "one text or more", "an empty list")
        if len(values) > high or len(set(values)) < len(values):
            raise self.bad(key, f"at most {high} texts, none twice", f"{len(values)}")
        return tuple(values)

    def path(self, key: str) -> Path:
        """A path, relative to the file."""
        value: str = self.get(key, str)
        if not value or "\0" in value:
            raise self.bad(key, "the path of a file", value)
        return self._file.parent / value

    def paths(self, key: str, high: int) -> tuple[Path, ...]:
        """One to `high` paths, relative to the file."""
        return tuple(self._file.parent / name for name in self.names(key, _PATH, "the path of a file", high))

    def keys(self, key: str, high: int) -> tuple[str, ...]:
        """Where one to `high` keys are: in files, relative to this one, or in tokens, by PKCS #11 URIs."""
        names = self.names(key, _PATH, "the path of a file, or a PKCS #11 URI", high)
        return tuple(name if is_pkcs11(name) else str(self._file.parent / name) for name in names)

    def tables(self, key: str, keys: Sequence[str], pattern: re.Pattern[str], form: str) -> dict[str, Table]:
        """The tables below a key, by name and sorted."""
        found: dict[str, Table] = {}
        for name, value in sorted(self.get(key, dict, {}).items()):
            if not pattern.fullmatch(name):
                raise self.bad(key, form, name)
            found[name] = Table(value, self._file, f"{key}.{name}", keys)
        return found

    def bad(self, key: str, expected: str, found: object) -> ImageError:
        """The error for the value of a key."""
        what = f"{self._file}: '{self._name(key)}' is wrong"
        return ImageError(what, code="description", expected=expected, found=_shown(found, expected))

    def _name(self, key: str) -> str:
        return ".".join(part for part in (self._where, key) if part)

    def _unknown(self, key: str, keys: Sequence[str]) -> ImageError:
        near = difflib.get_close_matches(key, keys, 1, 0.5)
        table = f"table '[{self._where}]'" if self._where else "the top level"
        what = f"{self._file}: {table} has no key '{key}'"
        if near:
            return ImageError(what, code="description", hint=f"did you mean '{near[0]}'?")
        return ImageError(what, code="description", expected=" | ".join(keys))


def _shown(value: object, expected: str) -> str:
    """A value as the file has it; with its kind, where another one is expected."""
    kind = next((words for kind, words in KINDS.items() if type(value) is kind), "a date or time")
    if isinstance(value, list | dict):
        return kind
    text = str(value).lower() if isinstance(value, bool) else str(value)[:80]
    if not any(expected.startswith(words) for words in KINDS.values()):
        return text
    return f'"{text}" (text)' if isinstance(value, str) else f"{text} ({kind.partition(',')[0]})"
