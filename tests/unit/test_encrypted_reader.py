"""Encrypted images, read front to back: whatever was damaged or moved is refused, and nothing unverified comes out."""

from __future__ import annotations

import contextlib
import hashlib
import io
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_samples import ATTACHMENTS, FACTS, GROUP, PAYLOADS, TRUST, Sample
from independent_opener import open_image
from independent_reader import read_image
from twinslot.core.errors import ImageError, LifecycleError, RefusedError, TwinslotError
from twinslot.core.manifest import Manifest, parse_manifest
from twinslot.crypto.keys import DecryptionKey, make_private
from twinslot.crypto.recipients import unwrap
from twinslot.crypto.units import ContentKey, Units
from twinslot.image.envelope import (
    RECIPIENTS_MAX,
    Cipher,
    Envelope,
    Kem,
    build_envelope,
    parse_envelope,
)
from twinslot.image.events import AttachmentEvent, EndOfImage, EnvelopeEvent, Event, Group, Head, PlainList
from twinslot.image.groups import check_stored_table
from twinslot.image.layout import layout
from twinslot.image.reader import Reader
from twinslot.image.units import TAG_SIZE, UnitKind, UnitPlace
from twinslot.image.wire import Section, build_header
from twinslot_image.compose import compose_manifest, write_image
from twinslot_image.pack import pack_payload
from twinslot_image.sealing import Encryption

FLEET, DEVICE, STRANGER = make_private(Kem.X25519), make_private(Kem.P256), make_private(Kem.X25519)


def make_encrypted(cipher: Cipher = Cipher.CHACHA20_POLY1305) -> Sample:
    """The sample of the other tests, for two recipients."""
    packed, groups = [], []
    for name in sorted(PAYLOADS):
        sink = io.BytesIO()
        packed.append(pack_payload(name, io.BytesIO(PAYLOADS[name]), sink, GROUP))
        groups.append(io.BytesIO(sink.getvalue()))
    manifest = compose_manifest(replace(FACTS, requires=("encryption",)), packed, ATTACHMENTS)
    image = io.BytesIO()
    encryption = Encryption((FLEET.public_key, DEVICE.public_key), cipher)
    header = write_image(image, TRUST, manifest, packed, ATTACHMENTS, groups, encryption)
    return Sample(image.getvalue(), header, manifest, PAYLOADS)


SAMPLES = {cipher: make_encrypted(cipher) for cipher in Cipher}
SAMPLE = SAMPLES[Cipher.CHACHA20_POLY1305]
WHERE = layout(SAMPLE.header, SAMPLE.manifest)


def opened(envelope: bytes, key: DecryptionKey = FLEET) -> ContentKey:
    return unwrap(parse_envelope(envelope), key)


def read(
    data: bytes, chunk: int = 1 << 20, key: DecryptionKey = FLEET, trusted: Manifest | None = SAMPLE.manifest
) -> Iterator[Event | EndOfImage]:
    """Everything a caller sees; `trusted` plays the trust process."""
    reader = Reader()

    def past(events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            yield event
            if isinstance(event, Head):
                list(events)
                manifest = parse_manifest(event.manifest)
                if trusted is not None and manifest.digest != trusted.digest:
                    raise ImageError("not the signed manifest", code="manifest")
                yield from past(reader.proceed(manifest))
            elif isinstance(event, EnvelopeEvent):
                list(events)
                content = opened(event.data, key)
                yield from past(reader.unlock(Units(content.key, content.cipher, content.image_id)))

    for at in range(0, len(data), chunk):
        yield from past(reader.feed(data[at : at + chunk]))
    yield reader.close()


def assert_verified(events: list[Event | EndOfImage]) -> None:
    """Whatever came out is what went in."""
    for event in events:
        if isinstance(event, Group):
            assert event.data == PAYLOADS[event.payload.name][event.offset : event.offset + GROUP]
        elif isinstance(event, AttachmentEvent):
            assert event.data == next(each.data for each in ATTACHMENTS if each.name == event.attachment.name)
        elif isinstance(event, PlainList):
            assert hashlib.sha256(event.data).hexdigest() == event.payload.plain_list


def refused(data: bytes, trusted: Manifest | None = SAMPLE.manifest) -> TwinslotError:
    """How it ends; whatever came out before was right."""
    seen = list[Event | EndOfImage]()
    with pytest.raises((ImageError, RefusedError)) as caught:
        note_all(read(data, 1000, trusted=trusted), seen)
    assert_verified(seen)
    return caught.value


def note_all(events: Iterator[Event | EndOfImage], seen: list[Event | EndOfImage]) -> None:
    """Note what comes, also when an error ends it."""
    for event in events:
        seen.append(event)  # noqa: PERF402 - `extend` would lose all of it


@pytest.mark.parametrize("cipher", Cipher)
@pytest.mark.parametrize("key", [FLEET, DEVICE], ids=["x25519", "p256"])
def test_each_recipient_reads_the_whole(cipher: Cipher, key: DecryptionKey) -> None:
    sample = SAMPLES[cipher]
    events = list(read(sample.data, key=key, trusted=sample.manifest))
    assert_verified(events)
    kinds = [type(event).__name__ for event in events]
    assert kinds == [
        "Head",
        "EnvelopeEvent",
        *["AttachmentEvent"] * 2,
        *["PlainList"] * 2,
        *["Group"] * 11,
        "EndOfImage",
    ]


@pytest.mark.verifies("S2")
@pytest.mark.parametrize("cipher", Cipher)
@pytest.mark.parametrize("key", [FLEET, DEVICE], ids=["x25519", "p256"])
def test_a_reader_written_from_the_page_alone_reads_the_same(cipher: Cipher, key: DecryptionKey) -> None:
    plain = open_image(SAMPLES[cipher].data, key.pem())
    contents = read_image(plain)
    assert contents.payloads == PAYLOADS
    assert contents.attachments == {each.name: each.data for each in ATTACHMENTS}


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 3000))
def test_any_chunking_gives_the_same_events(chunk: int) -> None:
    assert list(read(SAMPLE.data, chunk)) == list(read(SAMPLE.data))


@pytest.mark.slow
@pytest.mark.verifies("S2")
def test_a_flip_of_every_byte_is_refused_and_nothing_unverified_comes_out() -> None:
    """One in 16 of the groups' bytes. Trust is the trust process's to judge, and a recipient's record its own."""
    groups = SAMPLE.header.offset(Section.GROUPS)
    recipients = parse_envelope(SAMPLE.data[WHERE.envelope.offset : WHERE.envelope.end]).recipients
    others = [n for n, each in enumerate(recipients) if each.key_id != FLEET.public_key.key_id]
    at = WHERE.envelope.offset + 20 + 152 * others[0]
    places = {*range(SAMPLE.header.offset(Section.MANIFEST), groups + 400), *range(groups, len(SAMPLE.data), 16)}
    codes = set()
    for place in sorted((places | {len(SAMPLE.data) - 1}) - {*range(at + 4, at + 149)}):
        damaged = bytearray(SAMPLE.data)
        damaged[place] ^= 1 << random.Random(place).randrange(8)
        codes.add(refused(bytes(damaged)).code)
    assert codes >= {"image.sealed", "image.envelope", "image.recipient", "refused.recipient", "image.manifest"}


def spans() -> list[tuple[int, int]]:
    """Offset and length of each group's unit, in the order of the file."""
    at, found = SAMPLE.header.offset(Section.GROUPS), []
    units = Units(*_content())
    for number, payload in enumerate(SAMPLE.manifest.payloads):
        span = WHERE.stored_tables[payload.name]
        place = UnitPlace(UnitKind.STORED_TABLE, number)
        for entry in check_stored_table(payload, units.open(place, SAMPLE.data[span.offset : span.end])):
            found.append((at, entry.length + TAG_SIZE))
            at += entry.length + TAG_SIZE
    return found


def _content() -> tuple[bytes, Cipher, bytes]:
    content = opened(SAMPLE.data[WHERE.envelope.offset : WHERE.envelope.end])
    return content.key, content.cipher, content.image_id


def test_groups_that_changed_places_are_refused_even_where_their_lengths_agree() -> None:
    """Zero groups are sealed alike but for their places."""
    empty = [span for span in spans() if span[1] == TAG_SIZE]
    (one, _), (other, _) = empty[0], empty[1]
    data = bytearray(SAMPLE.data)
    data[one : one + TAG_SIZE], data[other : other + TAG_SIZE] = (
        SAMPLE.data[other : other + TAG_SIZE],
        SAMPLE.data[one : one + TAG_SIZE],
    )
    assert refused(bytes(data)).code == "image.sealed"


def test_a_group_of_another_image_for_the_same_recipients_is_refused() -> None:
    again = make_encrypted()
    assert len(again.data) == len(SAMPLE.data)
    for at, length in (spans()[0], spans()[2], spans()[-1]):
        data = bytearray(SAMPLE.data)
        data[at : at + length] = again.data[at : at + length]
        assert refused(bytes(data)).code == "image.sealed"


def test_an_envelope_of_another_image_opens_nothing() -> None:
    again = make_encrypted()
    span = WHERE.envelope
    data = SAMPLE.data[: span.offset] + again.data[span.offset : span.end] + SAMPLE.data[span.end :]
    assert refused(data).code == "image.sealed"


def test_what_was_sealed_elsewhere_for_a_recipient_is_held_to_the_signed_digests() -> None:
    """Anybody can encrypt for a public key; the signature says what counts."""
    packed, groups = [], []
    for name in sorted(PAYLOADS):
        sink = io.BytesIO()
        forged = bytes([PAYLOADS[name][0] ^ 1]) + PAYLOADS[name][1:]
        packed.append(pack_payload(name, io.BytesIO(forged), sink, GROUP))
        groups.append(io.BytesIO(sink.getvalue()))
    image = io.BytesIO()
    manifest = compose_manifest(replace(FACTS, requires=("encryption",)), packed, ATTACHMENTS)
    encryption = Encryption((FLEET.public_key,), Cipher.CHACHA20_POLY1305)
    header = write_image(image, TRUST, manifest, packed, ATTACHMENTS, groups, encryption)
    body = image.getvalue()[header.offset(Section.ATTACHMENTS) :]
    lengths = replace(header, manifest=SAMPLE.header.manifest)
    front = build_header(lengths) + SAMPLE.data[64 : SAMPLE.header.offset(Section.ATTACHMENTS)]
    assert refused(front + body).code in ("image.list", "image.length", "image.table")


@pytest.mark.parametrize("end", [70, 500, -1, -17, -2000])
def test_a_truncated_image_names_the_section(end: int) -> None:
    assert refused(SAMPLE.data[:end]).code == "image.truncated"


def test_who_is_no_recipient_is_told_whose_keys_it_is_for() -> None:
    with pytest.raises(RefusedError) as caught:
        list(read(SAMPLE.data, key=STRANGER))
    assert caught.value.code == "refused.recipient"
    assert FLEET.public_key.key_id.hex()[:16] in str(caught.value)


def test_the_reader_waits_for_the_opener() -> None:
    reader = Reader()
    list(reader.feed(SAMPLE.data))
    (event,) = list(reader.proceed(SAMPLE.manifest))
    assert isinstance(event, EnvelopeEvent)
    with pytest.raises(LifecycleError, match="unlock"):
        reader.feed(b"")
    with pytest.raises(LifecycleError, match="unlock"):
        Reader().unlock(Units(*_content()))


def test_no_two_units_of_an_image_have_one_nonce() -> None:
    places = [UnitPlace(UnitKind.ATTACHMENT, n).pack() for n in range(32)]
    for kind in (UnitKind.PLAIN_LIST, UnitKind.STORED_TABLE):
        places += [UnitPlace(kind, n).pack() for n in range(16)]
    places += [UnitPlace(UnitKind.GROUP, n, i).pack() for n in range(16) for i in range(0, 262144, 1023)]
    assert len(set(places)) == len(places)
    assert all(UnitPlace.unpack(each).pack() == each for each in places)
    assert make_encrypted().data[WHERE.envelope.offset + 4 :][:16] != SAMPLE.data[WHERE.envelope.offset + 4 :][:16]


@given(st.binary(max_size=600) | st.binary(min_size=172, max_size=172))
def test_any_bytes_are_an_envelope_or_an_error_of_ours(data: bytes) -> None:
    with contextlib.suppress(ImageError):
        assert len(parse_envelope(data).recipients) == (len(data) - 20) // 152


@given(st.sampled_from(list(Cipher)), st.binary(min_size=16, max_size=16), st.integers(1, 20))
def test_an_envelope_comes_back_as_it_was_made(cipher: Cipher, image_id: bytes, count: int) -> None:
    one = parse_envelope(SAMPLE.data[WHERE.envelope.offset : WHERE.envelope.end]).recipients[0]
    recipients = [replace(one, key_id=bytes([n]) * 32) for n in range(count)]
    data = build_envelope(cipher, image_id, reversed(recipients))
    assert parse_envelope(data) == Envelope(cipher, image_id, tuple(recipients))


def test_an_envelope_has_its_bounds() -> None:
    one = parse_envelope(SAMPLE.data[WHERE.envelope.offset : WHERE.envelope.end]).recipients[0]
    for recipients in ([], [one, one], [replace(one, key_id=n.to_bytes(32, "big")) for n in range(RECIPIENTS_MAX + 1)]):
        with pytest.raises(ImageError) as caught:
            build_envelope(Cipher.AES_256_GCM, bytes(16), recipients)
        assert caught.value.code == "image.envelope"
