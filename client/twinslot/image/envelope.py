"""Who can open an encrypted image: the section in front of its attachments (docs/image-format.md section 11.1).

Nothing here is signed. Whoever changes it keeps the image from being opened, and reaches nothing else: what comes out
of the units is held to the signed digests like the content of any image.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from twinslot.core.errors import ImageError
from twinslot.image.units import FILE_ID_SIZE, TAG_SIZE

CONTENT_KEY_SIZE: Final = 32  # bytes
KEY_ID_SIZE: Final = 32  # bytes: SHA-256 of the SubjectPublicKeyInfo in DER
RECIPIENTS_MAX: Final = 1024  # of one image; the envelope then has 152 KiB
_HEAD: Final = struct.Struct(f"<B3s{FILE_ID_SIZE}s")
_WRAPPED_SIZE: Final = CONTENT_KEY_SIZE + TAG_SIZE
_ENCAPSULATED_MAX: Final = 65  # bytes: an uncompressed point of P-256
_RECORD: Final = struct.Struct(f"<H2s{KEY_ID_SIZE}s{_ENCAPSULATED_MAX}s{_WRAPPED_SIZE}s3s")
ENVELOPE_MAX: Final = _HEAD.size + RECIPIENTS_MAX * _RECORD.size  # bytes


class Cipher(enum.IntEnum):
    """How units are sealed."""

    AES_256_GCM = 1
    CHACHA20_POLY1305 = 2


class Kem(enum.IntEnum):
    """How the content key is wrapped: KEM identifiers of RFC 9180 section 7.1."""

    P256 = 0x0010
    X25519 = 0x0020


ENCAPSULATED_SIZE: Final = {Kem.P256: 65, Kem.X25519: 32}  # bytes (RFC 9180 section 7.1, Nenc)


@dataclass(frozen=True, slots=True)
class Recipient:
    """One who can open the image.

    Attributes:
        kem: Of the key.
        key_id: SHA-256 of the public key's SubjectPublicKeyInfo.
        encapsulated: The sender's share, of the length that the KEM has.
        wrapped: The content key, sealed.
    """

    kem: Kem
    key_id: bytes
    encapsulated: bytes = field(repr=False)
    wrapped: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Envelope:
    """How units are sealed, the id of the image, and its recipients, by key id."""

    cipher: Cipher
    image_id: bytes
    recipients: tuple[Recipient, ...]


def check_envelope_size(length: int) -> int:
    """The length of an envelope, if one can have it: 1 to `RECIPIENTS_MAX` recipients.

    Raises:
        ImageError: `image.envelope`.
    """
    count, rest = divmod(length - _HEAD.size, _RECORD.size)
    if rest or not 1 <= count <= RECIPIENTS_MAX:
        raise _bad("the length", f"{_HEAD.size} bytes and 1 to {RECIPIENTS_MAX} recipients of {_RECORD.size}", length)
    return length


def parse_envelope(data: bytes) -> Envelope:
    """Read an envelope.

    Raises:
        ImageError: `image.envelope`.
    """
    check_envelope_size(len(data))
    cipher, reserved, image_id = _HEAD.unpack_from(data)
    if reserved.strip(b"\0"):
        raise _bad("reserved bytes", "zeros", reserved.hex())
    if cipher not in set(Cipher):
        raise _bad("the cipher", " or ".join(f"{int(each)}" for each in Cipher), cipher)
    recipients = tuple(map(_recipient, _RECORD.iter_unpack(data[_HEAD.size :])))
    ids = [each.key_id for each in recipients]
    if sorted(set(ids)) != ids:
        raise _bad("recipients", "sorted by key id, none twice", ", ".join(each.hex()[:16] for each in ids[:8]))
    return Envelope(Cipher(cipher), image_id, recipients)


def build_envelope(cipher: Cipher, image_id: bytes, recipients: Iterable[Recipient]) -> bytes:
    """The bytes of an envelope, read back by the reader's own parser.

    Raises:
        ImageError: `image.envelope`: no recipient, too many, or one twice.
    """
    ordered = sorted(recipients, key=lambda each: each.key_id)
    records = [
        _RECORD.pack(each.kem, bytes(2), each.key_id, each.encapsulated, each.wrapped, bytes(3)) for each in ordered
    ]
    data = _HEAD.pack(cipher, bytes(3), image_id) + b"".join(records)
    parse_envelope(data)
    return data


def _recipient(fields: tuple[int, bytes, bytes, bytes, bytes, bytes]) -> Recipient:
    kem, zeros, key_id, padded, wrapped, end = fields
    if kem not in set(Kem):
        raise _bad("the kind of a key", " or ".join(f"{int(each)}" for each in Kem), kem)
    length = ENCAPSULATED_SIZE[Kem(kem)]
    if (zeros + padded[length:] + end).strip(b"\0"):
        raise _bad("reserved bytes of a recipient", "zeros", "others")
    return Recipient(Kem(kem), key_id, padded[:length], wrapped)


def _bad(what: str, expected: str, found: object) -> ImageError:
    hint = "fetch the image again"
    return ImageError(f"the envelope of the image: {what}", code="envelope", expected=expected, found=found, hint=hint)
