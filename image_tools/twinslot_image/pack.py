"""Turns one stream of plain content into groups, its plain list and its stored table (docs/image-format.md 7 and 8)."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from twinslot.core.bounds import GROUP_SIZE_DEFAULT, GROUP_SIZE_MAX, GROUPS_MAX
from twinslot.core.errors import ImageError
from twinslot.core.model import PARTITION
from twinslot.image.codec import LEVEL_DEFAULT, Encoder
from twinslot.image.wire import Encoding, StoredEntry, build_table
from twinslot_image.threads import in_order

WORKERS = 2  # threads; zstd and SHA-256 let go of the interpreter lock
GROUPS_AIM = 32 * 1024  # groups in a payload: a list of 1 MiB and a table of 1.25 MiB in the device's memory
WINDOW = 64  # groups in flight, so memory does not grow with the payload


@dataclass(frozen=True, slots=True)
class PackedPayload:
    """What the manifest says of one payload, and the bytes of its list and table. Sizes in bytes."""

    name: str
    size: int
    digest: str
    group_size: int
    plain_list: bytes
    stored_table: bytes
    stored_size: int
    type: str = PARTITION

    def target(self) -> dict[str, object]:
        """Its entry among the manifest's targets (docs/image-format.md section 5.3)."""
        custom: dict[str, object] = {
            "group_size": self.group_size,
            "groups": -(-self.size // self.group_size),
            "kind": "payload",
            "plain_list": hashlib.sha256(self.plain_list).hexdigest(),
            "stored_size": self.stored_size,
            "stored_table": hashlib.sha256(self.stored_table).hexdigest(),
        }
        if self.type != PARTITION:
            custom["type"] = self.type
        return {"custom": custom, "hashes": {"sha256": self.digest}, "length": self.size}


@dataclass(frozen=True, slots=True)
class _PackedGroup:
    entry: StoredEntry
    plain: bytes
    stored: bytes
    plain_digest: bytes


def group_size_for(size: int) -> int:
    """Bytes of a group where the release team names none: 64 KiB, and more for a payload of more than 2 GiB.

    A device holds 32 bytes for each group in one process and 72 in another: with this its memory does not follow the
    image up to 32 GiB, nor does what it fetches of lists and tables.
    """
    group_size = GROUP_SIZE_DEFAULT
    while size > GROUPS_AIM * group_size and group_size < GROUP_SIZE_MAX:
        group_size *= 2
    return group_size


def pack_payload(
    name: str,
    source: BinaryIO,
    sink: BinaryIO,
    group_size: int = GROUP_SIZE_DEFAULT,
    *,
    level: int = LEVEL_DEFAULT,
    type_: str = PARTITION,
    on_progress: Callable[[int], None] = lambda _: None,
) -> PackedPayload:
    """Read `source` to its end and write its groups to `sink`. The same input gives the same bytes.

    Args:
        name: Of the payload.
        source: Plain content, from its current position.
        sink: Takes the groups, nothing else.
        group_size: Bytes.
        level: zstd's.
        type_: Of the payload, as its device knows it.
        on_progress: Called with the bytes of plain content done so far.

    Raises:
        ImageError: `image.payload-size`: empty, or more groups than an image may have.
    """
    whole = hashlib.sha256()
    plain_list, entries, size, stored_size = bytearray(), list[StoredEntry](), 0, 0
    encoders = deque(Encoder(level) for _ in range(WORKERS))  # one for each thread; deque's pop and append are atomic
    read = iter(lambda: source.read(group_size), b"")
    with closing(in_order(partial(_pack_group, encoders=encoders), read, WORKERS, WINDOW)) as groups:
        for group in groups:
            whole.update(group.plain)
            sink.write(group.stored)
            plain_list += group.plain_digest
            entries.append(group.entry)
            size, stored_size = size + len(group.plain), stored_size + len(group.stored)
            if len(entries) > GROUPS_MAX:
                raise _bad_size(name, f"at most {GROUPS_MAX * group_size} bytes", "more")
            on_progress(size)
    if not entries:
        raise _bad_size(name, "at least 1 byte", "0 bytes")
    return PackedPayload(
        name, size, whole.hexdigest(), group_size, bytes(plain_list), build_table(entries), stored_size, type_
    )


def _bad_size(name: str, expected: str, found: str) -> ImageError:
    return ImageError(f"the size of payload '{name}'", code="payload-size", expected=expected, found=found)


def _pack_group(plain: bytes, encoders: deque[Encoder]) -> _PackedGroup:
    digest = hashlib.sha256(plain).digest()
    if not plain.strip(b"\0"):
        return _group(Encoding.ZERO, plain, b"", digest)
    encoder = encoders.pop()
    stored = encoder.encode(plain)
    encoders.append(encoder)
    if len(stored) < len(plain):
        return _group(Encoding.ZSTD, plain, stored, digest)
    return _group(Encoding.RAW, plain, plain, digest)


def _group(encoding: Encoding, plain: bytes, stored: bytes, digest: bytes) -> _PackedGroup:
    return _PackedGroup(StoredEntry(encoding, len(stored), hashlib.sha256(stored).digest()), plain, stored, digest)
