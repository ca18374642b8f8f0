"""Which of two versions comes first, as dpkg orders them (deb-version(7)); other ecosystems order almost so."""

from __future__ import annotations

import re
from itertools import zip_longest
from typing import Final

_PARTS: Final = re.compile(r"(\D*)(\d*)")


def is_before(one: str, other: str) -> bool:
    """Whether the first version is lower."""
    return _key(one) < _key(other)


class _Ordered:
    """A part of a version, as dpkg compares it: `~` before the end, that before letters, letters before others."""

    __slots__ = ("pieces",)

    def __init__(self, text: str) -> None:
        self.pieces = [(word, int(number or 0)) for word, number in _PARTS.findall(text) if word or number]

    def __lt__(self, other: _Ordered) -> bool:
        for (word, number), (other_word, other_number) in zip_longest(self.pieces, other.pieces, fillvalue=("", 0)):
            for mine, theirs in zip_longest(map(_weight, word), map(_weight, other_word), fillvalue=0):
                if mine != theirs:
                    return mine < theirs
            if number != other_number:
                return number < other_number
        return False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Ordered) and not self < other and not other < self

    __hash__ = None  # type: ignore[assignment]


def _weight(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isascii() and character.isalpha() else ord(character) + 256


def _key(version: str) -> tuple[int, _Ordered, _Ordered]:
    epoch, colon, rest = version.partition(":")
    if not colon or not epoch.isdecimal():
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    return int(epoch), _Ordered(upstream if dash else rest), _Ordered(revision if dash else "")
