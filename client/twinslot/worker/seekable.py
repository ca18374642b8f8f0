"""An image read by ranges: only the parts that are asked for, each checked as `image.reader` checks them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from twinslot.core.attachments import check_attachment
from twinslot.core.bitset import has, ones
from twinslot.core.errors import ImageError, LifecycleError, TransportError
from twinslot.core.manifest import Manifest, Payload
from twinslot.core.notes import Note, Unused
from twinslot.core.span import Span
from twinslot.image.codec import Decoder
from twinslot.image.events import AttachmentEvent, EnvelopeEvent, Event, Group, Head, PlainList
from twinslot.image.groups import check_plain_list, check_stored_table, decode_group
from twinslot.image.layout import Layout, layout
from twinslot.image.reader import Limits, Reader, check_limits
from twinslot.image.units import Opener, PlainUnits, UnitKind, UnitPlace
from twinslot.image.wire import HEADER_SIZE, Header, Section, StoredTable, parse_header, truncated

ONLY_WHOLE: Final = Unused("ranges", "the server gives the image only as a whole, so all of it is fetched")


class Ranges(Protocol):
    """Parts of one file; see `transport.ranges.RangeSource`."""

    @property
    def size(self) -> int | None:
        """Bytes of the whole, if known."""
        ...

    @property
    def fetched(self) -> int:
        """Bytes so far."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """These bytes."""
        ...

    def stream(self, spans: Iterable[Span]) -> Iterator[tuple[Span, bytes]]:
        """Each span with its bytes."""
        ...

    def know_by(self, front: bytes) -> None:
        """These first bytes tell the file from every other."""
        ...


class Chunks(Protocol):
    """A whole file, front to back."""

    @property
    def fetched(self) -> int:
        """Bytes so far, those that were read again and skipped too."""
        ...

    def chunks(self) -> Iterator[bytes]:
        """Its bytes."""
        ...

    def expect(self, length: int) -> None:
        """So long is it at least."""
        ...

    def close(self) -> None:
        """Stop."""
        ...


@dataclass(frozen=True, slots=True)
class Refusals:
    """How a source says that it gives only the whole: the class of that exception, with the whole as `source`."""

    kind: type[Exception] | tuple[()] = ()


class SeekableImage:
    """One image by ranges. After `head` comes `proceed`, then everything else in any order.

    Of an encrypted image `envelope` and `unlock` come between.

    Args:
        source: Its bytes.
        limits: As the reader's.
        refusals: What is caught when ranges end in the middle; the image is then read from its front.

    Attributes:
        tick: Called whenever bytes arrived in that way; what it raises ends the download.
        note: Told that they do.

    Raises:
        ImageError: From every method: the image is wrong.
        TransportError: From every method: the source.
    """

    def __init__(self, source: Ranges, limits: Limits, refusals: Refusals | None = None) -> None:
        self._source, self._limits = source, limits
        self.tick: Callable[[], None] = lambda: None
        self.note: Callable[[Note], None] = lambda _: None
        self._refused = (refusals or Refusals()).kind
        self._decoder = Decoder()
        self._opener: Opener = PlainUnits()
        self._header: Header | None = None
        self._layout: Layout | None = None
        self._head = (b"", b"")
        self._manifest: Manifest | None = None
        self._tables: dict[str, StoredTable] = {}
        self._beside = 0  # bytes that came from the front, beside the ranges

    @property
    def fetched(self) -> int:
        """Bytes so far."""
        return self._source.fetched + self._beside

    def head(self) -> Head:
        """Header, trust section and manifest; a file of another length than its header says is refused."""
        front = self._front()
        header = parse_header(front)
        self._check_size(header)
        self._source.know_by(front)  # every length; no digest yet, but all that comes has one
        both = self._source.read(HEADER_SIZE, header.trust + header.manifest)
        trust, manifest = both[: header.trust], both[header.trust :]
        self._header, self._head = header, (trust, manifest)
        self._source.know_by(front + both)  # the manifest has digests of everything behind it
        return Head(header, trust, manifest)

    def proceed(self, manifest: Manifest) -> None:
        """Go on: the manifest was verified elsewhere."""
        if self._header is None or manifest.digest != hashlib.sha256(self._head[1]).hexdigest():
            raise LifecycleError("reader: the manifest is not this image's", code="reader")
        self._layout = layout(self._header, manifest)
        check_limits(manifest, self._limits)
        self._manifest = manifest

    def envelope(self) -> bytes:
        """The envelope of an encrypted image, unverified."""
        span = self._spans().envelope
        try:
            return self._source.read(span.offset, span.length)
        except self._refused as e:
            events = self._from_front(e.source)  # type: ignore[attr-defined]
            return next(event.data for event in events if isinstance(event, EnvelopeEvent))

    def unlock(self, opener: Opener) -> None:
        """Go on past the envelope, with what opens the units."""
        self._opener = opener

    def attachment(self, number: int) -> bytes:
        """An attachment by its place in the manifest."""
        assert self._manifest is not None
        attachment = self._manifest.attachments[number]
        span = self._spans().attachments[attachment.name]
        try:
            sealed = self._source.read(span.offset, span.length)
            return check_attachment(attachment, self._opener.open(UnitPlace(UnitKind.ATTACHMENT, number), sealed))
        except self._refused as e:
            return next(
                event.data
                for event in self._from_front(e.source)  # type: ignore[attr-defined]
                if isinstance(event, AttachmentEvent) and event.attachment.name == attachment.name
            )

    def plain_list(self, payload: Payload) -> bytes:
        """The list of a payload."""
        span = self._spans().plain_lists[payload.name]
        try:
            sealed = self._source.read(span.offset, span.length)
            return check_plain_list(payload, self._opener.open(self._place(UnitKind.PLAIN_LIST, payload), sealed))
        except self._refused as e:
            return next(
                event.data
                for event in self._from_front(e.source)  # type: ignore[attr-defined]
                if isinstance(event, PlainList) and event.payload.name == payload.name
            )

    def cost(self, payload: Payload, wanted: bytes) -> int:
        """Stored bytes of these groups. The table that tells them is fetched now, if it is still missing."""
        if not wanted:
            return 0
        try:
            table = self._table(payload)
        except self._refused as e:
            e.source.close()  # type: ignore[attr-defined]
            assert self._header is not None
            return self._header.total
        tag = self._spans().tag
        return sum(table[index].length + tag for index in ones(wanted))

    def groups(self, payload: Payload, wanted: bytes) -> Iterator[tuple[int, bytes]]:
        """These groups, in ascending order, checked against the table and decoded.

        Their plain digests are looked at by the writer, who believes no worker (S2), and not here as well: that was
        an eighth of the processor time of an install (docs/decisions/0079).
        """
        if not wanted:
            return
        following = 0  # everything wanted before this one has been handed out
        try:
            table = self._table(payload)
            stored = self._opener.stream(self._sealed_groups(payload, table, wanted))
            for index, data in zip(ones(wanted), stored, strict=True):
                yield index, decode_group(payload, index, table[index], data, self._decoder)
                following = index + 1
        except self._refused as e:
            yield from self._groups_from_front(e.source, payload, wanted, following)  # type: ignore[attr-defined]

    def _groups_from_front(
        self, whole: Chunks, payload: Payload, wanted: bytes, following: int
    ) -> Iterator[tuple[int, bytes]]:
        """The groups that are wanted from `following` on; what stands behind the last of them is not fetched."""
        missing = sum(1 for _ in ones(wanted, following))
        for event in self._from_front(whole):
            if not isinstance(event, Group) or event.payload.name != payload.name:
                continue
            if event.index >= following and has(wanted, event.index):
                yield event.index, event.data
                missing -= 1
                if not missing:
                    return

    def _sealed_groups(self, payload: Payload, table: StoredTable, wanted: bytes) -> Iterator[tuple[UnitPlace, bytes]]:
        number = self._place(UnitKind.GROUP, payload).number
        sealed = self._source.stream(self._group_spans(payload, table, wanted))
        for index, (_, data) in zip(ones(wanted), sealed, strict=True):
            yield UnitPlace(UnitKind.GROUP, number, index), data

    def _group_spans(self, payload: Payload, table: StoredTable, wanted: bytes) -> Iterator[Span]:
        """Made as they are needed: an image may have a quarter of a million."""
        at, offset, tag = 0, self._spans().groups[payload.name].offset, self._spans().tag
        for index in ones(wanted):
            while at < index:
                offset += table[at].length + tag
                at += 1
            yield Span(offset, table[index].length + tag)

    def _table(self, payload: Payload) -> StoredTable:
        if payload.name not in self._tables:
            span = self._spans().stored_tables[payload.name]
            sealed = self._source.read(span.offset, span.length)
            data = self._opener.open(self._place(UnitKind.STORED_TABLE, payload), sealed)
            self._tables = {payload.name: check_stored_table(payload, data)}
        return self._tables[payload.name]

    def _place(self, kind: UnitKind, payload: Payload) -> UnitPlace:
        assert self._manifest is not None
        return UnitPlace(kind, self._manifest.payloads.index(payload))

    def _from_front(self, whole: Chunks) -> Iterator[Event]:
        """Everything from the first byte on, of the same image."""
        reader, before = Reader(self._limits), self._beside
        self.note(ONLY_WHOLE)
        if self._header is not None:
            whole.expect(self._header.total)
        try:
            for chunk in whole.chunks():
                self._beside = before + whole.fetched
                self.tick()
                yield from self._past_head(reader, reader.feed(chunk)) if chunk else ()
            reader.close()
        finally:
            whole.close()

    def _past_head(self, reader: Reader, events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            if isinstance(event, Head):
                if (event.trust, event.manifest) != self._head:
                    raise TransportError("the file on the server was replaced during the download", code="changed")
                list(events)  # the reader waits here for `proceed`
                assert self._manifest is not None
                yield from self._past_head(reader, reader.proceed(self._manifest))
                return
            yield event
            if isinstance(event, EnvelopeEvent):
                list(events)  # and here for `unlock`
                yield from reader.unlock(self._opener)
                return

    def _front(self) -> bytes:
        try:
            return self._source.read(0, HEADER_SIZE)
        except (TransportError, ImageError) as e:
            size = self._source.size
            if size is None or size >= HEADER_SIZE:
                raise
            raise truncated(Section.HEADER, HEADER_SIZE, size) from e

    def _spans(self) -> Layout:
        if self._layout is None:
            raise LifecycleError("reader: proceed() comes first", code="reader")
        return self._layout

    def _check_size(self, header: Header) -> None:
        size = self._source.size
        if size is None or size == header.total:
            return
        if size > header.total:
            expected, found = f"{header.total} bytes", f"{size} bytes"
            raise ImageError("bytes follow the 'groups' section", code="trailing", expected=expected, found=found)
        section = next(s for s in Section if size < header.offset(s) + header.length(s))
        raise truncated(section, header.length(section), max(size - header.offset(section), 0))
