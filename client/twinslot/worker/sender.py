"""What a fetching worker tells its engine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from twinslot.core.errors import DeviceError, ImageError
from twinslot.core.manifest import Manifest, parse_manifest
from twinslot.core.notes import Note
from twinslot.core.stream import Base
from twinslot.image.envelope import parse_envelope
from twinslot.image.events import Head
from twinslot.worker.notes import write_note
from twinslot.worker.opener import OpenerLink, RemoteOpener
from twinslot.worker.protocol import (
    ATTACHMENT_NUMBER,
    BASE_PREFIX,
    COST,
    COUNT,
    GROUP_PREFIX,
    LIST_PREFIX,
    TRUST_LENGTH,
    WANT_PREFIX,
    Channel,
    Frame,
    Kind,
    unpack,
)

_BEFORE: Final = (Kind.BASE, Kind.UNLOCK, Kind.ATTACH)  # what may come before the verified manifest
QUIET: Final = 1.0  # seconds between two signs of life while bytes arrive and no part is complete


@dataclass(frozen=True, slots=True)
class Want:
    """What the engine asks for: groups as bits (core/bitset.py), and whether only their cost."""

    groups: bytes
    only_cost: bool


def _no_envelope(_: Manifest) -> bytes:
    raise DeviceError("an image that is not encrypted was to be unlocked", code="worker")


class WorkerSender:
    """Speaks the worker's half of the protocol. What came along, bases and opener, is closed by `close`.

    Args:
        channel: To the engine; the caller keeps it.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._count: Callable[[], int] = lambda: 0
        self._told = time.monotonic()
        self._descriptors: list[int] = []  # of bases
        self._link: OpenerLink | None = None
        self.opener: RemoteOpener | None = None  # of an encrypted image, once it was unlocked
        self.bases: dict[str, Base] = {}
        self.attached: tuple[int, ...] = ()  # numbers of attachments that the engine wants

    def watch(self, count: Callable[[], int]) -> None:
        """Say where the bytes are counted, and give the first sign of life."""
        self._count = count
        self.live()

    def live(self) -> None:
        """A sign of life; also how a worker finds out that nobody waits for it any more."""
        self._channel.send(Kind.FETCHED, COUNT.pack(self._count()))
        self._told = time.monotonic()

    def tick(self) -> None:
        """Bytes arrived, or a pause goes on."""
        if time.monotonic() - self._told > QUIET:
            self.live()

    def head(self, head: Head, image_size: int) -> None:
        """Send the head of an image.

        Args:
            head: As read.
            image_size: Bytes; a longer image is refused by its header. 0: no bound.

        Raises:
            ImageError: `image.limit`.
        """
        if image_size and head.header.total > image_size:
            raise ImageError(
                "the image is larger than this device takes",
                code="limit",
                expected=f"at most {image_size} bytes",
                found=f"{head.header.total} bytes",
            )
        self._channel.send(Kind.HEAD, TRUST_LENGTH.pack(len(head.trust)), head.trust, head.manifest)

    def proceed(self, unlocked: Callable[[Manifest], bytes] = _no_envelope) -> Manifest:
        """Wait until the manifest was verified; collects the bases that come before.

        Args:
            unlocked: Called when the image is encrypted and its envelope is asked for; returns it.
        """
        bases = []
        while (frame := self._channel.receive(*_BEFORE, Kind.PROCEED)).kind is not Kind.PROCEED:
            if frame.kind is Kind.UNLOCK:
                self._unlock(unlocked(parse_manifest(frame.payload)))
                continue
            if frame.kind is Kind.ATTACH:
                self.attached = tuple(number for (number,) in ATTACHMENT_NUMBER.iter_unpack(frame.payload))
                continue
            number, base = self._base(frame)
            bases.append((number, base))
        manifest = parse_manifest(frame.payload)
        for number, base in bases:
            if number >= len(manifest.payloads) or (name := manifest.payloads[number].name) in self.bases:
                raise DeviceError("a base is of no payload of this image", code="worker", found=number)
            self.bases[name] = replace(base, payload=name)
        return manifest

    def _unlock(self, envelope: bytes) -> None:
        """Show the envelope, and take in exchange what opens the units; the key of it stays elsewhere (S22)."""
        self._channel.send(Kind.ENVELOPE, envelope)
        frame = self._channel.receive(Kind.OPENER)
        if frame.descriptor < 0:
            raise DeviceError("an opener came without its descriptor", code="worker")
        if self._link is not None:
            os.close(frame.descriptor)
            raise DeviceError("an image is unlocked twice", code="worker")
        self._link = OpenerLink(frame.descriptor)
        self.opener = RemoteOpener(self._link, parse_envelope(envelope).image_id)

    @property
    def unlocked(self) -> RemoteOpener:
        """What opens the units of an encrypted image."""
        if self.opener is None:
            raise DeviceError("an encrypted image was not unlocked", code="worker")
        return self.opener

    def _base(self, frame: Frame) -> tuple[int, Base]:
        """A base and its payload's number; its descriptor is ours from here on, whatever comes."""
        self._descriptors.append(frame.descriptor)
        number, size, group_size, digest = unpack(BASE_PREFIX, frame.payload)
        if frame.descriptor < 0:
            raise DeviceError("a base came without its descriptor", code="worker")
        return number, Base("", size, group_size, digest.hex(), frame.payload[BASE_PREFIX.size :], frame.descriptor)

    def attachment(self, number: int, data: bytes) -> None:
        """Send the attachment of that number."""
        self._channel.send(Kind.ATTACHMENT, ATTACHMENT_NUMBER.pack(number), data)

    def plain_list(self, number: int, data: bytes, *, waits: bool) -> None:
        """Send the list of the payload of that number."""
        self._channel.send(Kind.LIST, LIST_PREFIX.pack(number, waits), data)

    def group(self, number: int, index: int, data: bytes) -> None:
        """Send a group; empty: it could not be made from what the device holds."""
        self._channel.send(Kind.GROUP, GROUP_PREFIX.pack(number, index, self._count()), data)
        self._told = time.monotonic()

    def want(self) -> Want:
        """Wait for what the engine wants."""
        payload = self._channel.receive(Kind.WANT).payload
        _, flags = unpack(WANT_PREFIX, payload)
        return Want(payload[WANT_PREFIX.size :], bool(flags & 1))

    def note(self, note: Note) -> None:
        """Say what people may want to know."""
        self._channel.send(Kind.NOTE, write_note(note))
        self._told = time.monotonic()

    def cost(self, patch: int, image: int) -> None:
        """Answer what it would cost, in bytes."""
        self._channel.send(Kind.COST, COST.pack(patch, image))

    def end(self) -> None:
        """Everything was sent."""
        self._channel.send(Kind.END, COUNT.pack(self._count()))

    def close(self) -> None:
        """Release the bases and the opener."""
        self.bases = {}
        if self._link is not None:
            self._link.close()
        while self._descriptors:
            if (descriptor := self._descriptors.pop()) >= 0:
                os.close(descriptor)
