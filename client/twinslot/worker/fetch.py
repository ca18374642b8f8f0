"""The fetching worker: source in, parsed and decoded parts out. Runs without privileges and without block devices.

It may be taken over by a hostile image and still do no harm: the engine has the manifest verified elsewhere, and the
writer checks every digest again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

from twinslot.bundle.events import Event, Group, Head, PlainList
from twinslot.bundle.reader import Limits, Reader
from twinslot.core.errors import BundleError, DeviceError
from twinslot.core.manifest import Manifest, parse_manifest
from twinslot.transport.file import DescriptorSource
from twinslot.worker.frames import COUNT, GROUP_PREFIX, LIST_PREFIX, TRUST_LENGTH, Channel, Kind

QUIET: Final = 1.0  # seconds between two signs of life while bytes arrive and no part is complete


class Source(Protocol):
    """Where the bytes of an image come from."""

    def chunks(self) -> Iterator[bytes]:
        """The bytes in order, to the end; an empty chunk says that there is nothing new, but life."""
        ...

    def explain(self, error: BundleError) -> BundleError:
        """The error, or a better explanation for it that only the source knows."""
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """What OPEN asks for.

    Attributes:
        limits: The reader's.
        image_size: Bytes; a longer image is refused by its header.
        source: The bytes.
    """

    limits: Limits
    image_size: int
    source: Source


def answer(channel: Channel) -> None:
    """One image: wait for OPEN, send HEAD, wait for PROCEED, send everything, END.

    Raises:
        TwinslotError: What is wrong with image, source or request; `serving` reports it.
    """
    opened = channel.receive(Kind.OPEN)
    try:
        _Fetcher(channel, read_request(opened.payload, opened.descriptor)).run()
    finally:
        if opened.descriptor >= 0:
            os.close(opened.descriptor)


def read_request(payload: bytes, descriptor: int) -> Request:
    """The request that an OPEN frame carries.

    Raises:
        DeviceError: `device.worker`: not one of ours.
        TransportError: `transport.url`: not an address.
    """
    try:
        fields = json.loads(payload)
        limits = dict(fields["limits"])
        image_size = int(limits.pop("image_size", 0))
        return Request(Limits(**limits), image_size, _source(fields, descriptor))
    except (ValueError, KeyError, TypeError, RecursionError) as e:
        raise DeviceError("the request to the worker cannot be read", code="worker", found=e) from e


def _source(fields: dict[str, Any], descriptor: int) -> Source:
    if descriptor >= 0:
        return DescriptorSource(descriptor)
    from twinslot.transport.http import HttpSettings, HttpSource  # costs memory that a file does not need

    return HttpSource(str(fields["url"]), HttpSettings(**fields["http"]))


class _Fetcher:
    def __init__(self, channel: Channel, request: Request) -> None:
        self._channel, self._request = channel, request
        self._reader = Reader(request.limits)
        self._numbers: dict[str, int] = {}  # payload name -> its place in the manifest
        self._fetched = 0
        self._told = time.monotonic()

    def run(self) -> None:
        """From the first byte to the end."""
        self._tell()
        try:
            for chunk in self._request.source.chunks():
                self._fetched += len(chunk)
                if chunk:
                    self._handle(self._reader.feed(chunk))
                if not chunk or time.monotonic() - self._told > QUIET:
                    self._tell()
            self._reader.close()
        except BundleError as e:
            raise self._request.source.explain(e) from e
        self._channel.send(Kind.END, COUNT.pack(self._fetched))

    def _tell(self) -> None:
        """A sign of life; also how a worker finds out that nobody waits for it any more."""
        self._channel.send(Kind.FETCHED, COUNT.pack(self._fetched))
        self._told = time.monotonic()

    def _handle(self, events: Iterator[Event]) -> None:
        for event in events:
            if isinstance(event, Head):
                self._send_head(event)
                list(events)  # the reader waits here for `proceed`
                self._handle(self._reader.proceed(self._proceed()))
                return
            if isinstance(event, PlainList):
                self._channel.send(Kind.LIST, LIST_PREFIX.pack(self._numbers[event.payload.name]), event.data)
            elif isinstance(event, Group):
                prefix = GROUP_PREFIX.pack(self._numbers[event.payload.name], event.index, self._fetched)
                self._channel.send(Kind.GROUP, prefix, event.data)
                self._told = time.monotonic()

    def _send_head(self, head: Head) -> None:
        limit = self._request.image_size
        if limit and head.header.total > limit:
            raise BundleError(
                "the image is larger than this device takes",
                code="limit",
                expected=f"at most {limit} bytes",
                found=f"{head.header.total} bytes",
            )
        self._channel.send(Kind.HEAD, TRUST_LENGTH.pack(len(head.trust)), head.trust, head.manifest)

    def _proceed(self) -> Manifest:
        manifest = parse_manifest(self._channel.receive(Kind.PROCEED).payload)
        self._numbers = {payload.name: number for number, payload in enumerate(manifest.payloads)}
        return manifest
