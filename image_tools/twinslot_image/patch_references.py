"""Every reference in the parts of ELF files: where it stands, and to which address it leads.

With its field made anew from the address, a word is the same on both sides of an update when it does the same to the
same thing: that is what the search compares, and where it learns by how much each part of the base moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from twinslot_image.patch_pages import ByteSource
from twinslot_image.patch_sections import Part

Numbers = npt.NDArray[np.int64]
BRANCH, CONDITION, ADR, PAGE, LOW, WHOLE, NEXT = 0, 1, 2, 3, 4, 9, 10  # forms of a field; LOW + scale for 0 to 4
ARM_BRANCH, THUMB_BRANCH, THUMB_CONDITION = 11, 12, 13


@dataclass(frozen=True, slots=True)
class References:
    """Sorted by place. Each array has one entry for each.

    Attributes:
        places: Of the word, in the payload.
        biases: Of their parts; what makes an address of a place, or of a word in a table.
        targets: Addresses.
        rests: The word without the field that leads to the target.
        forms: Of the field.
    """

    places: Numbers
    biases: Numbers
    targets: Numbers
    rests: npt.NDArray[np.uint32]
    forms: npt.NDArray[np.uint8]

    def between(self, start: int, end: int) -> References:
        """Those whose word begins between two places."""
        first, last = np.searchsorted(self.places, (start, end))
        return References(*(getattr(self, name)[first:last] for name in References.__slots__))

    def words(self) -> npt.NDArray[np.uint32]:
        """Each word with its field made anew from the target's address."""
        target, out = self.targets, self.rests.astype(np.int64)
        for form, bits in (
            (BRANCH, target >> 2 & 0x3FFFFFF),
            (CONDITION, (target >> 2 & 0x7FFFF) << 5),
            (ADR, split_field(target)),
            (PAGE, split_field(target >> 12)),
            (WHOLE, target & 0xFFFFFFFF),
            (NEXT, target & 0xFFFFFFFF),
            (ARM_BRANCH, target >> 2 & 0xFFFFFF),
            (THUMB_BRANCH, (target >> 1 & 0x7FF) << 16 | target >> 12 & 0x7FF),
            (THUMB_CONDITION, (target >> 1 & 0x7FF) << 16 | target >> 12 & 0x3F),
        ):
            out |= np.where(self.forms == form, bits, 0)
        scale = np.clip(self.forms.astype(np.int64) - LOW, 0, 4)
        low = (self.forms >= LOW) & (self.forms < LOW + 5)
        out |= np.where(low, ((target & 4095) >> scale) << 10, 0)
        return out.astype(np.uint32)


def join_references(found: Sequence[References]) -> References:
    """Of several, sorted."""
    one = np.empty(0, np.int64)
    empty = References(one, one, one, np.empty(0, np.uint32), np.empty(0, np.uint8))
    columns = [np.concatenate([getattr(part, name) for part in (empty, *found)]) for name in References.__slots__]
    order = np.argsort(columns[0], kind="stable")
    return References(*(column[order] for column in columns))


def words_of(content: ByteSource, part: Part, kind: str, size: int = 4) -> tuple[int, Numbers]:
    """The first place that is a multiple of four (in an entry: of its words), and the words from there on."""
    skip = -(part.start - (part.origin if size == 8 else 0)) % size
    count = max(part.end - part.start - skip, 0) // size
    data = content[part.start + skip : part.start + skip + count * size]
    return part.start + skip, np.frombuffer(data.tobytes(), kind).astype(np.int64)


def made_of(part: Part, places: Numbers, targets: Numbers, rests: Numbers, form: int) -> References:
    """References of one form in one part."""
    forms, biases = np.full(places.shape, form, np.uint8), np.full(places.shape, part.bias, np.int64)
    return References(places, biases, targets, (rests & 0xFFFFFFFF).astype(np.uint32), forms)


def signed(values: Numbers, bits: int) -> Numbers:
    """The lowest bits as numbers with a sign."""
    sign = 1 << bits - 1
    return (values & 2 * sign - 1 ^ sign) - sign


def split_field(value: Numbers) -> Numbers:
    """Bits of ADR and ADRP where they stand in the word."""
    return (value & 0x1FFFFC) << 3 | (value & 3) << 29
