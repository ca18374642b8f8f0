"""An image by ranges whose server changes its mind: the rest comes from the front, and no further than needed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest

from image_samples import GROUP, PAYLOADS, make_sample
from twinslot.core.bitset import bits_where
from twinslot.core.errors import TransportError
from twinslot.core.span import Span
from twinslot.image.reader import Limits
from twinslot.transport.budget import check_budget
from twinslot.worker.seekable import Refusals, SeekableImage

SAMPLE = make_sample()
PAYLOAD = SAMPLE.manifest.payload("rootfs")
PIECE = 512  # bytes


class Whole:
    """The file from its front; read twice over at the beginning, as after a connection that broke."""

    def __init__(self) -> None:
        self.fetched = 0
        self.closed = False

    def chunks(self) -> Iterator[bytes]:
        self.fetched += 100
        yield b""
        for at in range(0, len(SAMPLE.data), PIECE):
            self.fetched += len(SAMPLE.data[at : at + PIECE])
            yield SAMPLE.data[at : at + PIECE]

    def expect(self, length: int) -> None:
        assert length == len(SAMPLE.data)

    def close(self) -> None:
        self.closed = True


class Refused(Exception):  # noqa: N818 - as the transport's
    """Only as a whole."""

    def __init__(self, source: Whole) -> None:
        super().__init__()
        self.source = source


class Fickle:
    """Gives parts, until it gives no more groups."""

    def __init__(self) -> None:
        self.size, self.fetched, self.whole = len(SAMPLE.data), 0, Whole()
        self.known_by = b""

    def know_by(self, front: bytes) -> None:
        self.known_by = front

    def read(self, offset: int, length: int) -> bytes:
        self.fetched += length
        return SAMPLE.data[offset : offset + length]

    def stream(self, spans: Iterable[Span]) -> Iterator[tuple[Span, bytes]]:
        for number, span in enumerate(spans):
            if number:
                raise Refused(self.whole)
            yield span, self.read(span.offset, span.length)


def ready() -> tuple[SeekableImage, Fickle]:
    """An image whose list was read."""
    source = Fickle()
    image = SeekableImage(source, Limits(), Refusals(Refused))
    image.head()
    image.proceed(SAMPLE.manifest)
    image.plain_list(PAYLOAD)
    return image, source


def wanted(*groups: int) -> bytes:
    return bits_where(PAYLOAD.groups, lambda index: index in groups)


def test_when_parts_end_in_the_middle_nothing_behind_the_last_wanted_group_is_fetched() -> None:
    image, source = ready()
    got = dict(image.groups(PAYLOAD, wanted(0, 2)))
    assert got == {index: PAYLOADS["rootfs"][index * GROUP :][:GROUP] for index in (0, 2)}
    assert source.whole.closed
    assert source.whole.fetched < len(SAMPLE.data) - PIECE, "the last group is noise of 1000 bytes"
    assert image.fetched == source.fetched + source.whole.fetched, "what was read again is counted"


def test_when_parts_end_in_the_middle_the_way_from_the_front_is_heard_and_can_be_ended() -> None:
    image, source = ready()
    budget = image.fetched + GROUP + 2 * PIECE
    image.tick = lambda: check_budget(budget, image.fetched)
    with pytest.raises(TransportError, match="budget"):
        list(image.groups(PAYLOAD, wanted(0, 2)))
    assert source.whole.closed
    assert image.fetched <= budget + PIECE
