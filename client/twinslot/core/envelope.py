"""A statement of a device and its signature in one JSON object: an envelope as DSSE has it. Pure.

What is signed is type and payload together (`core.device_key.signed_bytes`), and the payload has one form
(`core.canonical`). Source: github.com/secure-systems-lab/dsse, envelope.md, version 1.0.2.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from twinslot.core.canonical import encode, parse_document, why_no_json
from twinslot.core.device_key import PublicPart
from twinslot.core.errors import ImageError
from twinslot.core.fields import Fields, form

PAYLOAD_MAX: Final = 4 << 20  # bytes; an attestation with 50 updates and all findings is some 100 kB
SIGNATURE_MAX: Final = 1024  # bytes
_TYPE: Final = form(r"[a-z0-9.+/-]{1,100}", "a media type")
_KEY: Final = form(r"[0-9a-f]{64}", "64 hex digits")
_BASE64: Final = form(r"[A-Za-z0-9+/]*={0,2}", "base64")

Verifies = Callable[[PublicPart, str, bytes, bytes], bool]  # `trust.device_key.verifies`, or one like it


@dataclass(frozen=True, slots=True)
class DeviceStatement:
    """One statement, by one key.

    Attributes:
        kind: Payload type.
        payload: The statement, in its one form.
        key: Fingerprint of the key that is said to have signed it.
        signature: Over type and payload.
    """

    kind: str
    payload: bytes
    key: str
    signature: bytes

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready, as DSSE has it."""
        signature = {"keyid": self.key, "sig": base64.b64encode(self.signature).decode()}
        payload = base64.b64encode(self.payload).decode()
        return {"payload": payload, "payloadType": self.kind, "signatures": [signature]}

    def is_by(self, key: PublicPart, verifies: Verifies) -> bool:
        """Whether this key signed it."""
        return verifies(key, self.kind, self.payload, self.signature)

    def said(self, section: str) -> Mapping[str, Any]:
        """The statement.

        Raises:
            ImageError: `image.<section>`, `image.json`, `image.not-canonical`.
        """
        return parse_document(self.payload, section)


def sign(
    kind: str, statement: Mapping[str, Any], key: PublicPart, signer: Callable[[str, bytes], bytes]
) -> DeviceStatement:
    """Have a statement signed by the holder of a key.

    Args:
        kind: Payload type; what was signed as one kind is never another.
        statement: JSON-ready, whole numbers only.
        key: The public part, which is named.
        signer: `DeviceKey.sign`.
    """
    payload = encode(statement)
    return DeviceStatement(kind, payload, key.fingerprint, signer(kind, payload))


def read_statement(value: object, kind: str, section: str) -> DeviceStatement:
    """A statement of one kind from its envelope; whether the signature is good, `is_by` says.

    Raises:
        ImageError: `image.<section>`: it is no envelope, or of another kind.
    """
    fields = Fields(value, "", ("payload", "payloadType", "signatures"), section, extensible=True)
    found = fields.text("payloadType", _TYPE)
    if found != kind:
        raise fields.bad("payloadType", kind, found)
    (signature, *_) = fields.objects("signatures", 32) or (None,)
    signed = Fields(signature, "signatures.0", ("keyid", "sig"), section, extensible=True)
    payload = _decoded(fields, "payload", PAYLOAD_MAX)
    return DeviceStatement(kind, payload, signed.text("keyid", _KEY), _decoded(signed, "sig", SIGNATURE_MAX))


def loads(data: bytes, section: str) -> object:
    """JSON that need not be in its one form, since nothing of it is signed but what is inside.

    Raises:
        ImageError: `image.json`.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as e:
        raise ImageError(f"the '{section}' is no JSON", code="json", found=why_no_json(e)) from e


def _decoded(fields: Fields, key: str, most: int) -> bytes:
    text = fields.text(key, _BASE64)
    try:
        data = base64.b64decode(text, validate=True) if len(text) <= 2 * most else b""
    except binascii.Error as e:
        raise fields.bad(key, "base64", text) from e
    if not data or len(data) > most:
        raise fields.bad(key, f"1 to {most} bytes in base64", text)
    return data
