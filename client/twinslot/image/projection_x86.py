"""References in x86-64 code, followed and made anew (docs/patch-format.md section 6.2). Pure.

Instructions have any length, and nothing says where one begins. So what is looked for are the bytes in front of a field
of four bytes that counts from its own end, and what is found may be none: a wrong expectation costs bytes.
"""

from __future__ import annotations

import re
import struct
from bisect import bisect_right
from typing import Final

from twinslot.image.projection_code import NOWHERE, RunAddresses, Shifts

# Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2: CALL and JMP (E8, E9), Jcc (0F 80 to 0F 8F),
# and opcodes whose ModR/M byte says "relative to RIP" (mod 00, r/m 101). A field leads less than 16 MiB away.
_MODRM: Final = bytes.fromhex(
    "00010203 08090a0b 10111213 20212223 28292a2b 30313233 38393a3b 63 69 6b 6f 7f"
    "808182838485868788898a8b 8d b6b7 bebf c0c1 c6c7 d6 f6f7 ff"
)
FIELD: Final = re.compile(
    rb"(?:[\xe8\xe9]|\x0f[\x80-\x8f]|[" + re.escape(_MODRM) + rb"][\x05\x0d\x15\x1d\x25\x2d\x35\x3d])(?=...[\x00\xff])",
    re.DOTALL,
)
_NUMBER: Final = struct.Struct("<i")
_PUT: Final = struct.Struct("<I")


def predict_x86(run: bytes, run_at: RunAddresses, shifts: Shifts) -> bytes | None:
    """x86-64 code: calls, jumps, and what is addressed relative to the next instruction."""
    source, place, low, high = run_at
    starts, moved = shifts
    own, read, out = place - source, _NUMBER.unpack_from, None
    for match in FIELD.finditer(run):
        at = match.end()
        value = read(run, at)[0]
        target = source + at + 4 + value
        if low <= target < high:
            continue
        shift = moved[bisect_right(starts, target)]
        if shift in (own, NOWHERE):
            continue
        out = out or bytearray(run)
        _PUT.pack_into(out, at, value + shift - own & 0xFFFFFFFF)
    return None if out is None else bytes(out)
