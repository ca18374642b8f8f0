"""DER as far as it is written here. Pure."""

from __future__ import annotations


def der(tag: int, content: bytes) -> bytes:
    """Tag, length, content; short and long form of the length (X.690 section 8.1.3)."""
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(size)]) + size + content
