"""Front to back: for pipes, and for servers that give only the whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from twinslot.core.errors import ImageError
from twinslot.core.manifest import Manifest
from twinslot.image.events import AttachmentEvent, EnvelopeEvent, Event, Group, Head, PlainList
from twinslot.image.reader import Limits, Reader
from twinslot.worker.sender import WorkerSender


class ByteSource(Protocol):
    """Where the bytes of an image come from."""

    @property
    def fetched(self) -> int:
        """Bytes so far, those that were read again and skipped too."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """The bytes in order, to the end; an empty chunk says that there is nothing new, but life."""
        ...

    def expect(self, length: int) -> None:
        """So long is the image, as its header says."""
        ...

    def explain(self, error: ImageError) -> ImageError:
        """The error, or a better explanation for it that only the source knows."""
        ...


class SequentialImage:
    """Sends everything, in the order of the image.

    Args:
        sender: To the engine.
        limits: The reader's.
        image_size: Bytes; a longer image is refused by its header. 0: no bound.
        source: The bytes.
        before: Bytes that were fetched before these.
    """

    def __init__(
        self, sender: WorkerSender, limits: Limits, image_size: int, source: ByteSource, before: int = 0
    ) -> None:
        self._sender, self._image_size, self._source = sender, image_size, source
        self._reader = Reader(limits)
        self._numbers: dict[str, int] = {}  # payload name -> its place in the manifest
        self._attachments: dict[str, int] = {}  # attachment name -> its place in the manifest
        self._before = before
        self._chunks = source.chunks()

    def run(self) -> None:
        """From the first byte to the end."""
        self._sender.watch(lambda: self._before + self._source.fetched)
        try:
            for chunk in self._chunks:
                self._handle(self._feed(chunk))
            self._reader.close()
        except ImageError as e:
            raise self._source.explain(e) from e
        self._sender.end()

    def _feed(self, chunk: bytes) -> Iterator[Event]:
        if not chunk:
            self._sender.live()
            return
        yield from self._reader.feed(chunk)
        self._sender.tick()

    def _unlocked(self, manifest: Manifest) -> bytes:
        """Read on up to the envelope, which the engine wants to see before anything else of the image is asked for."""
        events = self._reader.proceed(manifest)
        while True:
            for event in events:
                assert isinstance(event, EnvelopeEvent)  # the first behind the manifest
                list(events)  # the reader waits here for `unlock`
                return event.data
            chunk = next(self._chunks, None)
            if chunk is None:
                self._reader.close()  # says which section ends too early
            events = self._feed(chunk or b"")

    def _handle(self, events: Iterator[Event]) -> None:
        for event in events:
            if isinstance(event, Head):
                self._sender.head(event, self._image_size)
                self._source.expect(event.header.total)
                list(events)  # the reader waits here for `proceed`
                manifest = self._sender.proceed(self._unlocked)
                self._attachments = {each.name: number for number, each in enumerate(manifest.attachments)}
                self._numbers = {payload.name: number for number, payload in enumerate(manifest.payloads)}
                if manifest.encrypted:
                    self._handle(self._reader.unlock(self._sender.unlocked))
                else:
                    self._handle(self._reader.proceed(manifest))
                return
            if isinstance(event, AttachmentEvent):
                number = self._attachments[event.attachment.name]
                if number in self._sender.attached:
                    self._sender.attachment(number, event.data)
            elif isinstance(event, PlainList):
                self._sender.plain_list(self._numbers[event.payload.name], event.data, waits=False)
            elif isinstance(event, Group):
                self._sender.group(self._numbers[event.payload.name], event.index, event.data)
