"""Sealing and opening the units of one file (docs/image-format.md section 11.2).

Why no nonce comes twice under one key: a key belongs to one file, since the random id of the file goes into it; the
nonce is the place, and no place comes twice in a file. A file is sealed once: what seals it draws its id, and who
changes recipients later copies the units as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from twinslot.core.errors import ImageError
from twinslot.image.envelope import CONTENT_KEY_SIZE, Cipher
from twinslot.image.units import PLACE_SIZE, TAG_SIZE, OpensUnits, UnitPlace

_INFO: Final = b"twinslot units 1"
_NONCE: Final = 12  # bytes; both ciphers' (RFC 5116 section 5.2, RFC 8439 section 2.8)
_KINDS: Final[Mapping[Cipher, type[AESGCM | ChaCha20Poly1305]]] = {
    Cipher.AES_256_GCM: AESGCM,
    Cipher.CHACHA20_POLY1305: ChaCha20Poly1305,
}


@dataclass(frozen=True, slots=True)
class ContentKey:
    """What opens one image, and nothing else: the key of 32 bytes, the cipher, and the id of the image (16 bytes)."""

    key: bytes = field(repr=False)
    cipher: Cipher
    image_id: bytes


class Units(OpensUnits):
    """Seals and opens the units of one file.

    Args:
        content_key: Of the image that the file belongs to; 32 bytes.
        cipher: The image's.
        file_id: Of this file; 16 bytes.
    """

    def __init__(self, content_key: bytes, cipher: Cipher, file_id: bytes) -> None:
        info = _INFO + bytes([cipher])
        key = HKDF(SHA256(), CONTENT_KEY_SIZE, salt=file_id, info=info).derive(content_key)
        self._cipher, self._file_id = _KINDS[cipher](key), file_id

    def seal(self, place: UnitPlace, plain: bytes) -> bytes:
        """The unit for this place. Never twice for one place with different content: the nonce would repeat."""
        return self._cipher.encrypt(_nonce(place), plain, self._about(place))

    def open(self, place: UnitPlace, sealed: bytes | memoryview) -> bytes:
        """See `Opener`."""
        try:
            return self._cipher.decrypt(_nonce(place), sealed, self._about(place))
        except (InvalidTag, ValueError) as e:
            raise does_not_open(place, len(sealed)) from e

    def _about(self, place: UnitPlace) -> bytes:
        """What is authenticated with the content: where it belongs."""
        return self._file_id + place.pack()


def _nonce(place: UnitPlace) -> bytes:
    return bytes(_NONCE - PLACE_SIZE) + place.pack()


def does_not_open(place: UnitPlace, size: int) -> ImageError:
    """The error for a unit that is not what was sealed at its place."""
    return ImageError(
        f"{place} does not open",
        code="sealed",
        expected="the unit that was sealed at this place of this image",
        found=f"{size - TAG_SIZE} bytes that are damaged, moved or of another image",
        hint="fetch the image again",
    )
