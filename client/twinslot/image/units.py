"""The parts of an encrypted image that are opened one by one, and where each stands (docs/image-format.md section 11).

Pure: who opens them has the key, and is elsewhere (`crypto.units`, or a process of its own behind `worker.opener`).
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

TAG_SIZE: Final = 16  # bytes that sealing adds; both ciphers' (RFC 5116 section 5.2, RFC 8439 section 2.8)
FILE_ID_SIZE: Final = 16  # bytes; drawn anew for each file that is sealed
_PLACE: Final = struct.Struct(">BHI")


class UnitKind(enum.IntEnum):
    """What a unit holds."""

    ATTACHMENT = 1
    PLAIN_LIST = 2
    STORED_TABLE = 3
    GROUP = 4
    CHUNK = 5  # of a patch or a block list


@dataclass(frozen=True, slots=True)
class UnitPlace:
    """Where a unit stands.

    Attributes:
        kind: What it holds.
        number: Of its payload or attachment, in the order of names.
        index: Of its group or chunk.
    """

    kind: UnitKind
    number: int = 0
    index: int = 0

    def pack(self) -> bytes:
        """Seven bytes that no other place has."""
        return _PLACE.pack(self.kind, self.number, self.index)

    @staticmethod
    def unpack(data: bytes) -> UnitPlace:
        """The place of these bytes.

        Raises:
            ValueError: There is no such kind, or they are not seven.
        """
        try:
            kind, number, index = _PLACE.unpack(data)
        except struct.error as e:
            raise ValueError(str(e)) from e
        return UnitPlace(UnitKind(kind), number, index)

    def __str__(self) -> str:
        match self.kind:
            case UnitKind.GROUP:
                return f"group {self.index} of payload {self.number}"
            case UnitKind.CHUNK:
                return f"chunk {self.index}"
            case UnitKind.ATTACHMENT:
                return f"attachment {self.number}"
            case UnitKind.PLAIN_LIST:
                return f"the plain list of payload {self.number}"
            case UnitKind.STORED_TABLE:
                return f"the stored table of payload {self.number}"


PLACE_SIZE: Final = _PLACE.size


class Opener(Protocol):
    """Opens the units of one file. Holds the key, or asks who does."""

    def open(self, place: UnitPlace, sealed: bytes) -> bytes:
        """The content of a unit: `TAG_SIZE` bytes shorter.

        Raises:
            ImageError: `image.sealed`: damaged, moved, or of another image.
        """
        ...

    def stream(self, units: Iterable[tuple[UnitPlace, bytes]]) -> Iterator[bytes]:
        """The contents of many, in order; some may be on their way while the caller uses one. Raises as `open`."""
        ...


class OpensUnits:
    """What an opener that works at once does with many."""

    def open(self, place: UnitPlace, sealed: bytes) -> bytes:
        """See `Opener`."""
        raise NotImplementedError

    def stream(self, units: Iterable[tuple[UnitPlace, bytes]]) -> Iterator[bytes]:
        """See `Opener`."""
        for place, sealed in units:
            yield self.open(place, sealed)


class PlainUnits(OpensUnits):
    """Opens an image that is not encrypted: nothing was added, nothing is taken away."""

    def open(self, place: UnitPlace, sealed: bytes) -> bytes:  # noqa: ARG002 - the protocol's
        """As it is."""
        return sealed
