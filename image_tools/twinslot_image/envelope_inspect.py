"""What the envelope of an encrypted image says, and the front of a file beside it, for people and for programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from twinslot.core.errors import ImageError
from twinslot.crypto.keys import KINDS
from twinslot.image.envelope import Envelope
from twinslot.image.sealed_file import SEALED_HEADER_SIZE, SEALED_MAGIC, parse_sealed_head
from twinslot_image.description import cipher_name
from twinslot_image.progress import size_text

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


def is_sealed(path: Path) -> bool:
    """Whether a file is the patch or block list of an encrypted image, by its first bytes."""
    with path.open("rb") as file:
        return file.read(len(SEALED_MAGIC)) == SEALED_MAGIC


def describe_sealed(path: Path) -> dict[str, Any]:
    """A sealed file as JSON-ready data, sizes in bytes; what is in it takes the key of the image.

    Raises:
        ImageError: `image.sealed-file`, or `image.length`: it is cut off.
    """
    with path.open("rb") as file:
        head, size = parse_sealed_head(file.read(SEALED_HEADER_SIZE)), path.stat().st_size
    if size != head.total:
        raise ImageError("the length of the sealed file", code="length", expected=head.total, found=size)
    return {"size": size, "content_size": head.size, "file_id": head.file_id.hex()}


def render_sealed(data: dict[str, Any]) -> list[str]:
    """The same for people."""
    return [f"a patch or block list of {size_text(data['content_size'])}, sealed for the recipients of its image"]
