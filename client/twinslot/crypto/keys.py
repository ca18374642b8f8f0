"""Keys of recipients: X25519 and P-256, public ones in PEM, private ones in PEM (PKCS 8)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDH,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from twinslot.image.envelope import Kem

_Private: TypeAlias = X25519PrivateKey | EllipticCurvePrivateKey
_Public: TypeAlias = X25519PublicKey | EllipticCurvePublicKey


KINDS: Final[Mapping[str, Kem]] = {"x25519": Kem.X25519, "p256": Kem.P256}


class KeyFormError(ValueError):
    """No key of a kind that images can be encrypted for; `what` says what was found."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


@dataclass(frozen=True, slots=True)
class RecipientKey:
    """A recipient's public key: its kind, and as RFC 9180 section 7.1.1 serializes it."""

    kem: Kem
    raw: bytes

    @property
    def kind(self) -> str:
        """Its kind, as people name it."""
        return next(name for name, kem in KINDS.items() if kem is self.kem)

    @property
    def key_id(self) -> bytes:
        """SHA-256 of the SubjectPublicKeyInfo: `openssl pkey -pubin -outform DER | sha256sum`."""
        return hashlib.sha256(_public(self).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()

    def pem(self) -> bytes:
        """The key in PEM."""
        return _public(self).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


class DecryptionKey:
    """A private key in this process's memory; implements `hpke.ExchangeKey`."""

    def __init__(self, key: _Private) -> None:
        self._key = key

    @property
    def kem(self) -> Kem:
        """See `hpke.ExchangeKey`."""
        return Kem.X25519 if isinstance(self._key, X25519PrivateKey) else Kem.P256

    @property
    def public(self) -> bytes:
        """See `hpke.ExchangeKey`."""
        return self.public_key.raw

    @property
    def public_key(self) -> RecipientKey:
        """The public half."""
        return _described(self._key.public_key())

    def exchange(self, other: bytes) -> bytes:
        """See `hpke.ExchangeKey`."""
        if isinstance(self._key, X25519PrivateKey):
            return self._key.exchange(X25519PublicKey.from_public_bytes(other))
        return self._key.exchange(ECDH(), EllipticCurvePublicKey.from_encoded_point(SECP256R1(), other))

    def der(self) -> bytes:
        """The key in DER (PKCS 8), not encrypted."""
        return self._key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    def pem(self) -> bytes:
        """The key in PEM (PKCS 8), not encrypted."""
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def make_private(kem: Kem) -> DecryptionKey:
    """A new key."""
    return DecryptionKey(X25519PrivateKey.generate() if kem is Kem.X25519 else generate_private_key(SECP256R1()))


def load_private(pem: bytes, passphrase: bytes | None = None) -> DecryptionKey:
    """A private key from PEM.

    Raises:
        KeyFormError: None of these, damaged, or encrypted with another passphrase.
    """
    try:
        key = load_pem_private_key(pem, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm) as e:
        raise KeyFormError("no private key in PEM that opens") from e
    if isinstance(key, X25519PrivateKey) or (isinstance(key, EllipticCurvePrivateKey) and _on_curve(key.curve)):
        return DecryptionKey(key)
    raise KeyFormError("a private key of another kind")


def load_public(pem: bytes) -> RecipientKey:
    """A public key from PEM.

    Raises:
        KeyFormError: None of these.
    """
    try:
        key = load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm) as e:
        raise KeyFormError("no public key in PEM") from e
    if isinstance(key, X25519PublicKey) or (isinstance(key, EllipticCurvePublicKey) and _on_curve(key.curve)):
        return _described(key)
    raise KeyFormError("a public key of another kind")


def require_point(raw: bytes) -> None:
    """A point of P-256, as the RFC serializes it; whoever keeps the private half may not look.

    Raises:
        ValueError: It is none.
    """
    EllipticCurvePublicKey.from_encoded_point(SECP256R1(), raw)


def _on_curve(curve: object) -> bool:
    return isinstance(curve, SECP256R1)


def _described(key: _Public) -> RecipientKey:
    if isinstance(key, X25519PublicKey):
        return RecipientKey(Kem.X25519, key.public_bytes_raw())
    return RecipientKey(Kem.P256, key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))


def _public(key: RecipientKey) -> _Public:
    if key.kem is Kem.X25519:
        return X25519PublicKey.from_public_bytes(key.raw)
    return EllipticCurvePublicKey.from_encoded_point(SECP256R1(), key.raw)
