"""References of a payload in files: sorted by place, and whoever wants some reads these alone.

A large image of programs has a hundred million of them, at 29 bytes each.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from twinslot_image.patch_pages import Bytes, ByteSource
from twinslot_image.patch_references import Numbers, References

_REFERENCE: Final = np.dtype(
    [("places", "<i8"), ("biases", "<i8"), ("targets", "<i8"), ("rests", "<u4"), ("forms", "u1")]
)
_WORD: Final = np.dtype([("places", "<i8"), ("words", "<u4")])
_BLOCK: Final = 256  # records of which the place of the first is kept in memory
_MANY: Final = 1 << 10  # blocks read at once by who goes through all
Records = npt.NDArray[Any]  # of one of the two types
Ranges = Iterable[tuple[int, int]]


class StoredRecords:
    """A file of records, sorted by place; none is kept in memory but the place of one in `_BLOCK`."""

    def __init__(self, path: Path, marks: Path, kind: np.dtype[Any]) -> None:
        self._file = path.open("rb", buffering=0)
        self._marks: Numbers = np.load(marks)
        self._kind = kind

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def within(self, ranges: Ranges) -> Records:
        """Those of the ranges of places, each once, and some around them; sorted."""
        bounds = np.array(list(ranges), np.int64).reshape(-1, 2)
        first = np.maximum(np.searchsorted(self._marks, bounds[:, 0], "right") - 1, 0)
        last = np.searchsorted(self._marks, bounds[:, 1])
        order, data, at, upto = np.argsort(first), list[bytes](), 0, 0
        for start, end in zip(first[order].tolist(), last[order].tolist(), strict=True):
            if start > upto:
                data.append(self._read(at, upto))
                at = start
            upto = max(upto, end)
        data.append(self._read(at, upto))
        return np.frombuffer(b"".join(data), self._kind)

    def chunks(self) -> Iterator[Records]:
        """All of them, some at a time."""
        for at in range(0, len(self._marks), _MANY):
            yield np.frombuffer(self._read(at, at + _MANY), self._kind)

    def _read(self, first: int, last: int) -> bytes:
        size = _BLOCK * self._kind.itemsize
        return os.pread(self._file.fileno(), max(last - first, 0) * size, first * size)


class StoredReferences(StoredRecords):
    """The references of a payload, as `store` has put them down."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _marks(path), _REFERENCE)

    def references(self, ranges: Ranges) -> References:
        """Those of the ranges, and some around them."""
        return _unpacked(self.within(ranges))

    def every(self) -> Iterator[References]:
        """All of them, some at a time."""
        return map(_unpacked, self.chunks())


def store(path: Path, found: Iterable[References]) -> None:
    """Put references down, which come sorted."""
    count, marks = 0, [np.empty(0, np.int64)]
    with path.open("wb") as file:
        for some in found:
            records = np.empty(len(some.places), _REFERENCE)
            for name in References.__slots__:
                records[name] = getattr(some, name)
            file.write(records.tobytes())
            marks.append(some.places[-count % _BLOCK :: _BLOCK].copy())  # not a view, which would keep all
            count += len(records)
    np.save(_marks(path), np.concatenate(marks))


def store_words(path: Path, references: Iterable[References]) -> None:
    """Put down, for `Followed`, each word as it is with the address of its target in its field."""
    with _words(path).open("wb") as file:
        for some in references:
            records = np.empty(len(some.places), _WORD)
            records["places"], records["words"] = some.places, some.words()
            file.write(records.tobytes())


class Followed:
    """A payload in which each word that refers to something has the address of that in its field."""

    def __init__(self, content: ByteSource, path: Path) -> None:
        """The content, and where `store_words` has put what stands there instead."""
        self._content = content
        self._records = StoredRecords(_words(path), _marks(path), _WORD)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._records.__exit__(kind, error, trace)

    def __len__(self) -> int:
        return len(self._content)

    def __getitem__(self, part: slice) -> Bytes:
        start, stop, _ = part.indices(len(self._content))
        data, records = np.array(self._content[start:stop]), self._records.within([(start, stop)])
        first, last = np.searchsorted(records["places"], (start, start + max(len(data) - 3, 0)))
        at, words = records["places"][first:last] - start, records["words"][first:last]
        for byte in range(4):
            data[at + byte] = words >> np.uint32(8 * byte) & np.uint32(255)
        return data


def _unpacked(records: Records) -> References:
    return References(*(np.ascontiguousarray(records[name]) for name in References.__slots__))


def _marks(path: Path) -> Path:
    return path.with_name(f"{path.name}.marks.npy")


def _words(path: Path) -> Path:
    return path.with_name(f"{path.name}.words")
