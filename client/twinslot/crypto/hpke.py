"""Hybrid public key encryption, base mode, one message (RFC 9180), for the two KEMs that recipients' keys have.

Debian 13's python3-cryptography 43 has the primitives and no HPKE. The names are the RFC's; its test vectors and the
HPKE of later versions of the library are in tests/unit/test_hpke.py.
"""

from __future__ import annotations

import hmac
import struct
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from twinslot.image.envelope import Kem

KDF: Final = 0x0001  # HKDF-SHA256 (RFC 9180 section 7.2)
AEAD: Final = 0x0003  # ChaCha20Poly1305 (section 7.3)
_KEY: Final = 32  # bytes, Nk
_NONCE: Final = 12  # bytes, Nn
_SECRET: Final = 32  # bytes, Nsecret of both KEMs
_BASE: Final = b"\x00"  # mode (section 5)


class HpkeError(ValueError):
    """It does not open: another key, or damaged."""


class ExchangeKey(Protocol):
    """A recipient's private key, wherever it is: a file, or a token that gives only this."""

    @property
    def kem(self) -> Kem:
        """Its kind."""
        ...

    @property
    def public(self) -> bytes:
        """The public half, as the RFC serializes it (section 7.1.1)."""
        ...

    def exchange(self, other: bytes) -> bytes:
        """Diffie-Hellman with a serialized public key (DH of section 4.1).

        Raises:
            ValueError: That is no public key of this kind, or one of small order.
        """
        ...


def seal(ephemeral: ExchangeKey, recipient: bytes, info: bytes, aad: bytes, plain: bytes) -> tuple[bytes, bytes]:
    """Seal one message to a recipient (SealBase, section 6.1).

    Args:
        ephemeral: A key made for this message and nothing else.
        recipient: The recipient's public key, serialized; of the same kind.
        info: What both sides know of the purpose; not sent.
        aad: What both sides know of the message; not sent.
        plain: The message.

    Returns:
        The sender's share, and the sealed message.

    Raises:
        ValueError: The recipient's key is none.
    """
    shared = _shared(ephemeral.kem, ephemeral.exchange(recipient), ephemeral.public + recipient)
    key, nonce = _schedule(ephemeral.kem, shared, info)
    return ephemeral.public, ChaCha20Poly1305(key).encrypt(nonce, plain, aad)


def unseal(private: ExchangeKey, encapsulated: bytes, info: bytes, aad: bytes, sealed: bytes) -> bytes:
    """Open one message (OpenBase, section 6.1).

    Raises:
        HpkeError: It does not open.
    """
    try:
        shared = _shared(private.kem, private.exchange(encapsulated), encapsulated + private.public)
        key, nonce = _schedule(private.kem, shared, info)
        return ChaCha20Poly1305(key).decrypt(nonce, sealed, aad)
    except (ValueError, InvalidTag) as e:
        raise HpkeError("it does not open with this key") from e


def _shared(kem: Kem, dh: bytes, context: bytes) -> bytes:
    """ExtractAndExpand (section 4.1)."""
    suite = b"KEM" + struct.pack(">H", kem)
    return _labeled_expand(suite, _labeled_extract(suite, b"", b"eae_prk", dh), b"shared_secret", context, _SECRET)


def _schedule(kem: Kem, shared: bytes, info: bytes) -> tuple[bytes, bytes]:
    """KeySchedule in base mode (section 5.1): key and the nonce of the first message."""
    suite = b"HPKE" + struct.pack(">HHH", kem, KDF, AEAD)
    hashes = _labeled_extract(suite, b"", b"psk_id_hash", b"") + _labeled_extract(suite, b"", b"info_hash", info)
    secret = _labeled_extract(suite, shared, b"secret", b"")
    key = _labeled_expand(suite, secret, b"key", _BASE + hashes, _KEY)
    return key, _labeled_expand(suite, secret, b"base_nonce", _BASE + hashes, _NONCE)


def _labeled_extract(suite: bytes, salt: bytes, label: bytes, ikm: bytes) -> bytes:
    """LabeledExtract (section 4); HKDF-Extract is one HMAC (RFC 5869 section 2.2)."""
    return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, "sha256")


def _labeled_expand(suite: bytes, prk: bytes, label: bytes, info: bytes, length: int) -> bytes:
    """LabeledExpand (section 4)."""
    labeled = struct.pack(">H", length) + b"HPKE-v1" + suite + label + info
    return HKDFExpand(SHA256(), length, labeled).derive(prk)
