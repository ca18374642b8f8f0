"""The engine's end of the workers: an `ImageStream`, and one question to the trust process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from twinslot.bundle.verdict import TrustRequest, Verdict, decode_verdict, encode_request
from twinslot.core.errors import BundleError, DeviceError
from twinslot.core.manifest import Manifest, Payload
from twinslot.transport.base import GroupPart, ImageHead, ListPart, Part
from twinslot.worker.frames import COUNT, GROUP_PREFIX, LIST_PREFIX, TRUST_LENGTH, Frame, Kind
from twinslot.worker.launch import Worker


class WorkerStream:
    """Implements `transport.base.ImageStream` on a fetching worker. Owns the worker.

    Args:
        worker: Fresh.
        request: `limits`, and `url` with `http` settings unless a descriptor is given.
        descriptor: Open file or pipe to read from; the caller keeps its own copy. -1: the URL.
    """

    def __init__(self, worker: Worker, request: Mapping[str, Any], descriptor: int = -1) -> None:
        self._worker = worker
        self._manifest = b""
        self.fetched = 0
        worker.channel.send(Kind.OPEN, json.dumps(dict(request)).encode(), descriptor=descriptor)

    def head(self) -> ImageHead:
        """Wait for the head; see `ImageStream`."""
        payload = self._worker.channel.receive(Kind.HEAD).payload
        length = TRUST_LENGTH.unpack_from(payload)[0] if len(payload) >= TRUST_LENGTH.size else -1
        if not 0 <= length <= len(payload) - TRUST_LENGTH.size:
            raise DeviceError("the worker sent no head", code="worker")
        body = payload[TRUST_LENGTH.size :]
        self._manifest = body[length:]
        return ImageHead(body[:length], self._manifest)

    def parts(self, manifest: Manifest) -> Iterator[Part]:
        """Lists and groups; see `ImageStream`."""
        self._worker.channel.send(Kind.PROCEED, self._manifest)
        while (frame := self._worker.channel.receive(Kind.LIST, Kind.GROUP, Kind.END)).kind is not Kind.END:
            yield self._part(frame, manifest)
        self.fetched = COUNT.unpack(frame.payload)[0]

    def close(self) -> None:
        """End the worker; see `ImageStream`."""
        self._worker.close()

    def _part(self, frame: Frame, manifest: Manifest) -> Part:
        prefix = LIST_PREFIX if frame.kind is Kind.LIST else GROUP_PREFIX
        if len(frame.payload) < prefix.size:
            raise DeviceError("the worker sent half a part", code="worker")
        numbers = prefix.unpack_from(frame.payload)
        payload = _payload(manifest, numbers[0])
        if frame.kind is Kind.LIST:
            return ListPart(payload.name, frame.payload[prefix.size :])
        self.fetched = numbers[2]
        return GroupPart(payload.name, numbers[1], frame.payload[prefix.size :])


def verify_in_worker(get: Callable[[], Worker], request: TrustRequest) -> Verdict:
    """Ask a fresh verifying worker.

    Raises:
        BundleError: The documents are malformed.
        RefusedError: They are not trusted, with every reason.
        TransportError: The worker died.
    """
    worker = get()
    try:
        worker.channel.send(Kind.REQUEST, encode_request(request))
        return decode_verdict(worker.channel.receive(Kind.VERDICT).payload)
    finally:
        worker.close()


def _payload(manifest: Manifest, number: int) -> Payload:
    if number >= len(manifest.payloads):
        raise BundleError("the image holds a payload that its manifest does not name", code="order", found=number)
    return manifest.payloads[number]
