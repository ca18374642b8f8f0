"""Whether 32 bytes are a public key of Ed25519 at all. The libraries take any, and then no signature verifies."""

from __future__ import annotations

from typing import Final

_P: Final = 2**255 - 19
_D: Final = -121665 * pow(121666, -1, _P) % _P


def is_ed25519_point(encoded: bytes) -> bool:
    """Decoding as in RFC 8032, section 5.1.3, without the point itself: x^2 = (y^2 - 1) / (d y^2 + 1) has a root."""
    number = int.from_bytes(encoded, "little")
    y, odd = number & (2**255 - 1), number >> 255
    if y >= _P:
        return False
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    if square == 0:
        return not odd
    return pow(square, (_P - 1) // 2, _P) == 1  # Euler's criterion
