"""The binary parts of an image, declared once (docs/image-format.md sections 2, 4, 7 and 8).

The only importer of construct. Every number is little endian. Nothing is allocated before its length was checked
against a bound.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from typing import Final, overload

import construct as c

from twinslot.core.bounds import (
    ATTACHMENTS_SIZE_MAX,
    DIGEST_SIZE,
    ENTRY_SIZE,
    GROUP_SIZE_MAX,
    GROUPS_MAX,
    MANIFEST_MAX,
    TRUST_MAX,
)
from twinslot.core.errors import ImageError
from twinslot.core.text import in_words

# The PNG signature's idea (PNG specification, section 5.2): a high byte, a line end of each kind and an end-of-file
# byte, so that a transfer in text mode is seen in the first eight bytes.
MAGIC: Final = b"\x89TWIN\r\n\x1a"
FORMAT_VERSION: Final = 1
HEADER_SIZE: Final = 64  # bytes: 8 magic + 4 version + 4 reserved + 6 lengths of 8

ROOTS_MAX: Final = 64  # root documents in one image: 64 key rotations
DOCUMENT_MAX: Final = 64 * 1024  # bytes of one root or targets document; the usual one has 2 KiB


class Section(enum.StrEnum):
    """The parts of an image in the order in which they stand, and as errors name them."""

    HEADER = "header"
    TRUST = "trust"
    MANIFEST = "manifest"
    ATTACHMENTS = "attachments"
    PLAIN_LISTS = "plain-lists"
    STORED_TABLES = "stored-tables"
    GROUPS = "groups"


class Encoding(enum.IntEnum):
    """How a group is stored."""

    ZERO = 0  # nothing stored; the group is all zero bytes
    RAW = 1  # as it is
    ZSTD = 2  # one zstd frame (RFC 8878) that names its content size


SECTION_MAX: Final = {  # bytes; a longer length is refused before anything is allocated or skipped
    Section.TRUST: TRUST_MAX,
    Section.MANIFEST: MANIFEST_MAX,
    Section.ATTACHMENTS: ATTACHMENTS_SIZE_MAX,
    Section.PLAIN_LISTS: GROUPS_MAX * DIGEST_SIZE,
    Section.STORED_TABLES: GROUPS_MAX * ENTRY_SIZE,
    Section.GROUPS: GROUPS_MAX * GROUP_SIZE_MAX,
}

HEADER = c.Struct(
    "magic" / c.Bytes(len(MAGIC)),
    "version" / c.Int32ul,
    "reserved" / c.Int32ul,
    "trust" / c.Int64ul,
    "manifest" / c.Int64ul,
    "attachments" / c.Int64ul,
    "plain_lists" / c.Int64ul,
    "stored_tables" / c.Int64ul,
    "groups" / c.Int64ul,
)

_DOCUMENT = c.FocusedSeq(
    "data",
    "length" / c.Rebuild(c.Int32ul, lambda this: len(this.data)),
    c.Check(lambda this: 1 <= this.length <= DOCUMENT_MAX),
    "data" / c.Bytes(c.this.length),
)
TRUST = c.Struct(
    "count" / c.Rebuild(c.Int32ul, lambda this: len(this.roots)),
    c.Check(lambda this: this.count <= ROOTS_MAX),
    "roots" / c.Array(c.this.count, _DOCUMENT),
    "targets" / _DOCUMENT,
    c.Terminated,
)

_ENTRY = struct.Struct("<B3sI32s")  # encoding, three zero bytes, length, digest


@dataclass(frozen=True, slots=True)
class Header:
    """The lengths of the sections, in bytes. Sections follow each other, so they have no offsets that could overlap."""

    trust: int
    manifest: int
    attachments: int
    plain_lists: int
    stored_tables: int
    groups: int

    def length(self, section: Section) -> int:
        """Bytes of one section."""
        return HEADER_SIZE if section is Section.HEADER else astuple(self)[_BODY.index(section)]

    def offset(self, section: Section) -> int:
        """Where a section starts: after everything before it."""
        order = list(Section)
        return sum(self.length(before) for before in order[: order.index(section)])

    @property
    def total(self) -> int:
        """Bytes of the whole image."""
        return sum(self.length(section) for section in Section)


_BODY = tuple(SECTION_MAX)


@dataclass(frozen=True, slots=True)
class TrustDocuments:
    """What the trust section holds, unverified: each is one canonical JSON document."""

    roots: tuple[bytes, ...]
    targets: bytes


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """How one group stands in the image: encoding, bytes stored, and the SHA-256 of those bytes."""

    encoding: Encoding
    length: int
    digest: bytes


def parse_header(data: bytes) -> Header:
    """Read the 64 bytes that every image starts with.

    Raises:
        ImageError: `image.truncated`, `image.header` (not an image, or a format this client does not know) or
            `image.length` (a section is empty that must not be, or above its bound).
    """
    if len(data) < HEADER_SIZE:
        raise truncated(Section.HEADER, HEADER_SIZE, len(data))
    try:
        fields = HEADER.parse(data[:HEADER_SIZE])
    except c.ConstructError as e:
        raise ImageError("the 'header' section cannot be read", code="header", found=_sentence(e)) from e
    if fields.magic != MAGIC:
        what = "this is not an update image"
        raise ImageError(what, code="header", expected=in_words(MAGIC), found=in_words(fields.magic))
    if fields.version != FORMAT_VERSION:
        hint = "update the client with an image of an older format first"
        raise ImageError(
            "the 'header' section: format version",
            code="header",
            expected=FORMAT_VERSION,
            found=fields.version,
            hint=hint,
        )
    if fields.reserved:
        raise ImageError("the 'header' section: reserved bytes", code="header", expected=0, found=fields.reserved)
    header = Header(
        fields.trust, fields.manifest, fields.attachments, fields.plain_lists, fields.stored_tables, fields.groups
    )
    check_bounds(header)
    return header


# keeps: S9
def check_bounds(header: Header) -> None:
    """Hold every length to its bound.

    Raises:
        ImageError: `image.length`, naming the section.
    """
    for section, high in SECTION_MAX.items():
        low = 0 if section in (Section.ATTACHMENTS, Section.GROUPS) else 1
        length = header.length(section)
        if not low <= length <= high:
            expected = f"{low} to {high} bytes"
            raise ImageError(
                f"the length of the '{section}' section", code="length", expected=expected, found=f"{length} bytes"
            )


def build_header(header: Header) -> bytes:
    """The 64 bytes of a header; its lengths are checked first."""
    check_bounds(header)
    fields = {name: getattr(header, name) for name in Header.__slots__}
    return bytes(HEADER.build({"magic": MAGIC, "version": FORMAT_VERSION, "reserved": 0, **fields}))


def parse_trust(data: bytes) -> TrustDocuments:
    """Split the trust section into its documents.

    Raises:
        ImageError: `image.trust`: counts and lengths do not fill the section exactly, or are out of bounds.
    """
    try:
        fields = TRUST.parse(data)
    except c.ConstructError as e:
        expected = f"up to {ROOTS_MAX} roots and one targets document of 1 to {DOCUMENT_MAX} bytes"
        raise ImageError(
            "the 'trust' section cannot be read", code="trust", expected=expected, found=_sentence(e)
        ) from e
    return TrustDocuments(tuple(fields.roots), fields.targets)


def build_trust(documents: TrustDocuments) -> bytes:
    """The trust section.

    Raises:
        ImageError: `image.trust`: too many roots, or a document that is empty or too long.
    """
    try:
        return bytes(TRUST.build({"roots": list(documents.roots), "targets": documents.targets}))
    except c.ConstructError as e:
        raise ImageError("the 'trust' section cannot be built", code="trust", found=_sentence(e)) from e


class StoredTable(Sequence[StoredEntry]):
    """A stored table as it stands in the image, unpacked entry by entry: 40 bytes each in memory, not 200."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data) // ENTRY_SIZE

    @overload
    def __getitem__(self, index: int) -> StoredEntry: ...
    @overload
    def __getitem__(self, index: slice) -> StoredTable: ...
    def __getitem__(self, index: int | slice) -> StoredEntry | StoredTable:
        if isinstance(index, slice):
            return StoredTable(build_table([self[i] for i in range(*index.indices(len(self)))]))
        at = range(len(self))[index] * ENTRY_SIZE
        encoding, _, length, digest = _ENTRY.unpack_from(self._data, at)
        return StoredEntry(_ENCODINGS[encoding], length, digest)


def parse_table(data: bytes) -> StoredTable:
    """Read a stored table whose digest was checked; whether the lengths make sense is `image.groups`'s question.

    Raises:
        ImageError: `image.table`: unknown encoding, reserved bytes, or a part of an entry.
    """
    if len(data) % ENTRY_SIZE:
        raise ImageError("the 'stored-tables' section ends inside an entry", code="table", found=len(data))
    for index, (encoding, reserved, _, _) in enumerate(_ENTRY.iter_unpack(data)):
        if encoding not in _ENCODINGS or reserved != bytes(3):
            expected = "encoding 0, 1 or 2, then three zero bytes"
            found = f"{encoding}, {reserved.hex()}"
            raise ImageError(
                f"the 'stored-tables' section, entry {index}", code="table", expected=expected, found=found
            )
    return StoredTable(data)


_ENCODINGS = {int(encoding): encoding for encoding in Encoding}


def build_table(entries: Iterable[StoredEntry]) -> bytes:
    """The stored table of one payload."""
    return b"".join(_ENTRY.pack(entry.encoding, bytes(3), entry.length, entry.digest) for entry in entries)


def truncated(section: Section, expected: int, found: int) -> ImageError:
    """The error for a section that ends too early."""
    return ImageError(
        f"the image ends inside the '{section}' section",
        code="truncated",
        expected=f"{expected} bytes",
        found=f"{found} bytes",
        hint="fetch the image again",
    )


def _sentence(error: Exception) -> str:
    """One line for people; construct puts a path and an empty line into its messages."""
    return " ".join(str(error).split())[:160] or type(error).__name__
