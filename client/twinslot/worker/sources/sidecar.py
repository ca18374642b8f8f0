"""Files beside an image: looked for in one way, and never a reason to end an update."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias, TypeVar
from urllib.parse import urlsplit, urlunsplit

from twinslot.core.errors import ImageError, TransportError
from twinslot.core.notes import Note, Unused
from twinslot.core.stream import Base
from twinslot.transport.http.options import HttpSettings, for_sidecar
from twinslot.transport.http.ranges import RangeSource, RangesRefused, open_optional
from twinslot.worker.opener import RemoteOpener
from twinslot.worker.sources.base import not_used
from twinslot.worker.sources.sealed import FIRST, SealedRanges

SUFFIX: Final = ".twin"
HEAD: Final = 4096  # bytes that are asked for at once: they hold most heads
T = TypeVar("T")
Parts: TypeAlias = RangeSource | SealedRanges


def beside(url: str, ending: str) -> str:
    """The address of a file beside an image: `NAME` and this ending, where the image is `NAME.twin`."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"{parts.path.removesuffix(SUFFIX)}{ending}"))


@dataclass(frozen=True, slots=True)
class Search:
    """Where to look, and for whom.

    Attributes:
        url: Of the image.
        http: Limits of time and retries for the image; a file beside it gets less.
        bases: What the device runs, by payload.
        tick: A sign of life.
        note: Told of tries that failed, and of what is not used.
        image: Whose deadline and rate limit files beside it share.
        opener: Of an encrypted image: files beside it are sealed, too, and others are of no use.
    """

    url: str
    http: HttpSettings
    bases: Mapping[str, Base]
    tick: Callable[[], None] = field(default=lambda: None)
    note: Callable[[Note], None] = field(default=lambda _: None)
    image: RangeSource | None = None
    opener: RemoteOpener | None = None

    def find(self, what: str, url: str, read: Callable[[Parts], T]) -> tuple[Parts | None, T | None]:
        """Open a file beside the image and read its head.

        Args:
            what: The file, for people.
            url: Of it.
            read: Reads the head.

        Returns:
            The source, whose bytes count and which is the caller's, and the head; None: it is not there, or of no use.

        Raises:
            TransportError: The deadline or the budget of the whole update.
        """
        source: Parts | None = None
        head = None
        try:
            settings = for_sidecar(self.http)
            first = FIRST if self.opener else HEAD
            found = open_optional(url, settings, first=first, tick=self.tick, beside=self.image, note=self.note)
            if found is None:
                self.note(Unused(what, "there is none beside the image"))
            else:
                source = found
                source = SealedRanges(found, self.opener) if self.opener else found
                head = read(source)
        except (ImageError, TransportError, RangesRefused) as e:
            not_used(what, e, self.note)
        return source, head
