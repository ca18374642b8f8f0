"""The fetching worker: source in, parsed and decoded parts out. Runs without privileges and without block devices.

It may be taken over by a hostile image and still do no harm: the engine has the manifest verified elsewhere, and the
writer checks every digest again.

A source that can seek (a regular file, a server with ranges) is asked for what the engine wants (range_server.py);
every other one is read front to back (sequential.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from twinslot.core.errors import DeviceError, ImageError, TransportError
from twinslot.core.manifest import Manifest
from twinslot.image.reader import Limits
from twinslot.image.wire import HEADER_SIZE
from twinslot.system.priority import lower_priority
from twinslot.transport.file import DescriptorSource, FileRanges, can_seek
from twinslot.transport.http.options import HttpSettings
from twinslot.worker.protocol import Channel, Kind
from twinslot.worker.range_server import Beside, RangeServer
from twinslot.worker.seekable import ONLY_WHOLE, Refusals, SeekableImage
from twinslot.worker.sender import WorkerSender
from twinslot.worker.sequential import SequentialImage

if TYPE_CHECKING:
    from twinslot.transport.http.dial import Dialing
    from twinslot.transport.http.ranges import RangeSource
    from twinslot.worker.sources.blocklist_file import Blocks
    from twinslot.worker.sources.patch import Patches
    from twinslot.worker.sources.sidecar import Search


@dataclass(frozen=True, slots=True)
class DeltaRequest:
    """What the device's policy says of fetching less; from the configuration's `[delta]`.

    Attributes:
        patches: Look for a patch or a block list beside the image.
        budget: Bytes that an update may fetch; 0: no bound.
    """

    patches: bool = False
    budget: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """What OPEN asks for.

    Attributes:
        limits: The reader's.
        image_size: Bytes; a longer image is refused by its header.
        url: Where the image is; empty: behind the descriptor.
        http: Settings for it.
        descriptor: Of the image, or of the way to the relay (relay.py), which makes the connections to servers.
        delta: Policy.
        nice: CPU priority.
    """

    limits: Limits
    image_size: int
    url: str
    http: HttpSettings
    descriptor: int
    delta: DeltaRequest = field(default_factory=DeltaRequest)
    nice: int = 0


def answer(channel: Channel, *, addresses: bool = True) -> None:
    """One image: wait for OPEN, send HEAD, wait for PROCEED, send what is wanted, END. Or small files, for FILE.

    Args:
        channel: To the engine.
        addresses: Whether an address may be asked for; without, the source is the descriptor that comes along.

    Raises:
        TwinslotError: What is wrong with image, source or request; `serving` reports it.
    """
    opened = channel.receive(*((Kind.OPEN, Kind.FILE) if addresses else (Kind.OPEN,)))
    if opened.kind is Kind.FILE:
        from twinslot.worker.small_files import serve_small_files  # costs memory that an image does not need

        with _way_of(opened.descriptor) as dialing:
            serve_small_files(channel, opened.payload, dialing)
        return
    sender = WorkerSender(channel)
    try:
        request = read_request(opened.payload, opened.descriptor)
        if request.url and not addresses:
            raise DeviceError("this worker has no network", code="worker", found="a request for an address")
        lower_priority(request.nice)
        _serve(sender, request)
    finally:
        sender.close()
        if opened.descriptor >= 0:
            os.close(opened.descriptor)


def read_request(payload: bytes, descriptor: int) -> Request:
    """The request that an OPEN frame carries.

    Raises:
        DeviceError: `device.worker`: not one of ours.
    """
    try:
        fields = json.loads(payload)
        limits = dict(fields["limits"])
        image_size = int(limits.pop("image_size", 0))
        delta, nice = DeltaRequest(**fields.get("delta", {})), int(fields.get("nice", 0))
        if "url" not in fields:
            return Request(Limits(**limits), image_size, "", HttpSettings(), descriptor, delta, nice)
        if not isinstance(url := fields["url"], str):
            raise TypeError(f"'url' is a {type(url).__name__}")
        http = HttpSettings.from_dict(fields["http"])
        return Request(Limits(**limits), image_size, url, http, descriptor, delta, nice)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        hint = "client and worker must be of one version; restart the service after an upgrade"
        raise DeviceError("the request to the worker has unknown or missing words", code="worker", hint=hint) from e


def _serve(sender: WorkerSender, request: Request) -> None:
    if request.descriptor < 0:
        raise DeviceError("the request to the worker has neither image nor relay", code="worker", found="no descriptor")
    if request.url:
        with _way_of(os.dup(request.descriptor)) as dialing:
            _serve_url(sender, request, dialing)
    elif can_seek(request.descriptor):
        _serve_file(sender, request)
    else:
        source = DescriptorSource(request.descriptor)
        SequentialImage(sender, request.limits, request.image_size, source).run()


def _serve_file(sender: WorkerSender, request: Request) -> None:
    source = FileRanges(request.descriptor, sender.tick)
    image = SeekableImage(source, request.limits)
    try:
        RangeServer(sender, image, request.image_size).run()
    except ImageError as e:
        raise source.explain(e) from e


@contextlib.contextmanager
def _way_of(descriptor: int) -> Iterator[Dialing]:
    """What makes connections, by asking the relay; owns the descriptor of the way to it.

    Raises:
        DeviceError: `device.worker`: there is none.
    """
    from twinslot.worker.relayed import RelayClient  # costs memory that a file does not need

    if descriptor < 0:
        raise DeviceError("the request to the worker has no way to a relay", code="worker", found="no descriptor")
    with socket.socket(fileno=descriptor) as way:
        yield RelayClient(way).dialer


def _serve_url(sender: WorkerSender, request: Request, dialing: Dialing) -> None:
    from twinslot.transport.http.ranges import RangeSource, RangesRefused  # costs memory that a file does not need

    source = RangeSource(request.url, request.http, tick=sender.tick, note=sender.note, dialing=dialing)
    image = SeekableImage(source, request.limits, Refusals(RangesRefused))
    try:
        RangeServer(sender, image, request.image_size, request.delta.budget, _beside(sender, request, source)).run()
    except RangesRefused as e:  # at the first request: later ones the image deals with
        before = image.fetched
        sender.note(ONLY_WHOLE)
        e.source.expect(HEADER_SIZE)
        SequentialImage(sender, request.limits, request.image_size, e.source, before).run()
    except ImageError as e:
        if not source.loose:
            raise
        raise TransportError(
            "the machines behind the server's name do not hold the same image",
            code="changed",
            found=e,
            hint="install again once the image has reached all of them",
        ) from e
    finally:
        source.close()


def _beside(sender: WorkerSender, request: Request, image: RangeSource) -> Beside:
    """How files beside the image are looked for, once it is known which bases the device has."""

    def search() -> Search:
        from twinslot.worker.sources.sidecar import Search

        return Search(request.url, request.http, sender.bases, sender.tick, sender.note, image, sender.opener)

    def patches(manifest: Manifest) -> Patches | None:
        if not sender.bases:
            return None
        from twinslot.worker.sources.patch import find_patches

        return find_patches(search(), manifest)

    def blocks(manifest: Manifest) -> Blocks | None:
        if not sender.bases:
            return None
        from twinslot.worker.sources.blocklist_file import find_blocks

        return find_blocks(search(), manifest)

    return Beside(patches, blocks) if request.delta.patches else Beside()
