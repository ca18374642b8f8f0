"""Reading front to back: the same events for any chunking, and nothing unverified ever comes out."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from image_samples import ATTACHMENTS, GROUP, PAYLOADS, Sample, document, make_sample
from twinslot.core.canonical import encode
from twinslot.core.errors import ImageError, LifecycleError
from twinslot.core.manifest import Manifest, parse_manifest
from twinslot.image.codec import Decoder
from twinslot.image.events import AttachmentEvent, EndOfImage, Event, Group, Head, PlainList
from twinslot.image.groups import check_plain_list, check_stored_table, open_group
from twinslot.image.layout import layout
from twinslot.image.reader import Limits, Reader
from twinslot.image.wire import Encoding, Header, Section, StoredEntry, build_header, build_table

SAMPLE = make_sample()


def read(chunks: Iterator[bytes] | list[bytes], trusted: Manifest | None = SAMPLE.manifest) -> list[Event | EndOfImage]:
    """Everything a caller sees. `trusted` plays the trust process: only its manifest is proceeded with."""
    reader, events = Reader(), list[Event | EndOfImage]()
    for chunk in chunks:
        fresh = list(reader.feed(chunk))
        events.extend(fresh)
        if fresh and isinstance(head := fresh[-1], Head):
            manifest = parse_manifest(head.manifest)
            if trusted is not None and manifest.digest != trusted.digest:
                raise ImageError("not the signed manifest", code="manifest")
            events.extend(reader.proceed(manifest))
    return [*events, reader.close()]


def assert_verified(events: list[Event | EndOfImage], sample: Sample = SAMPLE) -> None:
    """Whatever came out is what went in."""
    for event in events:
        if isinstance(event, Group):
            content = sample.payloads[event.payload.name]
            assert event.data == content[event.offset : event.offset + event.payload.group_size]
        elif isinstance(event, AttachmentEvent):
            assert event.data == next(a.data for a in ATTACHMENTS if a.name == event.attachment.name)
        elif isinstance(event, PlainList):
            assert hashlib.sha256(event.data).hexdigest() == event.payload.plain_list


def chop(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


WHOLE = read([SAMPLE.data])
# Every byte up to the groups; one in 16 of the groups, most of which are noise.
GROUPS_AT = SAMPLE.header.offset(Section.GROUPS)
PLACES = [*range(GROUPS_AT + 300), *range(GROUPS_AT + 300, len(SAMPLE.data), 16), len(SAMPLE.data) - 1]
TRUST_BYTES = SAMPLE.data[64 : SAMPLE.header.offset(Section.MANIFEST)]


@pytest.mark.verifies("REQ-IMG-01")
def test_an_image_comes_out_whole_and_in_order() -> None:
    assert_verified(WHOLE)
    kinds = [type(event).__name__ for event in WHOLE]
    assert kinds == ["Head"] + ["AttachmentEvent"] * 2 + ["PlainList"] * 2 + ["Group"] * 11 + ["EndOfImage"]
    for name, content in PAYLOADS.items():
        assert b"".join(e.data for e in WHOLE if isinstance(e, Group) and e.payload.name == name) == content
    encodings = [e.encoding for e in WHOLE if isinstance(e, Group) and e.payload.name == "rootfs"]
    z, r, s = Encoding.ZERO, Encoding.RAW, Encoding.ZSTD
    assert encodings == [s, z, r, z, z, s, s, s, s, r]
    assert WHOLE[-1] == EndOfImage(len(SAMPLE.data))


@pytest.mark.verifies("REQ-IMG-01")
@settings(deadline=None)
@given(st.lists(st.integers(0, len(SAMPLE.data)), max_size=40))
def test_any_chunking_gives_the_same_events(cuts: list[int]) -> None:
    assert read(chop(SAMPLE.data, cuts)) == WHOLE


def test_one_byte_at_a_time_gives_the_same_events() -> None:
    assert read([SAMPLE.data[i : i + 1] for i in range(len(SAMPLE.data))]) == WHOLE


@pytest.mark.slow
@pytest.mark.verifies("REQ-IMG-02")
def test_truncation_at_every_byte_is_an_error_that_names_the_section() -> None:
    starts = [(SAMPLE.header.offset(section), section) for section in Section]
    for end in PLACES:
        with pytest.raises(ImageError) as caught:
            read([SAMPLE.data[:end]])
        at, section = max(start for start in starts if start[0] <= end)
        assert caught.value.code == "image.truncated"
        assert f"'{section}'" in caught.value.message
        assert caught.value.expected == f"{SAMPLE.header.length(section)} bytes"
        assert caught.value.found == f"{end - at} bytes"


def reads_bad(data: bytes, chunk: int = 1000) -> ImageError:
    """Read damaged bytes; whatever came out before the error is checked."""
    seen = list[Event | EndOfImage]()
    with pytest.raises(ImageError) as caught:
        seen.extend(iterate(data, chunk, seen))
    assert_verified(seen)
    return caught.value


def iterate(data: bytes, chunk: int, seen: list[Event | EndOfImage]) -> list[EndOfImage]:
    """Feed in chunks; `seen` gets each event as it comes."""
    reader = Reader()
    for at in range(0, len(data), chunk):
        before = len(seen)
        for event in reader.feed(data[at : at + chunk]):
            seen.append(event)  # noqa: PERF402 - one by one, since an error may follow each
        if len(seen) > before and isinstance(head := seen[-1], Head):
            if head.manifest != SAMPLE.manifest_bytes or head.trust != TRUST_BYTES:
                raise ImageError("trust says no", code="manifest")
            for event in reader.proceed(SAMPLE.manifest):
                seen.append(event)  # noqa: PERF402
    return [reader.close()]


@pytest.mark.slow
@pytest.mark.verifies("S2", "FLAW-MEN-1412")
def test_a_flip_of_every_byte_is_refused_and_nothing_unverified_comes_out() -> None:
    for at in PLACES:
        data = bytearray(SAMPLE.data)
        data[at] ^= (0x01, 0x80, 0x20, 0xFF)[at % 4]
        error = reads_bad(bytes(data), chunk=4096)
        if at >= SAMPLE.header.offset(Section.GROUPS):
            assert error.code == "image.group"
            assert "group" in error.message


@pytest.mark.verifies("REQ-IMG-02")
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_random_damage_is_an_image_error_and_nothing_unverified_comes_out(data: st.DataObject) -> None:
    image = bytearray(SAMPLE.data)
    start = data.draw(st.integers(0, len(image) - 1))
    match data.draw(st.sampled_from(["cut out", "insert", "overwrite", "swap"])):
        case "cut out":
            del image[start : start + data.draw(st.integers(1, 5000))]
        case "insert":
            image[start:start] = data.draw(st.binary(min_size=1, max_size=50))
        case "overwrite":
            image[start : start + 8] = data.draw(st.binary(min_size=8, max_size=8))
        case _:
            other = data.draw(st.integers(0, len(image) - 1))
            image[start : start + 64], image[other : other + 64] = image[other : other + 64], image[start : start + 64]
    if bytes(image) != SAMPLE.data:
        reads_bad(bytes(image), chunk=data.draw(st.integers(1, 9000)))


@pytest.mark.parametrize("extra", [b"\0", b"x" * 100])
def test_trailing_bytes_are_refused_whether_they_come_at_once_or_later(extra: bytes) -> None:
    assert reads_bad(SAMPLE.data + extra, chunk=1 << 20).code == "image.trailing"
    reader = Reader()
    list(reader.feed(SAMPLE.data))
    list(reader.proceed(SAMPLE.manifest))
    assert reader.complete
    with pytest.raises(ImageError, match="bytes follow the 'groups' section"):
        list(reader.feed(extra))
    with pytest.raises(ImageError, match="bytes follow"):
        reader.close()


@pytest.mark.verifies("S9", "REQ-IMG-03")
@pytest.mark.parametrize("field", range(6))
@pytest.mark.parametrize("length", [0, 1, 2**31 - 1, 2**31 + 1, 2**32 - 1, 2**32 + 1, 2**63])
def test_a_forged_length_in_the_header_is_an_error_and_never_an_allocation(field: int, length: int) -> None:
    data = bytearray(SAMPLE.data)
    struct.pack_into("<Q", data, 16 + 8 * field, length)
    error = reads_bad(bytes(data))
    assert error.code in ("image.length", "image.truncated", "image.manifest", "image.trailing")


def test_a_header_that_disagrees_with_the_signed_manifest_is_refused() -> None:
    lengths = {name: getattr(SAMPLE.header, name) for name in Header.__slots__}
    for name in ("attachments", "plain_lists", "stored_tables", "groups"):
        moved = Header(**(lengths | {name: lengths[name] + 1}))
        error = reads_bad(build_header(moved) + SAMPLE.data[64:] + b"\0")
        assert error.code == "image.length"
        assert f"'{name.replace('_', '-')}'" in error.message


@pytest.mark.verifies("CVE-2025-67903")
@pytest.mark.parametrize("name", sorted(document(SAMPLE)["signed"]["targets"]))  # type: ignore[index]
def test_an_image_whose_manifest_misses_a_part_is_refused(name: str) -> None:
    data = document(SAMPLE)
    del data["signed"]["targets"][name]  # type: ignore[index]
    manifest = encode(data)
    lengths = {key: getattr(SAMPLE.header, key) for key in Header.__slots__}
    header = Header(**(lengths | {"manifest": len(manifest)}))
    start, end = SAMPLE.header.offset(Section.MANIFEST), SAMPLE.header.offset(Section.ATTACHMENTS)
    image = build_header(header) + SAMPLE.data[64:start] + manifest + SAMPLE.data[end:]
    with pytest.raises(ImageError, match="the length of the"):
        read([image], trusted=None)


@pytest.mark.verifies("S2")
def test_nothing_past_the_manifest_is_touched_before_proceed() -> None:
    reader = Reader()
    garbage = SAMPLE.data[: SAMPLE.header.offset(Section.ATTACHMENTS)] + b"\xff" * 100
    assert [type(event) for event in reader.feed(garbage)] == [Head]
    with pytest.raises(LifecycleError, match="proceed"):
        reader.feed(b"")


def test_another_images_manifest_is_refused_at_proceed() -> None:
    other = make_sample(payloads={"rootfs": b"other"})
    reader = Reader()
    list(reader.feed(SAMPLE.data))
    with pytest.raises(LifecycleError, match="not this image's"):
        reader.proceed(other.manifest)


def test_a_result_not_iterated_to_its_end_is_our_own_mistake() -> None:
    reader = Reader()
    next(reader.feed(SAMPLE.data))
    with pytest.raises(LifecycleError, match="not iterated"):
        reader.feed(b"")
    with pytest.raises(LifecycleError, match="without a head"):
        Reader().proceed(SAMPLE.manifest)


def test_the_devices_own_limits_are_kept() -> None:
    for limits, sentence in ((Limits(group_size=GROUP // 2), "group size"), (Limits(groups=10), "at most 10 groups")):
        reader = Reader(limits)
        list(reader.feed(SAMPLE.data))
        with pytest.raises(ImageError, match=sentence):
            list(reader.proceed(SAMPLE.manifest))


@pytest.mark.verifies("REQ-IMG-10")
def test_a_gigabyte_of_zeros_comes_out_group_by_group() -> None:
    """Twelve KiB of image stand for a gigabyte; the reader must not make it all at once."""
    size, group = 1 << 30, 1 << 20
    one = hashlib.sha256(bytes(group)).digest()
    sample = make_sample(payloads={"rootfs": bytes(group)}, attachments=(), group_size=group)
    plain, table = one * 1024, build_table([StoredEntry(Encoding.ZERO, 0, hashlib.sha256(b"").digest())] * 1024)
    data = document(sample)
    target = data["signed"]["targets"]["rootfs"]  # type: ignore[index]
    target["length"] = size
    digests = {"plain_list": hashlib.sha256(plain).hexdigest(), "stored_table": hashlib.sha256(table).hexdigest()}
    target["custom"] |= {"groups": 1024} | digests
    manifest = encode(data)
    trust = sample.data[64 : 64 + sample.header.trust]
    header = Header(len(trust), len(manifest), 0, len(plain), len(table), 0)
    reader = Reader()
    list(reader.feed(build_header(header) + trust + manifest + plain + table))
    events = reader.proceed(parse_manifest(manifest))
    assert isinstance(next(events), PlainList)
    for index in range(8):
        event = next(events)
        assert isinstance(event, Group)
        assert event.index == index
        assert len(event.data) == group


@pytest.mark.slow
@pytest.mark.verifies("CVE-2026-34155")
def test_every_byte_of_a_payload_beyond_two_and_four_gibibytes_is_covered() -> None:
    """A length that wraps around at 2 or 4 GiB would leave the rest unread, or read it as another part."""
    size, group = (1 << 32) + 1, 1 << 20
    full, rest = divmod(size, group)
    plain = hashlib.sha256(bytes(group)).digest() * full + hashlib.sha256(bytes(rest)).digest()
    table = build_table([StoredEntry(Encoding.ZERO, 0, hashlib.sha256(b"").digest())] * (full + 1))
    sample = make_sample(payloads={"rootfs": bytes(group)}, attachments=(), group_size=group)
    data = document(sample)
    target = data["signed"]["targets"]["rootfs"]  # type: ignore[index]
    target["length"] = size
    digests = {"plain_list": hashlib.sha256(plain).hexdigest(), "stored_table": hashlib.sha256(table).hexdigest()}
    target["custom"] |= {"groups": full + 1} | digests
    manifest = encode(data)
    trust = sample.data[64 : 64 + sample.header.trust]
    reader = Reader()
    header = Header(len(trust), len(manifest), 0, len(plain), len(table), 0)
    list(reader.feed(build_header(header) + trust + manifest + plain + table))
    end = 0
    for event in reader.proceed(parse_manifest(manifest)):
        if isinstance(event, Group):
            assert event.offset == end
            end += len(event.data)
    assert end == size


def claim(frame: bytes, size: int) -> bytes:
    """The frame with another content size in its header (RFC 8878, section 3.1.1.1)."""
    assert frame[4] >> 5 == 0b101, "a single segment with a four-byte content size"
    return frame[:5] + struct.pack("<I", size) + frame[9:]


class NoDecoder(Decoder):
    """A decoder that must not be reached."""

    def decode(self, frame: bytes, length: int) -> bytes:
        raise AssertionError("damaged bytes reached the decoder")


@pytest.mark.verifies("S2", "CVE-2024-3094")
def test_damaged_stored_bytes_never_reach_the_decoder() -> None:
    payload, table = FRAME.manifest.payload("p"), layout(FRAME.header, FRAME.manifest).groups["p"]
    stored = bytearray(FRAME.data[table.offset : table.end])
    entry = StoredEntry(Encoding.ZSTD, len(stored), hashlib.sha256(stored).digest())
    stored[20] ^= 1
    with pytest.raises(ImageError, match="stored bytes: digest"):
        open_group(payload, 0, entry, bytes(stored), hashlib.sha256(b"line\n" * 2000).digest(), NoDecoder())


FRAME = make_sample(payloads={"p": b"line\n" * 2000}, attachments=(), group_size=16384)


@pytest.mark.parametrize(
    "case", ["bomb", "lying bomb", "short", "two frames", "left over", "skippable", "no size", "empty", "noise"]
)
def test_a_frame_that_is_not_exactly_its_group_is_refused_by_name(case: str) -> None:
    """The digests all match: a hostile builder, or a tool with a fault, made it so."""
    import zstandard

    plain = b"line\n" * 2000
    whole = zstandard.ZstdCompressor(write_content_size=True)
    stored = {
        "bomb": whole.compress(bytes(1 << 28)),
        "lying bomb": claim(whole.compress(bytes(1 << 20)), len(plain)),
        "short": whole.compress(plain[:-1]),
        "two frames": whole.compress(plain[:5000]) + whole.compress(plain[5000:]),
        "left over": whole.compress(plain) + b"x",
        "skippable": b"\x50\x2a\x4d\x18\x01\x00\x00\x00x" + whole.compress(plain),
        "no size": zstandard.ZstdCompressor(write_content_size=False).compress(plain),
        "empty": b"\x28\xb5\x2f\xfd",
        "noise": b"\x28\xb5\x2f\xfd" + bytes(range(200)),
    }[case]
    entry = StoredEntry(Encoding.ZSTD, len(stored), hashlib.sha256(stored).digest())
    with pytest.raises(ImageError, match="payload 'p', group 0 cannot be decoded"):
        open_group(FRAME.manifest.payload("p"), 0, entry, stored, hashlib.sha256(plain).digest(), Decoder())


def test_a_group_whose_content_is_not_the_listed_one_is_refused_after_decoding() -> None:
    payload, stored = FRAME.manifest.payload("p"), bytes(10000)
    entry = StoredEntry(Encoding.RAW, len(stored), hashlib.sha256(stored).digest())
    with pytest.raises(ImageError, match="group 0, content: digest"):
        open_group(payload, 0, entry, stored, hashlib.sha256(b"line\n" * 2000).digest(), Decoder())


def test_a_table_entry_that_cannot_be_is_refused_though_its_digest_matches() -> None:
    payload = FRAME.manifest.payload("p")
    for entry in (
        StoredEntry(Encoding.ZERO, 1, bytes(32)),
        StoredEntry(Encoding.RAW, 9999, bytes(32)),
        StoredEntry(Encoding.ZSTD, 10000, bytes(32)),
        StoredEntry(Encoding.ZSTD, 2**32 - 1, bytes(32)),
        StoredEntry(Encoding.ZSTD, 0, bytes(32)),
    ):
        table = build_table([entry])
        digest = hashlib.sha256(table).hexdigest()
        changed = replace(payload, stored_table=digest, stored_size=entry.length)
        with pytest.raises(ImageError) as caught:
            check_stored_table(changed, table)
        assert "group 0" in caught.value.message
    table = build_table([StoredEntry(Encoding.ZSTD, 5, bytes(32))])
    with pytest.raises(ImageError, match="sum of the lengths"):
        check_stored_table(replace(payload, stored_table=hashlib.sha256(table).hexdigest()), table)


def test_a_reader_by_ranges_finds_every_part_where_the_layout_says() -> None:
    manifest, data = SAMPLE.manifest, SAMPLE.data
    spans = layout(SAMPLE.header, manifest)
    for attachment in manifest.attachments:
        span = spans.attachments[attachment.name]
        assert hashlib.sha256(data[span.offset : span.end]).hexdigest() == attachment.digest
    for payload in manifest.payloads:
        part = spans.plain_lists[payload.name]
        plain_list = check_plain_list(payload, data[part.offset : part.end])
        part = spans.stored_tables[payload.name]
        table = check_stored_table(payload, data[part.offset : part.end])
        content, decoder, at = b"", Decoder(), spans.groups[payload.name].offset
        for index, entry in enumerate(table):
            digest = plain_list[32 * index : 32 * index + 32]
            content += open_group(payload, index, entry, data[at : at + entry.length], digest, decoder)
            at += entry.length
        assert content == SAMPLE.payloads[payload.name]
    last = spans.groups[manifest.payloads[-1].name]
    assert last.end == len(data)
