"""Finds the references in T32 and A32 code: branches, and words that count from where they are added to PC."""

from __future__ import annotations

import numpy as np

from twinslot.image.projection_arm import THUMB_FIRST, find_arm_literal, find_thumb_literal
from twinslot_image.patch_pages import ByteSource
from twinslot_image.patch_references import (
    ARM_BRANCH,
    NEXT,
    THUMB_BRANCH,
    THUMB_CONDITION,
    References,
    join_references,
    made_of,
    signed,
    words_of,
)
from twinslot_image.patch_sections import Part


def find_thumb(content: ByteSource, part: Part) -> References:
    """Of T32 code."""
    first = part.start + part.start % 2
    halves = np.frombuffer(content[first : part.end - (part.end - first) % 2].tobytes(), "<u2").astype(np.int64)
    high = (halves >> 8).astype(np.uint8).tobytes()
    at = np.fromiter((match.start() for match in THUMB_FIRST.finditer(high)), np.int64)
    one, two = halves[at], halves[np.minimum(at + 1, len(halves) - 1)]
    conditional = two & 0xD000 == 0x8000
    branch = (one >= 0xF000) & ~(conditional & (one & 0x380 == 0x380))
    at_branch, one, two, conditional = at[branch], one[branch], two[branch], conditional[branch]
    sign, j1, j2 = one >> 10 & 1, two >> 13 & 1, two >> 11 & 1
    near = j2 << 19 | j1 << 18 | (one & 0x3F) << 12 | (two & 0x7FF) << 1
    far = (j1 ^ sign ^ 1) << 23 | (j2 ^ sign ^ 1) << 22 | (one & 0x3FF) << 12 | (two & 0x7FF) << 1
    value = np.where(conditional, near - (sign << 20), far - (sign << 24))
    places = first + 2 * at_branch
    here = places + part.bias + 4
    targets = np.where(two & 0xD000 == 0xC000, here & ~3, here) + value
    rests = np.where(conditional, one & 0xFBC0, one & 0xF800) | (two & 0xD000) << 16
    forms = np.where(conditional, THUMB_CONDITION, THUMB_BRANCH)
    found = [
        made_of(part, places[forms == form], targets[forms == form], rests[forms == form], form)
        for form in (THUMB_CONDITION, THUMB_BRANCH)
    ]
    adds = at[halves[at] & 0xFF78 == 0x4478].tolist()
    source, words = first + part.bias, halves.tolist()
    pairs = [(find_thumb_literal(words, i, source), 2 * i + 4) for i in adds]
    return join_references([*found, _literals(content, part, first, pairs)])


def _literals(content: ByteSource, part: Part, first: int, pairs: list[tuple[int, int]]) -> References:
    """Words that count from another place: (their own, that one), in bytes from the first one."""
    table = np.array([pair for pair in pairs if 0 <= pair[0] <= part.end - first - 4], np.int64).reshape(-1, 2)
    places = first + table[:, 0]
    data = content[first : part.end]
    values = data[table[:, :1] + np.arange(4)].copy().view("<i4")[:, 0].astype(np.int64)
    return made_of(part, places, first + part.bias + table[:, 1] + values, np.zeros(len(places), np.int64), NEXT)


def find_arm(content: ByteSource, part: Part) -> References:
    """Of A32 code."""
    first, words = words_of(content, part, "<u4")
    at = np.flatnonzero(words & 0x0E000000 == 0x0A000000)
    places = first + 4 * at
    targets = places + part.bias + 8 + 4 * signed(words[at], 24)
    adds = np.flatnonzero(words & 0x0FFF0FF0 == 0x008F0000).tolist()
    every = words.tolist()
    pairs = [(find_arm_literal(every, i), 4 * i + 8) for i in adds]
    branches = made_of(part, places, targets, words[at] & 0xFF000000, ARM_BRANCH)
    return join_references([branches, _literals(content, part, first, pairs)])
