"""Reads an image front to back, in the spirit of h11: bytes in, events out, no file and no clock.

    reader = Reader()
    for event in reader.feed(chunk):        # ... until it yields Head, then it waits
    verdict = verify(...)                   # somebody else's work, in another process
    for event in reader.proceed(parse_manifest(head.manifest)):
    for event in reader.feed(chunk):        # of an encrypted image the envelope; then reader.unlock(opener) comes first
    for event in reader.feed(chunk):        # attachments, plain lists, groups
    reader.close()                          # at the end of the input: whole, or an error

Memory: one chunk, plus the lists and tables (0.11 % of the content), plus the largest attachment or group. Iterate
each result to its end before the next call: a few stored bytes can stand for gigabytes of zeros, so groups are made one
by one.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from twinslot.core.attachments import check_attachment
from twinslot.core.bounds import DIGEST_SIZE, ENTRY_SIZE, GROUP_SIZE_MAX, GROUPS_MAX
from twinslot.core.errors import ImageError, LifecycleError, TwinslotError
from twinslot.core.manifest import Manifest, Payload
from twinslot.image import groups
from twinslot.image.codec import Decoder
from twinslot.image.events import AttachmentEvent, EndOfImage, EnvelopeEvent, Event, Group, Head, PlainList
from twinslot.image.layout import Layout, layout
from twinslot.image.units import Opener, PlainUnits, UnitKind, UnitPlace
from twinslot.image.wire import HEADER_SIZE, Header, Section, StoredTable, parse_header, truncated


@dataclass(frozen=True, slots=True)
class Limits:
    """Tighter bounds than the format's own, for a device with little memory.

    Attributes:
        group_size: Bytes; the largest group that is decoded.
        groups: In all payloads together; lists and tables take 72 bytes for each.
    """

    group_size: int = GROUP_SIZE_MAX
    groups: int = GROUPS_MAX


def check_limits(manifest: Manifest, limits: Limits) -> None:
    """Is the image within this device's bounds?

    Raises:
        ImageError: `image.limit`.
    """
    largest = max(payload.group_size for payload in manifest.payloads)
    if largest > limits.group_size:
        expected = f"at most {limits.group_size} bytes"
        raise ImageError("the group size is above this device's bound", code="limit", expected=expected, found=largest)
    if (count := sum(payload.groups for payload in manifest.payloads)) > limits.groups:
        expected = f"at most {limits.groups} groups"
        raise ImageError("the image is above this device's bound", code="limit", expected=expected, found=count)


class _Wait(enum.Enum):
    DATA = enum.auto()
    PROCEED = enum.auto()
    UNLOCK = enum.auto()


_Steps = Generator[Event | _Wait, None, None]


class Reader:
    """One image. After an error it stays in error: every later call raises the same again.

    Raises:
        ImageError: From every method, naming section, expected and found.
        LifecycleError: Our own mistake: calls in the wrong order.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._buffer = bytearray()
        self._received = 0
        self._header: Header | None = None
        self._manifest: Manifest | None = None
        self._manifest_digest = ""
        self._opener: Opener | None = None
        self._tag = 0  # bytes that sealing adds to each unit
        self._error: TwinslotError | None = None
        self._waits_for: _Wait | None = _Wait.DATA  # None: an earlier result was not iterated to its end
        self._done = False
        self._decoder = Decoder()
        self._steps = self._read_image()

    @property
    def received(self) -> int:
        """Bytes fed so far."""
        return self._received

    @property
    def complete(self) -> bool:
        """Everything has been read and handed out; only `close` is left."""
        return self._done

    def feed(self, data: bytes | memoryview) -> Iterator[Event]:
        """Take the next bytes, in order and of any length, and hand out what they complete."""
        self._raise_earlier()
        if self._waits_for is not _Wait.DATA:
            first = "unlock()" if self._waits_for is _Wait.UNLOCK else "proceed()"
            what = f"{first} comes first" if self._waits_for else "the last result was not iterated to its end"
            raise LifecycleError(f"reader: {what}", code="reader")
        self._buffer += data
        self._received += len(data)
        self._waits_for = None
        return self._events()

    # keeps: S2
    def proceed(self, manifest: Manifest) -> Iterator[Event]:
        """Go on past the head. The caller has verified these manifest bytes against the device's trust.

        Args:
            manifest: What `parse_manifest` made of `Head.manifest`; another one's digest is refused.
        """
        self._raise_earlier()
        if self._waits_for is not _Wait.PROCEED:
            raise LifecycleError("reader: proceed() without a head that waits for it", code="reader")
        if manifest.digest != self._manifest_digest:
            raise LifecycleError("reader: the manifest is not this image's", code="reader")
        self._manifest, self._waits_for = manifest, None
        return self._events()

    def unlock(self, opener: Opener) -> Iterator[Event]:
        """Go on past the envelope of an encrypted image.

        Args:
            opener: Opens the units of the image that this envelope belongs to.
        """
        self._raise_earlier()
        if self._waits_for is not _Wait.UNLOCK:
            raise LifecycleError("reader: unlock() without an envelope that waits for it", code="reader")
        self._opener, self._waits_for = opener, None
        return self._events()

    def close(self) -> EndOfImage:
        """The input has ended: was that the whole image?

        Raises:
            ImageError: `image.truncated`, with the section, its length and how much of it arrived.
        """
        self._raise_earlier()
        total = self._header.total if self._header else HEADER_SIZE
        if self._received < total:
            raise self._truncated()
        if not self._done:
            raise LifecycleError("reader: closed before everything was read", code="reader")
        return EndOfImage(total)

    def _events(self) -> Iterator[Event]:
        try:
            self._check_length()
            for step in self._steps:
                if isinstance(step, _Wait):
                    self._waits_for = step
                    return
                yield step
        except TwinslotError as e:
            self._error = e
            raise
        self._done, self._waits_for = True, _Wait.DATA

    # The order of the format, as one story; each `yield from self._take(...)` waits until that many bytes are there.

    def _read_image(self) -> _Steps:
        self._header = parse_header((yield from self._take(HEADER_SIZE)))
        self._check_length()
        trust = yield from self._take(self._header.trust)
        manifest = yield from self._take(self._header.manifest)
        self._manifest_digest = hashlib.sha256(manifest).hexdigest()
        yield Head(self._header, trust, manifest)
        while self._manifest is None:
            yield _Wait.PROCEED
        where = layout(self._header, self._manifest)
        check_limits(self._manifest, self._limits)
        yield from self._read_envelope(self._manifest, where)
        yield from self._read_body(self._manifest)

    def _read_envelope(self, manifest: Manifest, where: Layout) -> _Steps:
        if not manifest.encrypted:
            self._opener = PlainUnits()
            return
        self._tag = where.tag
        yield EnvelopeEvent((yield from self._take(where.envelope.length)))
        while self._opener is None:
            yield _Wait.UNLOCK

    def _read_body(self, manifest: Manifest) -> _Steps:
        for number, attachment in enumerate(manifest.attachments):
            data = yield from self._unit(UnitPlace(UnitKind.ATTACHMENT, number), attachment.size)
            yield AttachmentEvent(attachment, check_attachment(attachment, data))
        lists: dict[str, bytes] = {}
        for number, payload in enumerate(manifest.payloads):
            data = yield from self._unit(UnitPlace(UnitKind.PLAIN_LIST, number), payload.groups * DIGEST_SIZE)
            lists[payload.name] = groups.check_plain_list(payload, data)
            yield PlainList(payload, data)
        tables: dict[str, StoredTable] = {}
        for number, payload in enumerate(manifest.payloads):
            data = yield from self._unit(UnitPlace(UnitKind.STORED_TABLE, number), payload.groups * ENTRY_SIZE)
            tables[payload.name] = groups.check_stored_table(payload, data)
        for number, payload in enumerate(manifest.payloads):
            yield from self._read_groups(number, payload, lists.pop(payload.name), tables.pop(payload.name))

    def _read_groups(self, number: int, payload: Payload, plain_list: bytes, table: StoredTable) -> _Steps:
        for index, entry in enumerate(table):
            stored = yield from self._unit(UnitPlace(UnitKind.GROUP, number, index), entry.length)
            digest = plain_list[index * DIGEST_SIZE : (index + 1) * DIGEST_SIZE]
            data = groups.open_group(payload, index, entry, stored, digest, self._decoder)
            yield Group(payload, index, entry.encoding, data)

    def _unit(self, place: UnitPlace, length: int) -> Generator[Event | _Wait, None, bytes]:
        assert self._opener is not None
        sealed = yield from self._take(length + self._tag)
        return self._opener.open(place, sealed)

    # keeps: S9
    def _take(self, length: int) -> Generator[Event | _Wait, None, bytes]:
        while len(self._buffer) < length:
            yield _Wait.DATA
        data = bytes(self._buffer[:length])
        del self._buffer[:length]
        return data

    def _check_length(self) -> None:
        if self._header is not None and self._received > self._header.total:
            expected, found = f"{self._header.total} bytes", f"{self._received} or more"
            raise ImageError("bytes follow the 'groups' section", code="trailing", expected=expected, found=found)

    def _truncated(self) -> ImageError:
        if self._header is None:
            return truncated(Section.HEADER, HEADER_SIZE, self._received)
        section = next(s for s in Section if self._received < self._header.offset(s) + self._header.length(s))
        return truncated(section, self._header.length(section), self._received - self._header.offset(section))

    def _raise_earlier(self) -> None:
        if self._error is not None:
            raise self._error
