"""The decrypting worker: has a key, no network, no device and no file, and parses nothing but fields of fixed length.

Two conversations, each in a process of its own. In the first it gets the private key and an envelope, answers with the
content key, and ends: the private key never meets the units of an image. Of a key in a token it gets the public half,
and asks the engine once for what the token makes of the envelope's one share. In the second it gets the content key,
which opens this one image, and a socket over which the worker that parses and decodes sends units and gets content.
"""

from __future__ import annotations

import os
import socket
from typing import Final

from twinslot.core.errors import DeviceError, ImageError
from twinslot.crypto.hpke import ExchangeKey
from twinslot.crypto.keys import KeyFormError, RecipientKey, load_private, load_public, require_point
from twinslot.crypto.recipients import ContentKey, unwrap
from twinslot.crypto.units import Units, does_not_open
from twinslot.image.envelope import Cipher, Kem, parse_envelope
from twinslot.image.units import UnitPlace
from twinslot.worker.protocol import CONTENT, SEALED_PREFIX, Channel, Frame, Kind, make_room, unpack
from twinslot.worker.unlock import KEY_MAX, PUBLIC_PEM

FILES: Final = 8  # of one update: the image, a patch and a block list


# keeps: S22 (in a process of its own)
def answer(channel: Channel) -> None:
    """One conversation.

    Raises:
        TwinslotError: `serving` reports it.
    """
    frame = channel.receive(Kind.UNWRAP, Kind.SERVE)
    if frame.descriptor < 0:
        raise DeviceError("the request came without its descriptor", code="worker")
    if frame.kind is Kind.UNWRAP:
        content = _unwrapped(channel, frame)
        channel.send(Kind.CONTENT_KEY, CONTENT.pack(content.cipher, content.image_id, content.key))
    else:
        cipher, image_id, key = unpack(CONTENT, frame.payload)
        _serve(frame.descriptor, ContentKey(key, Cipher(cipher), image_id))


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


def _unwrapped(channel: Channel, frame: Frame) -> ContentKey:
    try:
        pem = os.read(frame.descriptor, KEY_MAX)
    except OSError as e:
        raise DeviceError("the decryption key cannot be read", code="decryption-key", found=e.strerror) from e
    finally:
        os.close(frame.descriptor)
    try:
        private = _key(pem, channel)
    except KeyFormError as e:
        expected, hint = "an X25519 or P-256 key in PEM, without a passphrase", "see '[decryption] key'"
        raise DeviceError(
            "the decryption key cannot be used", code="decryption-key", expected=expected, found=e.what, hint=hint
        ) from e
    return unwrap(parse_envelope(frame.payload), private)


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


def _serve(descriptor: int, content: ContentKey) -> None:
    """Open what comes over the socket until the other end hangs up; a unit that does not open ends nothing."""
    sock = socket.socket(fileno=descriptor)
    make_room(sock)
    channel, files = Channel(sock), dict[bytes, Units]()
    while True:
        payload = channel.receive(Kind.SEALED).payload
        file_id, packed = unpack(SEALED_PREFIX, payload)
        if file_id not in files:
            if len(files) == FILES:
                raise DeviceError("one image has more files than there are kinds", code="worker")
            files[file_id] = Units(content.key, content.cipher, file_id)
        try:
            channel.send(Kind.UNIT, _opened(files[file_id], packed, payload[SEALED_PREFIX.size :]))
        except ImageError as e:
            channel.send_error(e)


def _opened(units: Units, packed: bytes, sealed: bytes) -> bytes:
    try:
        place = UnitPlace.unpack(packed)
    except ValueError as e:
        raise ImageError("a unit at a place that no image has", code="sealed", found=packed.hex()) from e
    if len(sealed) < 1:
        raise does_not_open(place, 0)
    return units.open(place, sealed)
