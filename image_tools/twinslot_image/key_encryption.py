"""A private key under a passphrase: PKCS 8 with scrypt, which the cryptography library reads and does not write.

Numbers: RFC 7914 section 7 (scrypt in PBES2), RFC 8018 section 6.2 (PBES2). N = 2^14, r = 8, p = 5 is one of the sets
of equal strength in OWASP's password storage guidance; it takes 16 MiB. openssl refuses more than 32 MiB unless told
otherwise, and a key must stay usable with openssl.
"""

from __future__ import annotations

import base64
import os
import textwrap

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.padding import PKCS7

from twinslot.core.der import der

_N, _R, _P = 1 << 14, 8, 5
_SALT = 16  # bytes
_BLOCK = 16  # bytes; AES
_KEY = 32  # bytes; AES-256
_PBES2 = bytes.fromhex("2a864886f70d01050d")  # 1.2.840.113549.1.5.13
_SCRYPT = bytes.fromhex("2b06010401da47040b")  # 1.3.6.1.4.1.11591.4.11
_AES_256_CBC = bytes.fromhex("60864801650304012a")  # 2.16.840.1.101.3.4.1.42
_INTEGER, _OCTETS, _OID, _SEQUENCE = 0x02, 0x04, 0x06, 0x30  # X.690 tags


def encrypt_key(plain: bytes, passphrase: bytes) -> bytes:
    """A private key (PKCS 8, DER) as an encrypted PEM file."""
    salt, vector = os.urandom(_SALT), os.urandom(_BLOCK)
    key = Scrypt(salt=salt, length=_KEY, n=_N, r=_R, p=_P).derive(passphrase)
    padder, encryptor = PKCS7(_BLOCK * 8).padder(), Cipher(AES256(key), CBC(vector)).encryptor()
    padded = padder.update(plain) + padder.finalize()
    return _pem(_encrypted(salt, vector, encryptor.update(padded) + encryptor.finalize()))


def _encrypted(salt: bytes, vector: bytes, data: bytes) -> bytes:
    numbers = b"".join(der(_INTEGER, _number(value)) for value in (_N, _R, _P))
    derivation = der(_SEQUENCE, der(_OID, _SCRYPT) + der(_SEQUENCE, der(_OCTETS, salt) + numbers))
    cipher = der(_SEQUENCE, der(_OID, _AES_256_CBC) + der(_OCTETS, vector))
    algorithm = der(_SEQUENCE, der(_OID, _PBES2) + der(_SEQUENCE, derivation + cipher))
    return der(_SEQUENCE, algorithm + der(_OCTETS, data))


def _number(value: int) -> bytes:
    """With a leading zero where the first bit would be a sign."""
    return value.to_bytes(value.bit_length() // 8 + 1, "big")


def _pem(data: bytes) -> bytes:
    lines = textwrap.wrap(base64.b64encode(data).decode(), 64)
    return "\n".join(
        ("-----BEGIN ENCRYPTED PRIVATE KEY-----", *lines, "-----END ENCRYPTED PRIVATE KEY-----", "")
    ).encode()
