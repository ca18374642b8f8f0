"""What a reader says. All but head and envelope was checked against a digest that the verified manifest reaches."""

from __future__ import annotations

from dataclasses import dataclass, field

from twinslot.core.manifest import Attachment, Payload
from twinslot.image.wire import Encoding, Header


@dataclass(frozen=True, slots=True)
class Head:
    """The front of the image. NOT verified: give `trust` and `manifest` to `trust.verify` before anything else."""

    header: Header
    trust: bytes = field(repr=False)
    manifest: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class EnvelopeEvent:
    """The envelope of an encrypted image, unverified: `reader.unlock` comes next, with what opens its units."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AttachmentEvent:
    """One attachment, whole."""

    attachment: Attachment
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PlainList:
    """The plain list of one payload: 32 bytes for each group."""

    payload: Payload
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Group:
    """The plain content of one group. `encoding` tells a writer when the group is all zeros."""

    payload: Payload
    index: int
    encoding: Encoding
    data: bytes = field(repr=False)

    @property
    def offset(self) -> int:
        """Bytes from the start of the payload."""
        return self.index * self.payload.group_size


@dataclass(frozen=True, slots=True)
class EndOfImage:
    """Every section was read, and nothing follows. `size` in bytes."""

    size: int


Event = Head | EnvelopeEvent | AttachmentEvent | PlainList | Group
