"""The device's own key: made once on the device, it signs what leaves the device, so that others know whose word it is.

    key = open_device_key(files)         # root's processes alone
    signature = key.sign("application/vnd.twinslot.report+json", body)
    key.public.fingerprint, key.public.pem

Whoever verifies has the public part from the factory ('twinslot device-key show --json') and calls `verifies`, or any
tool that knows DSSE. The key never signs the payload alone (core/device_key.py), and it decrypts nothing.
"""

from __future__ import annotations

from typing import Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
)

from twinslot.core.device_key import PublicPart, signed_bytes
from twinslot.core.errors import DeviceError
from twinslot.storage.device_key import DeviceKeyFiles
from twinslot.system.token import Token


class DeviceKey(Protocol):
    """A key that can be asked for signatures, wherever it is kept."""

    @property
    def public(self) -> PublicPart:
        """What others may know of it."""
        ...

    def sign(self, payload_type: str, payload: bytes) -> bytes:
        """A signature over `signed_bytes(payload_type, payload)`.

        Raises:
            DeviceError: `device.device-key`: whoever keeps the key gives none.
        """
        ...


class FileKey:
    """An Ed25519 key that this process holds in memory.

    Args:
        pem: The private key, PKCS 8 without passphrase.
        name: The file, for messages.

    Raises:
        DeviceError: `device.device-key`: this is none.
    """

    def __init__(self, pem: bytes, name: str) -> None:
        try:
            key = load_pem_private_key(pem, None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise DeviceError(
                f"the device key '{name}' is damaged or of another kind",
                code="device-key",
                expected="an Ed25519 private key, PKCS 8 in PEM",
                found=f"{len(pem)} bytes that are none",
                hint="move it away, and 'twinslot device-key init' makes another; tell who knows the old public part",
            )
        self._key = key
        self.public = PublicPart.from_der(
            key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        )

    def sign(self, payload_type: str, payload: bytes) -> bytes:
        """See `DeviceKey`: 64 bytes."""
        return self._key.sign(signed_bytes(payload_type, payload))


class TokenKey:
    """A key that stays in a token. Each signature is seen to verify.

    Args:
        token: Which.

    Raises:
        TwinslotError: `device.pkcs11-...`: the token does not give it; `device.device-key`: it is of another kind.
    """

    def __init__(self, token: Token) -> None:
        self._token = token
        self.public = PublicPart.from_der(token.public())

    # keeps: S22 (the key is in a token)
    def sign(self, payload_type: str, payload: bytes) -> bytes:
        """See `DeviceKey`."""
        signature = self._token.sign(signed_bytes(payload_type, payload))
        if not verifies(self.public, payload_type, payload, signature):
            what, hint = "the token does not sign as this device", "its public key may be of another private key"
            raise DeviceError(what, code="device-key", found=self._token.uri.key_name, hint=hint)
        return signature


def open_device_key(files: DeviceKeyFiles) -> DeviceKey:
    """The key of this device.

    Raises:
        DeviceError: `device.device-key-missing`: none was made yet; `device.device-key`, `device.device-key-rights`;
            `device.pkcs11-...`: it is in a token that does not answer.
    """
    if files.in_token:
        return TokenKey(Token.of(files.in_token))
    pem = files.private()
    if pem is None:
        hint = "'twinslot device-key init' makes it; twinslot-device-key.service does so at the first start"
        raise DeviceError(f"there is no device key '{files.key}'", code="device-key-missing", hint=hint)
    return FileKey(pem, str(files.key))


def make_device_key(files: DeviceKeyFiles) -> tuple[DeviceKey, bool]:
    """The key of this device, made now if there is none; and whether it was made. Its public part stands beside it.

    A key in a token is made by who makes the device: then the public part alone is written.

    Random bytes are OpenSSL's, which waits until the kernel's generator was seeded (getrandom(2)).

    Raises:
        DeviceError: `device.device-key`, `device.device-key-rights`.
    """
    made = False
    if not files.in_token and files.private() is None:
        fresh = Ed25519PrivateKey.generate()
        made = files.keep(fresh.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    key = open_device_key(files)  # as everybody will find it
    files.publish(key.public)
    return key, made


def verifies(public: PublicPart, payload_type: str, payload: bytes, signature: bytes) -> bool:
    """Whether the holder of the key signed this payload as one of this type."""
    key = load_der_public_key(public.der)
    signed = signed_bytes(payload_type, payload)
    try:
        if isinstance(key, Ed25519PublicKey):
            key.verify(signature, signed)
        elif isinstance(key, EllipticCurvePublicKey):
            key.verify(signature, signed, ECDSA(SHA256()))
        else:
            return False
    except InvalidSignature:
        return False
    return True
