"""What the envelope of an encrypted image says, for people and for programs."""

from __future__ import annotations

from typing import Any, Final

from twinslot.image.envelope import Envelope, Kem
from twinslot_image.description import cipher_name

KINDS: Final = {"x25519": Kem.X25519, "p256": Kem.P256}
SHOWN: Final = 16  # digits of a key id in what people read and type


def describe_envelope(envelope: Envelope) -> dict[str, Any]:
    """Who can open an image, as JSON-ready data."""
    names = {kem: name for name, kem in KINDS.items()}
    recipients = [{"key": each.key_id.hex(), "kind": names[each.kem]} for each in envelope.recipients]
    return {"cipher": cipher_name(envelope.cipher), "image_id": envelope.image_id.hex(), "recipients": recipients}


def render_envelope(data: dict[str, Any]) -> list[str]:
    """The same for people."""
    count = len(data["recipients"])
    lines = [f"encrypted with {data['cipher']} for {count} {'recipient' if count == 1 else 'recipients'}"]
    return lines + [f"  {each['key'][:SHOWN]}  {each['kind']}" for each in data["recipients"]]
