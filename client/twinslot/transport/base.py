"""What the engine asks of a way to an image.

An `ImageStream` is the near end of an unprivileged process that fetches, parses and decodes. What it hands over is not
trusted: the engine has the manifest verified elsewhere, and the writer checks each group against the plain list whose
digest the manifest names (S2).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from twinslot.core.manifest import Manifest


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
class ListPart:
    """The plain list of one payload: 32 bytes of SHA-256 for each group."""

    payload: str
    data: bytes


@dataclass(frozen=True, slots=True)
class GroupPart:
    """One group's plain bytes. `data` is only valid until the next part is asked for."""

    payload: str
    index: int
    data: bytes


Part = ListPart | GroupPart


class ImageStream(Protocol):
    """One image on its way in. Owned by the job that opened it; `close` ends the process behind it."""

    @property
    def fetched(self) -> int:
        """Bytes read from the source so far."""
        ...

    def head(self) -> ImageHead:
        """Wait for the head.

        Raises:
            BundleError: The image is wrong.
            TransportError: The source does not answer or went away.
        """
        ...

    def parts(self, manifest: Manifest) -> Iterator[Part]:
        """Go on after the manifest was verified: for each payload its list, then its groups in order.

        Ends after the last group once the source's end was checked. Raises as `head`.
        """
        ...

    def close(self) -> None:
        """Stop and release everything; may be called at any time, from any thread, and twice."""
        ...
