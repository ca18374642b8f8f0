"""The decrypting worker: has a key, no network, no device and no file, and parses nothing but fields of fixed length.

Two conversations, each in a process of its own. In the first it gets the private key and an envelope, answers with the
content key, and ends: the private key never meets the units of an image. Of a key in a token it gets the public half,
and asks the engine once for what the token makes of the envelope's one share. In the second it gets the content key,
which opens this one image, and a socket over which the worker that parses and decodes sends units and gets content.
"""

from __future__ import annotations

import socket
from typing import Final

from twinslot.core.errors import DeviceError, ImageError
from twinslot.crypto.units import ContentKey, Units, does_not_open
from twinslot.image.envelope import Cipher
from twinslot.image.units import UnitPlace
from twinslot.worker.protocol import CONTENT, SEALED_PREFIX, Channel, Kind, make_room, unpack

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
        from twinslot.worker import unwrap  # the other process does without, and starts the sooner

        unwrap.answer_with_key(channel, frame)
    else:
        cipher, image_id, key = unpack(CONTENT, frame.payload)
        _serve(frame.descriptor, ContentKey(key, Cipher(cipher), image_id))


def _serve(descriptor: int, content: ContentKey) -> None:
    """Open what comes over the socket until the other end hangs up; a unit that does not open ends nothing."""
    sock = socket.socket(fileno=descriptor)
    make_room(sock)
    channel, files = Channel(sock), dict[bytes, Units]()
    while True:
        frame = channel.receive(Kind.SEALED)
        file_id, packed = unpack(SEALED_PREFIX, frame.payload)
        if file_id not in files:
            if len(files) == FILES:
                raise DeviceError("one image has more files than there are kinds", code="worker")
            files[file_id] = Units(content.key, content.cipher, file_id)
        try:
            channel.send(Kind.UNIT, _opened(files[file_id], packed, frame.content))
        except ImageError as e:
            channel.send_error(e)


def _opened(units: Units, packed: bytes, sealed: memoryview) -> bytes:
    try:
        place = UnitPlace.unpack(packed)
    except ValueError as e:
        raise ImageError("a unit at a place that no image has", code="sealed", found=packed.hex()) from e
    if len(sealed) < 1:
        raise does_not_open(place, 0)
    return units.open(place, sealed)
