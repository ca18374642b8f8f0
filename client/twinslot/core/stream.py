"""What the engine asks of a way to an image.

An `ImageStream` is the near end of an unprivileged process that fetches, parses and decodes. What it hands over is not
trusted: the engine has the manifest verified elsewhere, and the writer checks each group against the plain list whose
digest the manifest names (S2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from twinslot.core.manifest import Manifest
from twinslot.core.notes import Note, Unused


@dataclass(frozen=True, slots=True)
class ImageHead:
    """What stands before anything that needs trust. Bounded by the format (docs/image-format.md).

    Attributes:
        trust: The trust section: root chain and targets document, as it stands in the image.
        manifest: The manifest's bytes: what is verified is what is parsed.
    """

    trust: bytes
    manifest: bytes


@dataclass(frozen=True, slots=True)
class Base:
    """What the running slot holds of one payload: a patch may be made against it.

    Attributes:
        payload: Its name.
        size: Bytes.
        group_size: Bytes of plain content per group of the list.
        digest: SHA-256 of the payload, 64 hex digits.
        plain_list: 32 bytes of SHA-256 for each group.
        descriptor: Of the partition, open for reading only; the giver keeps it.
    """

    payload: str
    size: int
    group_size: int
    digest: str
    plain_list: bytes = field(repr=False)
    descriptor: int


@dataclass(frozen=True, slots=True)
class Cost:
    """What fetching some groups would take, in bytes.

    Attributes:
        patch: Of a patch: what is left of it to fetch, its head included.
        image: Of the image.
    """

    patch: int
    image: int


@dataclass(frozen=True, slots=True)
class ListPart:
    """The plain list of one payload: 32 bytes of SHA-256 for each group.

    Attributes:
        payload: Its name.
        data: The list.
        waits: The source can seek: no group comes before `ImageStream.want` asks for it. Otherwise all come, in order.
    """

    payload: str
    data: bytes = field(repr=False)
    waits: bool = False


@dataclass(frozen=True, slots=True)
class GroupPart:
    """One group's plain bytes. `data` is only valid until the next part is asked for."""

    payload: str
    index: int
    data: bytes | memoryview


@dataclass(frozen=True, slots=True)
class AttachmentPart:
    """An attachment, whole: its name and content."""

    name: str
    data: bytes = field(repr=False)


Part = ListPart | GroupPart | AttachmentPart


class ImageStream(Protocol):
    """One image on its way in. Owned by the job that opened it; `close` ends the process behind it."""

    @property
    def remote(self) -> bool:
        """Whether bytes come over a network: then it is worth to look for them on the device first."""
        ...

    @property
    def source(self) -> str:
        """Where it comes from, for the audit: never with a user, a password, a query or a fragment."""
        ...

    @property
    def fetched(self) -> int:
        """Bytes read from the source so far."""
        ...

    @property
    def unused(self) -> tuple[Unused, ...]:
        """What would have saved a part of the download, and why it did not; complete once the parts have ended."""
        ...

    def listen(self, listener: Callable[[Note], None]) -> None:
        """Who is told of failed tries and of what is not used, as it happens; what it raises ends the stream."""
        ...

    def head(self) -> ImageHead:
        """Wait for the head.

        Raises:
            ImageError: The image is wrong.
            TransportError: The source does not answer or went away.
        """
        ...

    def foresee(self) -> None:
        """Start what opening an encrypted image will take, if this looks like one, while others judge its head."""
        ...

    def unlock(self, manifest: Manifest) -> None:
        """Of an encrypted image: make sure that this device can open it, before anything is changed for it.

        Args:
            manifest: As verified; nothing happens when it is not of an encrypted image.

        Raises:
            RefusedError: `refused.recipient`: it is encrypted for others.
            DeviceError: `device.decryption-key`: there is no key, or it cannot be used.
        """
        ...

    def attach(self, names: Sequence[str]) -> None:
        """Have these attachments come before all other parts; said before `parts`."""
        ...

    def parts(self, manifest: Manifest, bases: Sequence[Base] = ()) -> Iterator[Part]:
        """Go on after the manifest was verified: for each payload its list, then groups, in ascending order.

        After a list that `waits` nothing comes before `want`, and each time what was wanted. Ends after the last
        payload, once the source's end was checked. Raises as `head`.

        Args:
            manifest: As verified.
            bases: What the running slot holds, if patches against it are welcome.
        """
        ...

    def want(self, payload: str, groups: bytes) -> None:
        """Ask for groups of the payload whose list was the last one to come.

        Args:
            payload: Its name.
            groups: One bit for each group, the lowest bit of the first byte for the first; empty: no more of this
                payload.
        """
        ...

    def cost(self, payload: str, groups: bytes) -> Cost:
        """What it would take to fetch these groups; nothing of them is fetched."""
        ...

    def close(self) -> None:
        """Stop and release everything; may be called at any time, from any thread, and twice."""
        ...
