"""Strict access to one JSON object of an image: every key known, every value of its type and inside its bounds.

Objects that later versions may add to are read with `extensible`: their unknown keys are ignored, since whatever must
not be ignored stands in the manifest's `requires` (docs/image-format.md section 5.2).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from twinslot.core.errors import ImageError

_WORDS: dict[re.Pattern[str], str] = {}


def form(pattern: str, words: str, flags: int = 0) -> re.Pattern[str]:
    """The form of a text: a regular expression for the program, words for people."""
    compiled = re.compile(pattern, flags)
    _WORDS[compiled] = words
    return compiled


_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")  # "\ud800" in JSON: no text, since UTF-8 cannot say it (RFC 3629, 3)
_DIGEST: Final = form(r"[0-9a-f]{64}", "64 hex digits, lower case")  # SHA-256, FIPS 180-4
_TIME: Final = form(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "a time YYYY-MM-DDTHH:MM:SSZ", re.ASCII)  # TUF 1.0, section 4.2


def bad(where: str, expected: object, found: object, section: str = "manifest") -> ImageError:
    """The error for one field, `image.<section>`; `found` is cut short, since it comes from outside."""
    text = found if isinstance(found, str) else json.dumps(found, default=str)
    return ImageError(f"the '{section}' section: '{where}'", code=section, expected=expected, found=text[:120])


class Fields:
    """One JSON object whose keys are the ones named; a few may be absent.

    Args:
        value: What the parser found.
        where: Dotted place, for errors.
        keys: Every key it must have; no other is allowed but `optional` ones, unless it is `extensible`.
        section: Where the document stands in the image.
        optional: Keys that may be absent.
        extensible: Ignore keys that are not known here.

    Raises:
        ImageError: `image.<section>`, from here and from each getter.
    """

    def __init__(
        self,
        value: object,
        where: str,
        keys: Iterable[str],
        section: str = "manifest",
        optional: Iterable[str] = (),
        extensible: bool = False,
    ) -> None:
        self.where = where
        self.section = section
        if not isinstance(value, dict):
            raise self.bad("", "object", value)
        self._value: dict[str, object] = value
        wanted = set(keys)
        if missing := sorted(wanted - value.keys()):
            raise self.bad(missing[0], "a value", "nothing")
        if not extensible and (unknown := sorted(value.keys() - wanted - set(optional))):
            raise self.bad(unknown[0], "no such key", value[unknown[0]])

    def bad(self, key: str, expected: object, found: object) -> ImageError:
        """The error for one key."""
        return bad(self.name(key), expected, found, self.section)

    def name(self, key: str) -> str:
        """The dotted place of a key."""
        return ".".join(part for part in (self.where, key[:64]) if part)

    def get(self, key: str) -> object:
        """The raw value."""
        return self._value[key]

    def has(self, key: str) -> bool:
        """Whether an optional key is there."""
        return key in self._value

    def integer(self, key: str, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included; True and False are no numbers."""
        value = self._value[key]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.bad(key, f"{low} to {high}", value)
        return value

    def text(self, key: str, pattern: re.Pattern[str]) -> str:
        """A string that the pattern matches whole."""
        return self._match(self._value[key], key, pattern)

    def choice(self, key: str, words: Iterable[str]) -> str:
        """One of the words."""
        value, allowed = self._value[key], tuple(words)
        if not isinstance(value, str) or value not in allowed:
            raise self.bad(key, " or ".join(allowed), value)
        return value

    def digest(self, key: str) -> str:
        """A SHA-256 as 64 lower-case hex digits. There is no optional digest."""
        return self.text(key, _DIGEST)

    def time(self, key: str) -> datetime:
        """A date in UTC with seconds, as TUF writes it."""
        value = self.text(key, _TIME)
        try:
            return datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
        except ValueError as e:
            raise self.bad(key, "a date that exists", value) from e

    def objects(self, key: str, high: int) -> list[object]:
        """A list of at most `high` values."""
        value = self._value[key]
        if not isinstance(value, list) or len(value) > high:
            raise self.bad(key, f"a list of at most {high}", value)
        return value

    def names(self, key: str, pattern: re.Pattern[str], low: int, high: int) -> tuple[str, ...]:
        """A sorted list of distinct names, `low` to `high` of them."""
        values = self.objects(key, high)
        names = tuple(self._match(value, key, pattern) for value in values)
        if len(names) < low or list(names) != sorted(set(names)):
            raise self.bad(key, f"{low} to {high} names, sorted, none twice", values)
        return names

    def flag(self, key: str) -> bool:
        """True or False."""
        value = self._value[key]
        if not isinstance(value, bool):
            raise self.bad(key, "true or false", value)
        return value

    def mapping(self, key: str, pattern: re.Pattern[str], high: int) -> dict[str, object]:
        """An object whose keys the pattern matches, at most `high` of them."""
        value = self._value[key]
        if not isinstance(value, dict) or len(value) > high:
            raise self.bad(key, f"an object of at most {high} names", value)
        for name in value:
            self._match(name, key, pattern)
        return value

    def _match(self, value: object, key: str, pattern: re.Pattern[str]) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value) or _SURROGATE.search(value):
            words = _WORDS.get(pattern, "text in the form that docs/image-format.md gives")
            raise self.bad(key, words, value)
        return value
