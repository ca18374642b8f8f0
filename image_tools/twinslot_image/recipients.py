"""Recipients of encrypted images, from the files or tokens of their keys."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, TypeAlias

from twinslot.core.errors import DeviceError, ImageError, Refusal, RefusedError
from twinslot.core.pkcs11_uri import is_pkcs11
from twinslot.crypto.hpke import ExchangeKey
from twinslot.crypto.keys import DecryptionKey, KeyFormError, RecipientKey, load_private, load_public, require_point
from twinslot.crypto.recipients import unwrap
from twinslot.crypto.units import ContentKey, Units
from twinslot.image.envelope import Cipher, Kem, parse_envelope
from twinslot_image.named_file import read_small
from twinslot_image.pkcs11_pin import Pins
from twinslot_image.pkcs11_token import exchanged, public_pem
from twinslot_image.sealing import Encryption

Unlock: TypeAlias = Callable[[bytes], ContentKey]  # an envelope's content key
_FORM: Final = "an X25519 or P-256 key in PEM"
_OF_TOKENS: Final = "X25519 in tokens is not supported; make the key with '--key-type EC:prime256v1'"


class TokenIdentity:
    """A recipient's private key that stays in its token; implements `hpke.ExchangeKey`.

    Args:
        where: Its URI.
        pins: Where the token's PIN comes from.
    """

    kem = Kem.P256

    def __init__(self, where: str, pins: Pins) -> None:
        self._where, self._pins, self.public = where, pins, read_public(where).raw

    def exchange(self, other: bytes) -> bytes:
        """See `hpke.ExchangeKey`."""
        require_point(other)
        return exchanged(self._where, self._pins, other)


def read_encryption(places: Iterable[str], cipher: Cipher) -> Encryption:
    """The recipients whose public keys are in these files or tokens.

    Raises:
        ImageError: `image.recipient-key`: one of them has none, or two have one.
        DeviceError: `device.pkcs11-...`: a token does not give it.
    """
    found: dict[bytes, str] = {}
    keys = []
    for where in places:
        key = read_public(where)
        if key.key_id in found:
            what = "two places hold the key of one recipient"
            raise ImageError(what, code="recipient-key", found=f"{found[key.key_id]}, {where}")
        found[key.key_id] = where
        keys.append(key)
    return Encryption(tuple(keys), cipher)


def read_public(where: str) -> RecipientKey:
    """A recipient's public key, from a file in PEM or from a token.

    Raises:
        ImageError: `image.recipient-key`.
        DeviceError: `device.pkcs11-...`: the token does not give it.
    """
    in_token = is_pkcs11(where)
    try:
        return load_public(public_pem(where) if in_token else read_small(Path(where)))
    except KeyFormError as e:
        what = f"'{where}' holds no public key that an image can be encrypted for"
        hint = "make one with 'twinslot-image recipients new'"
        form, hint = ("a key on P-256", _OF_TOKENS) if in_token else (_FORM, hint)
        raise ImageError(what, code="recipient-key", expected=form, found=e.what, hint=hint) from e


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


def unlock_with(arguments: Namespace) -> Unlock:
    """What opens an envelope with the private key that `--identity` names; without one, each is refused."""
    where = arguments.identity
    if where is None:
        return LOCKED
    private: ExchangeKey
    if is_pkcs11(where):
        private = TokenIdentity(where, arguments.pins)
    else:
        private = read_private(Path(where), arguments.passphrase)
    return lambda envelope: unwrap(parse_envelope(envelope), private)


def _locked(_: bytes) -> ContentKey:
    what, hint = "the image is encrypted", "name the private key of a recipient with '--identity'"
    raise RefusedError(Refusal("encrypted", what, hint=hint))


LOCKED: Final[Unlock] = _locked


def units_of(content: ContentKey) -> Units:
    """What opens the units of the image itself."""
    return Units(content.key, content.cipher, content.image_id)
