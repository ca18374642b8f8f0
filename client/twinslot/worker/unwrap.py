"""The first conversation of a decrypting worker: the private key and an envelope in, the content key out.

Apart from what opens units, which has nothing to do with keys of recipients and need not load what does.
"""

from __future__ import annotations

import os

from twinslot.core.errors import DeviceError
from twinslot.crypto.hpke import ExchangeKey
from twinslot.crypto.keys import KeyFormError, RecipientKey, load_private, load_public, require_point
from twinslot.crypto.recipients import unwrap
from twinslot.image.envelope import Kem, parse_envelope
from twinslot.worker.protocol import CONTENT, KEY_MAX, PUBLIC_PEM, Channel, Frame, Kind


class KeyInToken:
    """A private key that a token has, which the engine asks; implements `hpke.ExchangeKey`.

    Args:
        key: Its public half, on P-256.
        channel: To the engine.
    """

    kem = Kem.P256

    def __init__(self, key: RecipientKey, channel: Channel) -> None:
        self.public, self._channel = key.raw, channel

    # keeps: S22 (the token does one thing for one envelope)
    def exchange(self, other: bytes) -> bytes:
        """See `hpke.ExchangeKey`."""
        require_point(other)
        self._channel.send(Kind.EXCHANGE, other)
        return self._channel.receive(Kind.SHARED).payload


def answer_with_key(channel: Channel, frame: Frame) -> None:
    """Send the content key of an envelope.

    Args:
        channel: To the engine.
        frame: An UNWRAP.

    Raises:
        TwinslotError: `serving` reports it.
    """
    private = _read(channel, frame.descriptor)
    content = unwrap(parse_envelope(frame.payload), private)
    channel.send(Kind.CONTENT_KEY, CONTENT.pack(content.cipher, content.image_id, content.key))


def _read(channel: Channel, descriptor: int) -> ExchangeKey:
    """The key of that descriptor, which is closed."""
    try:
        pem = os.read(descriptor, KEY_MAX)
    except OSError as e:
        raise DeviceError("the decryption key cannot be read", code="decryption-key", found=e.strerror) from e
    finally:
        os.close(descriptor)
    try:
        return _key(pem, channel)
    except KeyFormError as e:
        expected, hint = "an X25519 or P-256 key in PEM, without a passphrase", "see '[decryption] key'"
        raise DeviceError(
            "the decryption key cannot be used", code="decryption-key", expected=expected, found=e.what, hint=hint
        ) from e


def _key(pem: bytes, channel: Channel) -> ExchangeKey:
    """What opens the envelope.

    Raises:
        KeyFormError: Neither a private key nor a public one whose private half a token can have.
    """
    if not pem.startswith(PUBLIC_PEM):
        return load_private(pem)
    key = load_public(pem)
    if key.kem is not Kem.P256:
        raise KeyFormError("a public key of another kind than P-256")
    return KeyInToken(key, channel)
