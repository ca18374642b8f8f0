"""The binary parts of a patch, declared once (docs/patch-format.md sections 2 to 4).

Every number is little endian. Nothing is allocated before its length was checked against a bound. Columns of thousands
of numbers are varints in a plain loop; a test holds them to construct's own VarInt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import construct as c

from twinslot.core.bounds import DIGEST_SIZE, GROUP_SIZE_MAX, GROUP_SIZE_MIN, GROUPS_MAX, PAYLOADS_MAX
from twinslot.core.errors import ImageError
from twinslot.core.manifest import NAME
from twinslot.core.text import in_words

# As an image's (image-format.md section 2), with other letters.
PATCH_MAGIC: Final = b"\x89TWPT\r\n\x1a"
PLAIN_VERSION: Final = 1  # of a patch whose pieces have no areas and shifts
PROJECTED_VERSION: Final = 2  # without literals that may repeat what they replace, and with the first kinds of areas
PATCH_VERSION: Final = 3  # the newest that is known
PATCH_HEADER_SIZE: Final = 32  # bytes: 8 magic + 4 version + 4 + 4 + 4 lengths and count + 8 length
TABLE_MAX: Final = 1024 * 1024  # bytes of the table, packed or not; 6,000 shifted groups of a real pair take 1 KiB
PIECE_EXTRA: Final = 192 * 1024  # bytes that a piece may take above one group's
CONTROL_MAX: Final = 128 * 1024  # bytes of one piece's ops and jumps, unpacked
PROJECTION_MAX: Final = 64 * 1024  # bytes of one piece's areas and shifts, unpacked
# Numbers that the table has for each piece.
PIECE_COLUMNS: Final = {PLAIN_VERSION: 6, PROJECTED_VERSION: 8, PATCH_VERSION: 8}
VARINT_MAX: Final = 9  # bytes: 63 bits

PATCH_HEADER = c.Struct(
    "magic" / c.Bytes(len(PATCH_MAGIC)),
    "version" / c.Int32ul,
    "packed" / c.Int32ul,
    "table" / c.Int32ul,
    "changed" / c.Int32ul,
    "pieces" / c.Int64ul,
)

PAYLOAD = c.Struct(
    "name" / c.PascalString(c.Int8ul, "ascii"),
    "base" / c.Bytes(DIGEST_SIZE),
    "base_size" / c.Int64ul,
    "plain_list" / c.Bytes(DIGEST_SIZE),
    "size" / c.Int64ul,
    "group_size" / c.Int32ul,
    "changed" / c.Int32ul,
    "pieces" / c.Int32ul,
    "runs" / c.Prefixed(c.Int32ul, c.GreedyBytes),
    "columns" / c.Prefixed(c.Int32ul, c.GreedyBytes),
)
TABLE = c.Struct(
    "count" / c.Rebuild(c.Int8ul, lambda this: len(this.payloads)),
    c.Check(lambda this: 1 <= this.count <= PAYLOADS_MAX),
    "payloads" / c.Array(c.this.count, PAYLOAD),
    c.Terminated,
)


@dataclass(frozen=True, slots=True)
class PatchHeader:
    """The format's version, lengths in bytes of the table as stored and unpacked and of all pieces, changed groups."""

    version: int
    packed: int
    table: int
    changed: int
    pieces: int

    @property
    def head(self) -> int:
        """Bytes of header, table and digests: all that stands before the first piece."""
        return PATCH_HEADER_SIZE + self.packed + self.changed * DIGEST_SIZE


@dataclass(frozen=True, slots=True)
class PayloadEntry:
    """One payload's part of the table, its columns still packed as varints. Sizes in bytes, digests of 32 bytes."""

    name: str
    base: bytes
    base_size: int
    plain_list: bytes
    size: int
    group_size: int
    changed: int
    pieces: int
    runs: bytes
    columns: bytes


def parse_patch_header(data: bytes) -> PatchHeader:
    """Read the 32 bytes that every patch starts with.

    Raises:
        ImageError: `image.truncated`, `image.patch-header` (not a patch, or a format this client does not know) or
            `image.length` (above its bound).
    """
    if len(data) < PATCH_HEADER_SIZE:
        raise truncated("header", PATCH_HEADER_SIZE, len(data))
    fields = PATCH_HEADER.parse(data[:PATCH_HEADER_SIZE])
    known = f"1 to {PATCH_VERSION}"
    for what, good, expected in (
        ("magic", fields.magic == PATCH_MAGIC, in_words(PATCH_MAGIC)),
        ("version", fields.version in PIECE_COLUMNS, known),
    ):
        if not good:
            raise ImageError(
                f"this is not a patch that this client knows: {what}",
                code="patch-header",
                expected=expected,
                found=in_words(fields[what]),
                hint="install from the image without a patch",
            )
    header = PatchHeader(fields.version, fields.packed, fields.table, fields.changed, fields.pieces)
    for name, high in _bounds(header.changed).items():
        if (found := getattr(header, name)) > high:
            raise ImageError(f"the patch's length of '{name}'", code="length", expected=f"up to {high}", found=found)
    return header


def build_patch_header(header: PatchHeader) -> bytes:
    """The 32 bytes of a header."""
    fields = {name: getattr(header, name) for name in PatchHeader.__slots__}
    data = bytes(PATCH_HEADER.build({"magic": PATCH_MAGIC, **fields}))
    parse_patch_header(data)
    return data


def _bounds(changed: int) -> dict[str, int]:
    pieces = min(changed, GROUPS_MAX) * piece_max(GROUP_SIZE_MAX)
    return {"packed": TABLE_MAX, "table": TABLE_MAX, "changed": GROUPS_MAX, "pieces": pieces}


def piece_max(group_size: int) -> int:
    """Bytes that one piece may take as stored: what the device holds at once."""
    return group_size + PIECE_EXTRA


def parse_patch_table(data: bytes) -> tuple[PayloadEntry, ...]:
    """Split the unpacked table by payloads, each within its bounds.

    Raises:
        ImageError: `image.patch-table`.
    """
    try:
        fields = TABLE.parse(data)
    except (c.ConstructError, UnicodeDecodeError) as e:
        raise bad_table("form", "1 to 16 payloads that fill it", type(e).__name__) from e
    entries = tuple(PayloadEntry(*(entry[name] for name in PayloadEntry.__slots__)) for entry in fields.payloads)
    names = [entry.name for entry in entries]
    if names != sorted(set(names)) or not all(NAME.fullmatch(name) for name in names):
        raise bad_table("names of payloads", "sorted, none twice", ", ".join(names))
    for entry in entries:
        _check_entry(entry)
    return entries


def _check_entry(entry: PayloadEntry) -> None:
    size = entry.group_size
    if size & (size - 1) or not GROUP_SIZE_MIN <= size <= GROUP_SIZE_MAX:
        raise bad_table("group size", f"a power of two from {GROUP_SIZE_MIN} to {GROUP_SIZE_MAX}", size)
    for what, found in (("size", entry.size), ("size of the base", entry.base_size)):
        if not 1 <= found <= GROUPS_MAX * size:
            raise bad_table(what, f"1 to {GROUPS_MAX * size}", found)
    if entry.changed > -(-entry.size // size) or entry.pieces > entry.changed:
        raise bad_table("counts", "pieces <= changed <= groups", f"{entry.pieces}, {entry.changed}")


def build_patch_table(entries: Iterable[PayloadEntry]) -> bytes:
    """The table before it is packed."""
    fields = [{name: getattr(entry, name) for name in PayloadEntry.__slots__} for entry in entries]
    return bytes(TABLE.build({"payloads": fields}))


def read_varints(data: bytes) -> Iterator[int]:
    """The numbers of a column: seven bits in each byte, the lowest first, the high bit says that more follow.

    Raises:
        ValueError: A number of more than nine bytes, or cut off.
    """
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            yield value
            value = shift = 0
            continue
        shift += 7
        if shift >= 7 * VARINT_MAX:
            raise ValueError("a number of more than nine bytes")
    if shift:
        raise ValueError("a number is cut off")


def build_varints(values: Iterable[int]) -> bytes:
    """A column of numbers, none negative."""
    out = bytearray()
    for value in values:
        rest = value
        while rest > 0x7F:
            out.append(rest & 0x7F | 0x80)
            rest >>= 7
        out.append(rest)
    return bytes(out)


def to_signed(number: int) -> int:
    """0, -1, 1, -2, 2, ... for 0, 1, 2, 3, 4, ..."""
    return -(number >> 1) - 1 if number & 1 else number >> 1


def from_signed(number: int) -> int:
    """The other way round."""
    return number << 1 if number >= 0 else -number * 2 - 1


def bad_table(what: str, expected: str, found: object) -> ImageError:
    """The error for a table that cannot be."""
    return ImageError(f"the patch's table: {what}", code="patch-table", expected=expected, found=found)


def truncated(part: str, expected: int, found: int) -> ImageError:
    """The error for a patch that ends too early."""
    return ImageError(
        f"the patch ends inside its {part}",
        code="truncated",
        expected=f"{expected} bytes",
        found=f"{found} bytes",
        hint="fetch the patch again",
    )
