"""What signs with a private key, whatever the versions of the libraries below sign with by themselves."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, Signature, SSlibKey  # type: ignore[attr-defined]


class P384Signer(CryptoSigner):
    """ECDSA on P-384, which securesystemslib 1.2 (Debian 13) verifies, and does not sign."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key, self._public = key, SSlibKey.from_crypto(key.public_key())

    @property
    def public_key(self) -> SSlibKey:
        """As it stands in documents."""
        return self._public

    def sign(self, payload: bytes) -> Signature:
        """A signature in DER (FIPS 186-5, section 6.4)."""
        return Signature(self._public.keyid, self._key.sign(payload, ec.ECDSA(SHA384())).hex())


def signer_of(pem: bytes, passphrase: bytes | None) -> CryptoSigner:
    """What signs with the key in a PEM file.

    Raises:
        ValueError, TypeError, UnsupportedAlgorithm: As `load_pem_private_key`, and for a kind that no document has.
    """
    key = load_pem_private_key(pem, passphrase)
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP384R1):
        return P384Signer(key)
    return CryptoSigner(key)
