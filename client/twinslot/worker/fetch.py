"""The fetching worker: source in, parsed and decoded parts out. Runs without privileges and without block devices.

It may be taken over by a hostile image and still do no harm: the engine has the manifest verified elsewhere, and the
writer checks every digest again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

from twinslot.bundle.events import Event, Group, Head, PlainList
from twinslot.bundle.reader import Limits, Reader
from twinslot.core.errors import BundleError, TransportError, TwinslotError
from twinslot.core.manifest import Manifest, parse_manifest
from twinslot.transport.file import read_descriptor
from twinslot.transport.http import HttpSettings, HttpSource
from twinslot.worker.frames import COUNT, GROUP_PREFIX, LIST_PREFIX, TRUST_LENGTH, Channel, Kind


def serve(channel: Channel) -> None:
    """One image: wait for OPEN, send HEAD, wait for PROCEED, send everything, END. Errors go to the engine."""
    descriptor = -1
    try:
        opened = channel.receive(Kind.OPEN)
        descriptor = opened.descriptor
        _Fetcher(channel, json.loads(opened.payload), descriptor).run()
    except TransportError as e:
        if e.code != "transport.worker-gone":  # then nobody listens any more
            channel.send_error(e)
    except TwinslotError as e:
        channel.send_error(e)
    except MemoryError:
        channel.send_error(BundleError("the image needs more memory than a worker may have", code="memory"))
    finally:
        if descriptor >= 0:
            os.close(descriptor)


class _Fetcher:
    def __init__(self, channel: Channel, request: dict[str, Any], descriptor: int) -> None:
        self._channel = channel
        self._reader = Reader(Limits(**request["limits"]))
        self._chunks = _source(request, descriptor)
        self._manifest: Manifest | None = None
        self._fetched = 0

    def run(self) -> None:
        """From the first byte to the end."""
        for chunk in self._chunks:
            self._fetched += len(chunk)
            self._handle(self._reader.feed(chunk))
        self._reader.close()
        self._channel.send(Kind.END, COUNT.pack(self._fetched))

    def _handle(self, events: Iterator[Event]) -> None:
        for event in events:
            if isinstance(event, Head):
                self._send_head(event)
                list(events)  # the reader waits here for `proceed`
                self._handle(self._reader.proceed(self._proceed()))
                return
            if isinstance(event, PlainList):
                self._channel.send(Kind.LIST, LIST_PREFIX.pack(self._number(event.payload.name)), event.data)
            elif isinstance(event, Group):
                number = self._number(event.payload.name)
                prefix = GROUP_PREFIX.pack(number, event.index, self._fetched)
                self._channel.send(Kind.GROUP, prefix, event.data)

    def _send_head(self, head: Head) -> None:
        self._channel.send(Kind.HEAD, TRUST_LENGTH.pack(len(head.trust)), head.trust, head.manifest)

    def _proceed(self) -> Manifest:
        self._manifest = parse_manifest(self._channel.receive(Kind.PROCEED).payload)
        return self._manifest

    def _number(self, name: str) -> int:
        assert self._manifest is not None
        return [payload.name for payload in self._manifest.payloads].index(name)


def _source(request: dict[str, Any], descriptor: int) -> Iterator[bytes]:
    if descriptor >= 0:
        return read_descriptor(descriptor)
    return HttpSource(request["url"], HttpSettings(**request["http"])).chunks()
