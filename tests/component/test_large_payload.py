"""A payload that ends past 4 GiB: offsets beyond 32 bits in layout, ranged reader, slot reader and writer's target.

The files are sparse and only groups at the borders are read, so that this takes no time.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from image_samples import FACTS
from twinslot.core.bitset import bits_where
from twinslot.core.manifest import parse_manifest
from twinslot.image.layout import layout
from twinslot.image.reader import Limits
from twinslot.image.wire import Encoding, Header, StoredEntry, TrustDocuments, build_header, build_table, build_trust
from twinslot.storage.blockdev import open_target
from twinslot.storage.slot_reader import open_reader
from twinslot.transport.file import FileRanges
from twinslot.worker.seekable import SeekableImage
from twinslot_image.compose import compose_manifest
from twinslot_image.pack import PackedPayload

GROUP = 1 << 20
SIZE = (1 << 32) + 3 * GROUP + 1000  # bytes
COUNT = -(-SIZE // GROUP)
BORDERS = (0, 2047, 2048, 4095, 4096, COUNT - 1)  # on both sides of 2 GiB and of 4 GiB, and the short last one


def group(index: int) -> bytes:
    """The content of a group: marked at the borders, zeros stored as they are between."""
    length = min(GROUP, SIZE - index * GROUP)
    return f"group {index}".encode().ljust(length, b"\0") if index in BORDERS else bytes(length)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real image of 4 GiB and more, every group stored raw, most of it a hole of the file."""
    hole = hashlib.sha256(bytes(GROUP)).digest()
    digests = [hashlib.sha256(group(index)).digest() if index in BORDERS else hole for index in range(COUNT)]
    lengths = [min(GROUP, SIZE - index * GROUP) for index in range(COUNT)]
    table = build_table([StoredEntry(Encoding.RAW, n, d) for n, d in zip(lengths, digests, strict=True)])
    packed = PackedPayload("rootfs", SIZE, "0" * 64, GROUP, b"".join(digests), table, SIZE)
    manifest = compose_manifest(FACTS, [packed], [])
    trust = build_trust(TrustDocuments((b'{"root":1}',), b'{"targets":1}'))
    parts = (trust, manifest, b"", packed.plain_list, table)
    header = Header(len(trust), len(manifest), 0, len(packed.plain_list), len(table), SIZE)
    path = tmp_path_factory.mktemp("large") / "large.twin"
    with path.open("wb") as file:
        file.write(build_header(header) + b"".join(parts))
        start = file.tell()
        for index in BORDERS:
            file.seek(start + index * GROUP)
            file.write(group(index))
        file.truncate(start + SIZE)
    return path


def test_groups_past_4_gib_are_found_by_ranges(image: Path) -> None:
    descriptor = os.open(image, os.O_RDONLY)
    try:
        ranged = SeekableImage(FileRanges(descriptor), Limits())
        manifest = parse_manifest(ranged.head().manifest)
        ranged.proceed(manifest)
        payload = manifest.payload("rootfs")
        wanted = bits_where(payload.groups, lambda index: index in BORDERS)
        got = dict(ranged.groups(payload, wanted))
    finally:
        os.close(descriptor)
    assert got == {index: group(index) for index in BORDERS}


def test_the_layout_ends_where_the_file_ends(image: Path) -> None:
    with image.open("rb") as file:
        ranged = SeekableImage(FileRanges(file.fileno()), Limits())
        head = ranged.head()
        spans = layout(head.header, parse_manifest(head.manifest))
    assert spans.groups["rootfs"].end == image.stat().st_size > 1 << 32


def test_a_slot_is_written_and_read_past_4_gib(tmp_path: Path) -> None:
    slot = tmp_path / "slot"
    slot.touch()
    os.truncate(slot, SIZE // 4096 * 4096 + 4096)
    places = [(1 << 31) - 4096, (1 << 31), (1 << 32) - 4096, (1 << 32), (1 << 32) + GROUP - 4096]
    with open_target(slot, [], allow_files=True) as target:
        for place in places:
            target.write(place, f"at {place}".encode().ljust(8192, b"."))
        target.flush()
        for place in places[:-1:2]:
            assert target.read_direct(place, 4096).startswith(f"at {place}".encode())
    reader = open_reader(slot)
    try:
        assert reader.read(places[-1], 8192) == f"at {places[-1]}".encode().ljust(8192, b".")
        assert not any(reader.read(8192, GROUP)), "nothing wrapped round to the beginning"
    finally:
        reader.close()
