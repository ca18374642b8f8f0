"""Recipients of encrypted images, from the files of their keys."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from twinslot.core.errors import DeviceError, ImageError, Refusal, RefusedError
from twinslot.crypto.keys import DecryptionKey, KeyFormError, RecipientKey, load_private, load_public
from twinslot.crypto.recipients import ContentKey, unwrap
from twinslot.crypto.units import Units
from twinslot.image.envelope import Cipher, parse_envelope
from twinslot_image.named_file import read_small
from twinslot_image.sealing import Encryption

Unlock: TypeAlias = Callable[[bytes], ContentKey]  # an envelope's content key
_FORM: Final = "an X25519 or P-256 key in PEM"


def read_encryption(paths: tuple[Path, ...], cipher: Cipher) -> Encryption:
    """The recipients whose public keys are in these files.

    Raises:
        ImageError: `image.recipient-key`: a file has none, or two have one.
    """
    found: dict[bytes, Path] = {}
    keys = []
    for path in paths:
        key = read_public(path)
        if key.key_id in found:
            what = "two files hold the key of one recipient"
            raise ImageError(what, code="recipient-key", found=f"{found[key.key_id]}, {path}")
        found[key.key_id] = path
        keys.append(key)
    return Encryption(tuple(keys), cipher)


def read_public(path: Path) -> RecipientKey:
    """A recipient's public key.

    Raises:
        ImageError: `image.recipient-key`.
    """
    try:
        return load_public(read_small(path))
    except KeyFormError as e:
        what = f"'{path}' holds no public key that an image can be encrypted for"
        hint = "make one with 'twinslot-image recipients new'"
        raise ImageError(what, code="recipient-key", expected=_FORM, found=e.what, hint=hint) from e


def read_private(path: Path, passphrase: bytes | None) -> DecryptionKey:
    """A recipient's private key.

    Raises:
        DeviceError: `device.decryption-key`.
    """
    try:
        return load_private(read_small(path), passphrase)
    except KeyFormError as e:
        what = f"'{path}' holds no private key that opens encrypted images"
        raise DeviceError(what, code="decryption-key", expected=_FORM, found=e.what) from e


def unlock_with(identity: Path | None, passphrase: bytes | None) -> Unlock:
    """What opens an envelope with the private key in a file; without one, each is refused."""
    if identity is None:
        return LOCKED
    private = read_private(identity, passphrase)
    return lambda envelope: unwrap(parse_envelope(envelope), private)


def _locked(_: bytes) -> ContentKey:
    what, hint = "the image is encrypted", "name the private key of a recipient with '--identity'"
    raise RefusedError(Refusal("encrypted", what, hint=hint))


LOCKED: Final[Unlock] = _locked


def units_of(content: ContentKey) -> Units:
    """What opens the units of the image itself."""
    return Units(content.key, content.cipher, content.image_id)
