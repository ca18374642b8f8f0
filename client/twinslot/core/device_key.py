"""The public part of a device's own key, and the bytes that the key signs. Pure.

A signature is never over the payload alone but over payload type and payload together, as the pre-authentication
encoding of DSSE says (github.com/secure-systems-lab/dsse, protocol.md, version 1). So what was signed as a row of the
audit can never be shown as a report, and tools for in-toto and DSSE verify it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Final, Self

from twinslot.core.errors import DeviceError

PEM_MAX: Final = 4096  # bytes; a public key of these kinds takes less than 200
# Text before and behind the boundaries, and lines of CR LF, may stand there: RFC 7468, section 2.
_BEGIN, _END = b"-----BEGIN PUBLIC KEY-----", b"-----END PUBLIC KEY-----"
_PEM: Final = re.compile(b"^" + _BEGIN + rb"\r?\n([A-Za-z0-9+/=\r\n]{1,1000})" + _END, re.MULTILINE)
# How a SubjectPublicKeyInfo of each kind begins, and how long it is: RFC 8410, section 4; RFC 5480, section 2.
_KINDS: Final = (
    ("ed25519", bytes.fromhex("302a300506032b6570032100"), 44),
    ("ecdsa-p256", bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004"), 91),
)
ED25519, P256 = (name for name, _, _ in _KINDS)


@dataclass(frozen=True, slots=True)
class PublicPart:
    """What others may know of a device key.

    Attributes:
        der: SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7).
        algorithm: `ed25519` (RFC 8032) or `ecdsa-p256` (with SHA-256; signatures in DER, as RFC 3279 has them).
    """

    der: bytes
    algorithm: str

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Read a file that holds one public key, and perhaps text around it, as `openssl pkey -text_pub` writes it.

        Raises:
            DeviceError: `device.device-key`: it is no public key of a kind that device keys are of, or several.
        """
        match = _PEM.search(pem) if len(pem) <= PEM_MAX and pem.count(_BEGIN) == 1 else None
        try:
            der = base64.b64decode(b"".join(match[1].split()), validate=True) if match else b""
        except binascii.Error:
            der = b""
        return cls.from_der(der)

    @classmethod
    def from_der(cls, der: bytes) -> Self:
        """As `from_pem`, from the bytes inside."""
        for algorithm, beginning, length in _KINDS:
            if der.startswith(beginning) and len(der) == length:
                return cls(der, algorithm)
        raise DeviceError(
            "the public part of the device key is damaged or of another kind",
            code="device-key",
            expected=" or ".join(name for name, _, _ in _KINDS),
            found=f"{len(der)} bytes of another kind" if der else "no public key in PEM",
            hint="'twinslot device-key init' writes it anew from the key",
        )

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the SubjectPublicKeyInfo, 64 hex digits: `openssl pkey -pubin -outform der | sha256sum`."""
        return hashlib.sha256(self.der).hexdigest()

    @property
    def pem(self) -> str:
        """As `openssl pkey -pubin` reads it."""
        return pem_of(self.der)

    def as_dict(self) -> dict[str, str]:
        """JSON-ready."""
        return {"algorithm": self.algorithm, "fingerprint": self.fingerprint, "public": self.pem}


def pem_of(der: bytes) -> str:
    """A SubjectPublicKeyInfo as `openssl pkey -pubin` reads it."""
    text = base64.b64encode(der).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join(["-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""])


def signed_bytes(payload_type: str, payload: bytes) -> bytes:
    """What a device key signs for this payload: DSSE's pre-authentication encoding (PAE).

    Args:
        payload_type: What the payload is, for example `application/vnd.twinslot.report+json`; never empty.
        payload: Any bytes.
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
