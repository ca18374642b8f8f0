"""The content key of an image, wrapped for each recipient (docs/image-format.md section 11.1)."""

from __future__ import annotations

from typing import Final

from twinslot.core.errors import ImageError, Refusal, RefusedError
from twinslot.crypto import hpke
from twinslot.crypto.keys import RecipientKey, make_private
from twinslot.crypto.units import ContentKey
from twinslot.image.envelope import Cipher, Envelope, Recipient

_INFO: Final = b"twinslot content key 1"


def wrap(content: ContentKey, recipient: RecipientKey) -> Recipient:
    """The content key for one recipient.

    Raises:
        ValueError: The public key is of small order.
    """
    ephemeral = make_private(recipient.kem)
    about = _about(content.cipher, content.image_id)
    encapsulated, wrapped = hpke.seal(ephemeral, recipient.raw, _INFO, about, content.key)
    return Recipient(recipient.kem, recipient.key_id, encapsulated, wrapped)


def unwrap(envelope: Envelope, private: hpke.ExchangeKey) -> ContentKey:
    """The content key, for who has this private key.

    Raises:
        RefusedError: `refused.recipient`: the image is for others.
        ImageError: `image.recipient`: it is for this key, and what was sealed for it is damaged.
    """
    key_id = RecipientKey(private.kem, private.public).key_id
    found = next((each for each in envelope.recipients if each.key_id == key_id), None)
    if found is None or found.kem is not private.kem:
        raise _for_others(envelope, key_id)
    try:
        about = _about(envelope.cipher, envelope.image_id)
        key = hpke.unseal(private, found.encapsulated, _INFO, about, found.wrapped)
    except hpke.HpkeError as e:
        raise ImageError(
            "the content key in the image does not open with the key that it is for",
            code="recipient",
            expected=f"what was wrapped for recipient {key_id.hex()[:16]}",
            found="damaged bytes",
            hint="fetch the image again",
        ) from e
    return ContentKey(key, envelope.cipher, envelope.image_id)


def _about(cipher: Cipher, image_id: bytes) -> bytes:
    """The rest of the envelope, so that a wrapped key stands in no other one."""
    return bytes([cipher]) + image_id


def _for_others(envelope: Envelope, key_id: bytes) -> RefusedError:
    ids = ", ".join(each.key_id.hex()[:16] for each in envelope.recipients[:8])
    more = len(envelope.recipients) - 8
    return RefusedError(
        Refusal(
            "recipient",
            "the image is encrypted for other keys than this one",
            ids + (f" and {more} more" if more > 0 else ""),
            key_id.hex()[:16],
            "ask the maker for an image that is encrypted for this key",
        )
    )
