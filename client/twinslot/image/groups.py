"""Lists, tables and groups: each checked against the digest above it before it is used (S2).

The pure rules, for whoever reads an image: front to back (`image.reader`) or by ranges.
"""

from __future__ import annotations

import hashlib
import hmac

from twinslot.core.bounds import DIGEST_SIZE, ENTRY_SIZE
from twinslot.core.errors import ImageError
from twinslot.core.manifest import Payload
from twinslot.image.codec import CodecError, Decoder
from twinslot.image.wire import Encoding, StoredEntry, StoredTable, parse_table


def check_plain_list(payload: Payload, data: bytes) -> bytes:
    """The plain list, once its digest matched the manifest's: 32 bytes for each group.

    Raises:
        ImageError: `image.list`.
    """
    _check(
        f"the plain list of payload '{payload.name}'", "list", data, payload.groups * DIGEST_SIZE, payload.plain_list
    )
    return data


def check_stored_table(payload: Payload, data: bytes) -> StoredTable:
    """The stored table, once its digest matched the manifest's and each entry makes sense for its group.

    Raises:
        ImageError: `image.table`, naming the group.
    """
    what = f"the stored table of payload '{payload.name}'"
    _check(what, "table", data, payload.groups * ENTRY_SIZE, payload.stored_table)
    entries = parse_table(data)
    for index, entry in enumerate(entries):
        low, high = _stored_bounds(entry.encoding, payload.group_length(index))
        if not low <= entry.length <= high:
            raise ImageError(
                f"{what}, group {index}, {entry.encoding.name.lower()}",
                code="table",
                expected=f"{low} to {high} bytes",
                found=f"{entry.length} bytes",
            )
    if (total := sum(entry.length for entry in entries)) != payload.stored_size:
        raise ImageError(f"{what}: sum of the lengths", code="table", expected=payload.stored_size, found=total)
    return entries


# keeps: S2
def open_group(
    payload: Payload, index: int, entry: StoredEntry, stored: bytes, plain_digest: bytes, decoder: Decoder
) -> bytes:
    """The plain content of one group: stored digest first, then decode, then plain digest.

    Args:
        payload: From the verified manifest.
        index: Of the group.
        entry: From the checked stored table.
        stored: The bytes as they stand in the image.
        plain_digest: 32 bytes from the checked plain list.
        decoder: Reused from group to group.

    Raises:
        ImageError: `image.group`, naming payload and group.
    """
    plain = decode_group(payload, index, entry, stored, decoder)
    _check(f"{_what(payload, index)}, content", "group", plain, payload.group_length(index), plain_digest.hex())
    return plain


# keeps: S2
def decode_group(payload: Payload, index: int, entry: StoredEntry, stored: bytes, decoder: Decoder) -> bytes:
    """As `open_group`, without the plain digest: for whoever hands it to somebody who looks at that in any case."""
    what, length = _what(payload, index), payload.group_length(index)
    _check(f"{what}, stored bytes", "group", stored, entry.length, entry.digest.hex())
    try:
        return _decode(entry.encoding, stored, length, decoder)
    except CodecError as e:
        raise ImageError(f"{what} cannot be decoded", code="group", expected=f"{length} bytes", found=e) from e


def _what(payload: Payload, index: int) -> str:
    return f"the 'groups' section: payload '{payload.name}', group {index}"


def _decode(encoding: Encoding, stored: bytes, length: int, decoder: Decoder) -> bytes:
    match encoding:
        case Encoding.ZERO:
            return bytes(length)
        case Encoding.RAW:
            return stored
        case Encoding.ZSTD:
            return decoder.decode(stored, length)


def _stored_bounds(encoding: Encoding, plain: int) -> tuple[int, int]:
    """What a group of `plain` bytes may take: a frame that saves nothing is stored raw."""
    match encoding:
        case Encoding.ZERO:
            return 0, 0
        case Encoding.RAW:
            return plain, plain
        case Encoding.ZSTD:
            return 1, plain - 1


def _check(what: str, code: str, data: bytes, length: int, digest: str) -> None:
    if len(data) != length:
        raise ImageError(what, code=code, expected=f"{length} bytes", found=f"{len(data)} bytes")
    found = hashlib.sha256(data).hexdigest()
    if not hmac.compare_digest(found, digest):
        raise ImageError(f"{what}: digest", code=code, expected=digest, found=found)
