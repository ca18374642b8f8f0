"""Every reference in the parts of ELF files: where it stands, and to which address it leads.

With its field made anew from the address, a word is the same on both sides of an update when it does the same to the
same thing: that is what the search compares, and where it learns by how much each part of the base moved.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from twinslot.image.projection import TABLES
from twinslot_image.patch_pages import Bytes
from twinslot_image.patch_sections import ARM64, RELATIVE, Part

Numbers = npt.NDArray[np.int64]
BRANCH, CONDITION, ADR, PAGE, LOW, WHOLE = 0, 1, 2, 3, 4, 9  # forms of a field; LOW + scale for 0 to 4
_AHEAD = 8  # words; as the device looks, `projection_code`
_POINTER_MAX = 1 << 40  # what a word of eight bytes may hold to be taken for an address in a program


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

    def between(self, start: int, end: int) -> slice:
        """Those whose word lies between two places."""
        first, last = np.searchsorted(self.places, (start, max(start, end - 3)))
        return slice(int(first), int(last))

    def words(self) -> npt.NDArray[np.uint32]:
        """Each word with its field made anew from the target's address."""
        target, out = self.targets, self.rests.astype(np.int64)
        for form, bits in (
            (BRANCH, target >> 2 & 0x3FFFFFF),
            (CONDITION, (target >> 2 & 0x7FFFF) << 5),
            (ADR, _split(target)),
            (PAGE, _split(target >> 12)),
            (WHOLE, target & 0xFFFFFFFF),
        ):
            out |= np.where(self.forms == form, bits, 0)
        scale = np.clip(self.forms.astype(np.int64) - LOW, 0, 4)
        low = (self.forms >= LOW) & (self.forms < LOW + 5)
        out |= np.where(low, ((target & 4095) >> scale) << 10, 0)
        return out.astype(np.uint32)

    def save(self, path: Path) -> None:
        """For `load`."""
        for name in References.__slots__:
            np.save(f"{path}.{name}.npy", getattr(self, name))

    @staticmethod
    def load(path: Path) -> References:
        """What was saved, read when it is touched."""
        return References(*(np.load(f"{path}.{name}.npy", mmap_mode="r") for name in References.__slots__))


class Followed:
    """A payload in which each word that refers to something has the address of that in its field."""

    def __init__(self, content: Bytes, places: Numbers, words: npt.NDArray[np.uint32]) -> None:
        """The content, sorted places of words, and what stands there instead."""
        self._content, self._places, self._words = content, places, words

    def __len__(self) -> int:
        return len(self._content)

    def __getitem__(self, part: slice) -> Bytes:
        start, stop, _ = part.indices(len(self._content))
        data = np.array(self._content[start:stop])
        first, last = np.searchsorted(self._places, (start, start + max(len(data) - 3, 0)))
        at = self._places[first:last] - start
        words = self._words[first:last]
        for byte in range(4):
            data[at + byte] = words >> np.uint32(8 * byte) & np.uint32(255)
        return data


def find_references(content: Bytes, parts: Iterable[Part]) -> References:
    """All of some parts, which are sorted."""
    found: list[References] = []
    for part in parts:
        if part.kind == ARM64:
            found.append(_arm64(content, part))
        elif part.kind == RELATIVE:
            found.append(_relative(content, part))
        else:
            found.append(_table(content, part))
    return join_references(found)


def join_references(found: Sequence[References]) -> References:
    """Of several, sorted."""
    one = np.empty(0, np.int64)
    empty = References(one, one, one, np.empty(0, np.uint32), np.empty(0, np.uint8))
    columns = [np.concatenate([getattr(part, name) for part in (empty, *found)]) for name in References.__slots__]
    order = np.argsort(columns[0], kind="stable")
    return References(*(column[order] for column in columns))


def _words(content: Bytes, part: Part, kind: str, size: int = 4) -> tuple[int, Numbers]:
    """The first place that is a multiple of four (in an entry: of its words), and the words from there on."""
    skip = -(part.start - (part.origin if size == 8 else 0)) % size
    count = max(part.end - part.start - skip, 0) // size
    data = content[part.start + skip : part.start + skip + count * size]
    return part.start + skip, np.frombuffer(data.tobytes(), kind).astype(np.int64)


def _made(part: Part, places: Numbers, targets: Numbers, rests: Numbers, form: int) -> References:
    forms, biases = np.full(places.shape, form, np.uint8), np.full(places.shape, part.bias, np.int64)
    return References(places, biases, targets, (rests & 0xFFFFFFFF).astype(np.uint32), forms)


def _signed(values: Numbers, bits: int) -> Numbers:
    sign = 1 << bits - 1
    return (values & 2 * sign - 1 ^ sign) - sign


def _adr(words: Numbers) -> Numbers:
    return _signed(words >> 3 & 0x1FFFFC | words >> 29 & 3, 21)


def _split(value: Numbers) -> Numbers:
    return (value & 0x1FFFFC) << 3 | (value & 3) << 29


def _arm64(content: Bytes, part: Part) -> References:
    first, words = _words(content, part, "<u4")
    places = first + 4 * np.arange(len(words), dtype=np.int64)
    found = []
    for form, wanted, mask, field, shift, bits in (
        (BRANCH, 0x14000000, 0x7C000000, 0x3FFFFFF, 0, 26),
        (CONDITION, 0x34000000, 0x7E000000, 0x7FFFF << 5, 5, 19),
        (CONDITION, 0x54000000, 0xFF000010, 0x7FFFF << 5, 5, 19),
    ):
        at = np.flatnonzero(words & mask == wanted)
        targets = places[at] + part.bias + 4 * _signed(words[at] >> shift, bits)
        found.append(_made(part, places[at], targets, words[at] & ~field, form))
    at = np.flatnonzero(words & 0x9F000000 == 0x10000000)
    found.append(_made(part, places[at], places[at] + part.bias + _adr(words[at]), words[at] & 0x9F00001F, ADR))
    return join_references([*found, *_pages(part, words, places)])


def _pages(part: Part, words: Numbers, places: Numbers) -> list[References]:
    at = np.flatnonzero(words & 0x9F000000 == 0x90000000)
    page = (places[at] + part.bias & ~4095) + (_adr(words[at]) << 12)
    target, open_, seen = page.copy(), np.ones(len(at), np.bool_), np.zeros(len(at), np.bool_)
    lows: dict[int, list[Numbers]] = {scale: [] for scale in range(5)}
    where: dict[int, list[Numbers]] = {scale: [] for scale in range(5)}
    for ahead in range(1, _AHEAD + 1):
        other = words[np.minimum(at + ahead, len(words) - 1)]
        add = other & 0xFFC00000 == 0x91000000
        load = other & 0x3B000000 == 0x39000000
        scale = np.where(add, 0, np.where(other & 0x04800000 == 0x04800000, 4, other >> 30))
        hit = open_ & (at + ahead < len(words)) & (add | load) & (other >> 5 & 31 == words[at] & 31)
        address = page + ((other >> 10 & 4095) << scale)
        target = np.where(hit & ~seen, address, target)
        seen |= hit
        open_ &= ~(hit & (other & 31 == words[at] & 31))
        for size in range(5):
            chosen = np.flatnonzero(hit & (scale == size))
            lows[size].append(address[chosen])
            where[size].append(at[chosen] + ahead)
    found = [_made(part, places[at], target, words[at] & 0x9F00001F, PAGE)]
    for size in range(5):
        index = np.concatenate(where[size])
        index, keep = np.unique(index, return_index=True)
        rests = words[index] & 0xFFC003FF
        found.append(_made(part, places[index], np.concatenate(lows[size])[keep], rests, LOW + size))
    return found


def _relative(content: Bytes, part: Part) -> References:
    first, words = _words(content, part, "<i4")
    at = np.flatnonzero(words < 0)
    places = first + 4 * at
    return _made(part, places, places + part.bias + words[at], np.zeros(len(at), np.int64), WHOLE)


def _table(content: Bytes, part: Part) -> References:
    table = TABLES[part.kind]
    first, words = _words(content, part, "<i8" if table.size == 8 else "<i4", table.size)
    entry = ((first - part.origin) // table.size + np.arange(len(words))) % table.entry
    at = np.flatnonzero(np.isin(entry, table.members) & (words != 0) & (np.abs(words) < _POINTER_MAX))
    return _made(part, first + table.size * at, words[at] + part.bias, np.zeros(len(at), np.int64), WHOLE)
