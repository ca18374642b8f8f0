"""Text from outside on its way to a terminal or a log."""

from __future__ import annotations


def printable(text: str) -> str:
    """One line without control characters: what an image or a server said must not steer a terminal or forge a line."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def in_words(value: object) -> object:
    """Bytes as hexadecimal digits, for messages; anything else as it is."""
    return f"bytes {value.hex(' ')}" if isinstance(value, bytes) else value
