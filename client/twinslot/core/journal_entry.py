"""One entry of the system's journal as bytes (systemd, "Native Journal Protocol", docs/JOURNAL_NATIVE_PROTOCOL.md)."""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from typing import Final

from twinslot.core.text import printable

VALUE_MAX: Final = 8 * 1024  # characters of one value; an entry must fit into one datagram (net.core.wmem_default)
NAME: Final = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


def encode_entry(fields: Mapping[str, str]) -> bytes:
    """The datagram. Each line of a value loses its control characters; the lines themselves stay.

    Args:
        fields: Value by name; an empty value is left out. A caller that passes on what came from outside in a field of
            several lines (a traceback) lets that text break lines, but never fields.

    Raises:
        ValueError: A name is not what the journal takes: capitals, digits and underscores, not beginning with one.
    """
    return b"".join(_field(name, value) for name, value in fields.items() if value)


def _field(name: str, value: str) -> bytes:
    if not NAME.fullmatch(name):
        raise ValueError(f"the journal has no field '{name}'")
    lines = (printable(line) for line in value[:VALUE_MAX].split("\n"))
    data = "\n".join(lines).encode("utf-8", "backslashreplace")
    if b"\n" in data:  # the form for any bytes: name, newline, length (64 bit, little endian), bytes, newline
        return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
    return name.encode() + b"=" + data + b"\n"
