"""The head of a block list, declared once (docs/blocks-format.md sections 2 and 3). Numbers are little endian."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import construct as c

from twinslot.core.bounds import DIGEST_SIZE, GROUP_SIZE_MAX, GROUPS_MAX, PAYLOADS_MAX
from twinslot.core.errors import ImageError
from twinslot.core.manifest import Manifest, Payload
from twinslot.core.span import Span
from twinslot.core.text import in_words

BLOCKS_SUFFIX: Final = ".twinblocks"  # a device looks for it under the image's name
BLOCKS_MAGIC: Final = b"\x89TWBL\r\n\x1a"  # as an image's (image-format.md section 2), with other letters
BLOCKS_VERSION: Final = 1
BLOCKS_HEADER_SIZE: Final = 48  # bytes: 8 magic + 4 version + 4 count + 32 digest
BLOCKS_ENTRY_SIZE: Final = 16  # bytes for each payload
BLOCK_SIZE: Final = 4096  # bytes: what file systems move content by, and a page of ARM Linux
SUM_SIZE: Final = 4  # bytes of a block's CRC-32
LENGTH_SIZE: Final = 4  # bytes of a packed group's length
PACKED_EXTRA: Final = 1024  # bytes that a packed group may be longer than its content

HEADER = c.Struct(
    "magic" / c.Bytes(len(BLOCKS_MAGIC)),
    "version" / c.Int32ul,
    "count" / c.Int32ul,
    "lists" / c.Bytes(DIGEST_SIZE),
)
ENTRY = c.Struct("packed" / c.Int64ul, "groups" / c.Int32ul, "group_size" / c.Int32ul)


@dataclass(frozen=True, slots=True)
class BlocksEntry:
    """One payload in the head: bytes of all its packed groups, how many groups, bytes of a group's content."""

    packed: int
    groups: int
    group_size: int

    @property
    def lengths(self) -> int:
        """Bytes of its table of lengths."""
        return self.groups * LENGTH_SIZE

    @property
    def sums(self) -> int:
        """Bytes of its sums."""
        return self.groups * self.group_sums

    @property
    def group_sums(self) -> int:
        """Bytes of one group's sums."""
        return self.group_size // BLOCK_SIZE * SUM_SIZE


@dataclass(frozen=True, slots=True)
class BlocksHead:
    """What a block list says of itself.

    Attributes:
        lists: SHA-256 that ties it to an image; see `lists_digest`.
        entries: One for each payload, in the order of the manifest.
    """

    lists: bytes
    entries: tuple[BlocksEntry, ...]

    @property
    def size(self) -> int:
        """Bytes of the head."""
        return BLOCKS_HEADER_SIZE + len(self.entries) * BLOCKS_ENTRY_SIZE

    @property
    def total(self) -> int:
        """Bytes of the whole file."""
        return self.size + sum(entry.lengths + entry.sums + entry.packed for entry in self.entries)

    def spans(self, number: int) -> tuple[Span, Span, Span]:
        """Where the lengths, the sums and the packed groups of a payload stand."""
        at = self.size + sum(entry.lengths + entry.sums for entry in self.entries[:number])
        packed = self.size + sum(entry.lengths + entry.sums for entry in self.entries)
        packed += sum(entry.packed for entry in self.entries[:number])
        entry = self.entries[number]
        lengths = Span(at, entry.lengths)
        return lengths, Span(lengths.end, entry.sums), Span(packed, entry.packed)


def lists_digest(manifest: Manifest) -> bytes:
    """SHA-256 over the digests of all plain lists in the manifest: the same content, whoever signed it."""
    return hashlib.sha256(b"".join(bytes.fromhex(payload.plain_list) for payload in manifest.payloads)).digest()


def fits(payload: Payload) -> bool:
    """Whether groups are cut into enough blocks for a block list to be of use."""
    return payload.group_size >= 2 * BLOCK_SIZE


def parse_blocks_head(data: bytes) -> BlocksHead:
    """Read the head from the first bytes of a block list.

    Args:
        data: From its start; what follows the head is not looked at.

    Raises:
        ImageError: `image.truncated`, `image.blocks` (not one that this client knows, or a number out of bounds).
    """
    _need(data, BLOCKS_HEADER_SIZE)
    fields = HEADER.parse(data[:BLOCKS_HEADER_SIZE])
    for what, expected in (("magic", BLOCKS_MAGIC), ("version", BLOCKS_VERSION)):
        if fields[what] != expected:
            raise _bad(what, in_words(expected), in_words(fields[what]))
    if not 1 <= fields.count <= PAYLOADS_MAX:
        raise _bad("payloads", f"1 to {PAYLOADS_MAX}", fields.count)
    _need(data, BLOCKS_HEADER_SIZE + fields.count * BLOCKS_ENTRY_SIZE)
    entries = ENTRY[fields.count].parse(data[BLOCKS_HEADER_SIZE:])
    return BlocksHead(fields.lists, tuple(_entry(entry) for entry in entries))


def _entry(fields: c.Container) -> BlocksEntry:
    entry = BlocksEntry(fields.packed, fields.groups, fields.group_size)
    if entry.group_size % BLOCK_SIZE or not 2 * BLOCK_SIZE <= entry.group_size <= GROUP_SIZE_MAX:
        raise _bad("group size", f"{2 * BLOCK_SIZE} to {GROUP_SIZE_MAX}", entry.group_size)
    if not 1 <= entry.groups <= GROUPS_MAX:
        raise _bad("groups", f"1 to {GROUPS_MAX}", entry.groups)
    if entry.packed > entry.groups * (entry.group_size + PACKED_EXTRA):
        raise _bad("bytes of packed groups", f"up to {entry.groups * (entry.group_size + PACKED_EXTRA)}", entry.packed)
    return entry


def build_blocks_head(head: BlocksHead) -> bytes:
    """The bytes of a head."""
    fields = {"magic": BLOCKS_MAGIC, "version": BLOCKS_VERSION, "count": len(head.entries), "lists": head.lists}
    entries = [{name: getattr(entry, name) for name in BlocksEntry.__slots__} for entry in head.entries]
    data = bytes(HEADER.build(fields)) + bytes(ENTRY[len(entries)].build(entries))
    parse_blocks_head(data)
    return data


def _need(data: bytes, size: int) -> None:
    if len(data) < size:
        raise ImageError(
            "the block list ends inside its head",
            code="truncated",
            expected=f"{size} bytes",
            found=f"{len(data)} bytes",
            hint="fetch it again",
        )


def _bad(what: str, expected: object, found: object) -> ImageError:
    return ImageError(
        f"this is not a block list that this client knows: {what}",
        code="blocks",
        expected=expected,
        found=found,
        hint="install from the image without it",
    )
