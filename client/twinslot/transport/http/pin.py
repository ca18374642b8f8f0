"""Which public key a server has, for `http.pins`: names and authorities are checked all the same.

The key is taken out of the certificate that OpenSSL has verified already. Only a device with pins imports this.
"""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import load_der_x509_certificate

from twinslot.core.address import Address
from twinslot.core.errors import TransportError


def require_pinned(address: Address, certificate: bytes, pins: tuple[str, ...]) -> None:
    """Refuse a server whose key has none of these digests.

    Args:
        address: For the message.
        certificate: The server's own, in DER.
        pins: SHA-256 of SubjectPublicKeyInfo in DER, as RFC 7469, section 2.4 has it, in hex.

    Raises:
        TransportError: `transport.tls`.
    """
    try:
        key = load_der_x509_certificate(certificate).public_key()
        found = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
    except ValueError:
        found = "a certificate that cannot be read"
    if found not in pins:
        hint = "if the server has a new key, add it to 'http.pins' and keep a spare one there"
        raise TransportError(
            f"'{address}' has another key", code="tls", expected=" or ".join(pins), found=found, hint=hint
        )
