"""An image file read front to back, whoever wants to know what of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from twinslot.core.manifest import Manifest
from twinslot.image.events import EndOfImage, EnvelopeEvent, Event, Head
from twinslot.image.reader import Reader
from twinslot_image.recipients import Unlock, units_of

_CHUNK = 1024 * 1024  # bytes


def read_events(
    path: Path,
    believe: Callable[[Head], Manifest],
    unlock: Unlock,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Iterator[Event | EndOfImage]:
    """Everything in an image, each part checked; ends after the last one.

    Args:
        path: The image.
        believe: Says whether head and manifest are trusted, by raising what speaks against it.
        unlock: Opens the envelope of an encrypted image.
        on_progress: Called with the bytes read so far.

    Raises:
        ImageError: Damaged or malformed.
    """
    reader = Reader()
    with path.open("rb") as file:
        for chunk in iter(lambda: file.read(_CHUNK), b""):
            yield from _past(reader, reader.feed(chunk), believe, unlock)
            on_progress(reader.received)
    yield reader.close()


def _past(
    reader: Reader, events: Iterator[Event], believe: Callable[[Head], Manifest], unlock: Unlock
) -> Iterator[Event]:
    for event in events:
        yield event
        if isinstance(event, Head):
            manifest = believe(event)
            list(events)  # the reader waits here
            yield from _past(reader, reader.proceed(manifest), believe, unlock)
        elif isinstance(event, EnvelopeEvent):
            opener = units_of(unlock(event.data))
            list(events)  # and here
            yield from _past(reader, reader.unlock(opener), believe, unlock)
