"""Front to back: for pipes, and for servers that give only the whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from twinslot.core.errors import ImageError
from twinslot.image.events import Event, Group, Head, PlainList
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
        self._before = before

    def run(self) -> None:
        """From the first byte to the end."""
        self._sender.watch(lambda: self._before + self._source.fetched)
        try:
            for chunk in self._source.chunks():
                if chunk:
                    self._handle(self._reader.feed(chunk))
                    self._sender.tick()
                else:
                    self._sender.live()
            self._reader.close()
        except ImageError as e:
            raise self._source.explain(e) from e
        self._sender.end()

    def _handle(self, events: Iterator[Event]) -> None:
        for event in events:
            if isinstance(event, Head):
                self._sender.head(event, self._image_size)
                self._source.expect(event.header.total)
                list(events)  # the reader waits here for `proceed`
                manifest = self._sender.proceed()
                self._numbers = {payload.name: number for number, payload in enumerate(manifest.payloads)}
                self._handle(self._reader.proceed(manifest))
                return
            if isinstance(event, PlainList):
                self._sender.plain_list(self._numbers[event.payload.name], event.data, waits=False)
            elif isinstance(event, Group):
                self._sender.group(self._numbers[event.payload.name], event.index, event.data)
