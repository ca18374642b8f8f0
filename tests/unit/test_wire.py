"""The binary parts: what is declared is what is read, and every length has a bound."""

from __future__ import annotations

import struct

import construct as c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_samples import make_sample
from twinslot.core.bounds import ENTRY_SIZE
from twinslot.core.errors import ImageError
from twinslot.image import wire
from twinslot.image.wire import Encoding, Header, Section, StoredEntry, TrustDocuments

SAMPLE = make_sample()
LENGTHS = (0, 1, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1, 2**32, 2**32 + 1, 2**63 - 1, 2**63, 2**64 - 1)
FIELDS = {section: 16 + 8 * index for index, section in enumerate(wire.SECTION_MAX)}  # docs/image-format.md section 2


ENTRY = c.Struct(  # as the format's page has it, section 8
    "encoding" / c.Int8ul, "reserved" / c.Const(bytes(3)), "length" / c.Int32ul, "digest" / c.Bytes(32)
)


def entries() -> st.SearchStrategy[StoredEntry]:
    return st.builds(
        StoredEntry, st.sampled_from(Encoding), st.integers(0, 2**32 - 1), st.binary(min_size=32, max_size=32)
    )


def test_a_header_comes_back_as_it_went_in() -> None:
    assert wire.parse_header(wire.build_header(SAMPLE.header)) == SAMPLE.header
    assert len(wire.build_header(SAMPLE.header)) == wire.HEADER_SIZE == wire.HEADER.sizeof()


@given(st.lists(entries(), max_size=20))
def test_the_fast_table_reader_agrees_with_the_declaration(table: list[StoredEntry]) -> None:
    data = wire.build_table(table)
    declared = [ENTRY.parse(data[at : at + ENTRY_SIZE]) for at in range(0, len(data), ENTRY_SIZE)]
    assert [(e.encoding, e.length, e.digest) for e in declared] == [(e.encoding, e.length, e.digest) for e in table]
    assert list(wire.parse_table(data)) == table
    assert (
        b"".join(ENTRY.build({"encoding": e.encoding, "length": e.length, "digest": e.digest}) for e in table) == data
    )
    assert list(wire.parse_table(data)[1:3]) == table[1:3]


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=8), st.binary(min_size=1, max_size=200))
def test_trust_documents_come_back_as_they_went_in(roots: list[bytes], targets: bytes) -> None:
    documents = TrustDocuments(tuple(roots), targets)
    assert wire.parse_trust(wire.build_trust(documents)) == documents


@given(st.binary(max_size=300))
def test_any_bytes_as_trust_section_are_documents_or_an_image_error(data: bytes) -> None:
    try:
        documents = wire.parse_trust(data)
    except ImageError:
        return
    assert wire.build_trust(documents) == data


@given(st.binary(max_size=200))
def test_any_bytes_as_header_are_a_header_or_an_image_error(data: bytes) -> None:
    try:
        header = wire.parse_header(data)
    except ImageError:
        return
    assert wire.build_header(header) == data[: wire.HEADER_SIZE]


@pytest.mark.verifies("CVE-2026-34155", "REQ-IMG-03")
@pytest.mark.parametrize("section", wire.SECTION_MAX)
@pytest.mark.parametrize("length", LENGTHS)
def test_a_length_outside_its_bounds_is_refused_by_the_sections_name(section: Section, length: int) -> None:
    data = bytearray(wire.build_header(SAMPLE.header))
    struct.pack_into("<Q", data, FIELDS[section], length)
    low = 0 if section in (Section.ATTACHMENTS, Section.GROUPS) else 1
    if low <= length <= wire.SECTION_MAX[section]:
        assert wire.parse_header(bytes(data)).length(section) == length
    else:
        with pytest.raises(ImageError, match=f"length of the '{section}' section") as caught:
            wire.parse_header(bytes(data))
        assert caught.value.found == f"{length} bytes"


@pytest.mark.parametrize("at", range(16))
def test_a_flipped_byte_before_the_lengths_is_a_header_error(at: int) -> None:
    data = bytearray(wire.build_header(SAMPLE.header))
    data[at] ^= 0x01
    with pytest.raises(ImageError) as caught:
        wire.parse_header(bytes(data))
    assert caught.value.code == "image.header"


def test_a_text_mode_transfer_is_seen_in_the_magic() -> None:
    assert wire.MAGIC[0] > 127, "seven-bit transfers clear this bit"
    for changed in (SAMPLE.data.replace(b"\r\n", b"\n"), SAMPLE.data.replace(b"\n", b"\r\n")):
        with pytest.raises(ImageError, match="not an update image"):
            wire.parse_header(changed)


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("<II", 0, 5) + b"short",  # five bytes, but not the last: fine; see below
        struct.pack("<I", wire.ROOTS_MAX + 1) + struct.pack("<I", 1) + b"x",
        struct.pack("<III", 1, 2**32 - 1, 1) + b"x",
        struct.pack("<II", 0, 0),
        struct.pack("<II", 0, wire.DOCUMENT_MAX + 1) + bytes(wire.DOCUMENT_MAX + 1),
        struct.pack("<II", 0, 1) + b"xy",
        b"",
    ],
)
def test_trust_lengths_must_fill_the_section_exactly(data: bytes) -> None:
    if data.endswith(b"short"):
        assert wire.parse_trust(data).targets == b"short"
        return
    with pytest.raises(ImageError) as caught:
        wire.parse_trust(data)
    assert caught.value.code == "image.trust"


@pytest.mark.parametrize("damage", [(0, 3), (1, 1), (3, 255)])
def test_an_entry_with_an_unknown_encoding_or_reserved_bytes_is_named(damage: tuple[int, int]) -> None:
    table = bytearray(wire.build_table([StoredEntry(Encoding.RAW, 5, bytes(32))] * 3))
    at, value = damage
    table[ENTRY_SIZE + at] = value
    with pytest.raises(ImageError, match="entry 1"):
        wire.parse_table(bytes(table))


def test_sections_follow_each_other_without_gaps() -> None:
    header = Header(10, 20, 0, 32, 40, 7)
    offsets = [header.offset(section) for section in Section]
    assert offsets == [0, 64, 74, 94, 94, 126, 166]
    assert header.total == 173
