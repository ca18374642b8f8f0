"""The engine's end of the workers: an `ImageStream`, and one question to the trust process.

Nothing that a worker says is believed: frames are bounded and in order here, digests are checked by the writer.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from twinslot.core.bounds import MANIFEST_MAX, TRUST_MAX
from twinslot.core.errors import DeviceError, ImageError, TransportError, TwinslotError
from twinslot.core.manifest import ENCRYPTION, Attachment, Manifest, Payload
from twinslot.core.notes import Note, Unused
from twinslot.core.stream import AttachmentPart, Base, Cost, GroupPart, ImageHead, ListPart, Part
from twinslot.transport.budget import check_budget
from twinslot.trust.verdict import TrustRequest, Verdict, decode_verdict, encode_request
from twinslot.worker.error_codec import read_error
from twinslot.worker.launch import Worker
from twinslot.worker.liveness import StallDetector
from twinslot.worker.notes import read_note
from twinslot.worker.protocol import (
    ATTACHMENT_NUMBER,
    BASE_PREFIX,
    COST,
    COUNT,
    FIT,
    GONE,
    GROUP_PREFIX,
    LIST_PREFIX,
    TRUST_LENGTH,
    WANT_PREFIX,
    Frame,
    Kind,
    unpack,
)
from twinslot.worker.unlock import NO_KEY, Decryption
from twinslot.worker.way import for_the_worker, relay_for

START: Final = 120.0  # seconds until a worker speaks, and for a verdict: importing tuf takes many on a slow core
STALL: Final = 600.0  # seconds; a source that waits says so every ten, so this is a medium that hangs
FETCHED_MAX: Final = 2**63 - 1  # bytes; what the record can hold (SQLite's INTEGER)
PIPE: Final = 3600.0  # seconds; whoever pours a pipe may pause as long, but the lock is not held for ever
UNUSED_MAX: Final = 16  # notes of one download: a patch, a block list, ranges
_SEALED_WORD: Final = f'"{ENCRYPTION}"'.encode()  # in the manifest of each encrypted image
HOPS: Final = 6  # the first address and five redirects
ADDRESSES: Final = 8  # of one server, each tried for a connect timeout


class WorkerStream:
    """Implements `core.stream.ImageStream` on a fetching worker. Owns the worker, from the first moment.

    Args:
        worker: Fresh.
        relay: Makes the connections of a worker with a URL; owned, too (`open_remote`).
        request: `limits` (`group_size`, `image_size` in bytes), and unless a descriptor is given `url`, `http` settings
            and `delta`, whose `budget` is held against whatever the worker says that it fetched.
        descriptor: Open file or pipe to read from; the caller keeps its own copy. -1: the URL.
        source: See `ImageStream`.
        decryption: How an encrypted image is opened.

    Raises:
        TransportError: The worker died at once.
    """

    def __init__(
        self,
        worker: Worker,
        request: Mapping[str, Any],
        descriptor: int = -1,
        source: str = "",
        decryption: Decryption = NO_KEY,
        relay: Worker | None = None,
    ) -> None:
        self._worker, self._relay = worker, relay
        self._decryption = decryption
        self._opening: Worker | None = None
        self._ready: list[Worker] = []  # started ahead for an encrypted image
        self.source = source
        self._manifest = b""
        self._fetched = 0
        self._unused: list[Unused] = []
        self._listener: Callable[[Note], None] = lambda _: None
        self._attach: tuple[str, ...] = ()
        self._numbers: dict[str, int] = {}  # payload name -> its place in the manifest
        self.remote = "url" in request
        self._budget = int(request.get("delta", {}).get("budget", 0)) if self.remote else 0
        self._silence = _silence(request) if self.remote else STALL
        self._stall = _stall(request) if self.remote else StallDetector(PIPE, 0)
        worker.channel.silence = START
        try:
            worker.send(Kind.OPEN, json.dumps(dict(request)).encode(), descriptor=descriptor)
        except BaseException:
            worker.close()
            raise

    @property
    def fetched(self) -> int:
        """Bytes read from the source so far, as the worker says."""
        return self._fetched

    @property
    def unused(self) -> tuple[Unused, ...]:
        """What would have saved a part of the download, and why it did not."""
        return tuple(self._unused)

    def listen(self, listener: Callable[[Note], None]) -> None:
        """Who is told of notes as they come; see `ImageStream`."""
        self._listener = listener

    def head(self) -> ImageHead:
        """Wait for the head; see `ImageStream`."""
        payload = self._receive(Kind.HEAD).payload
        (length,) = unpack(TRUST_LENGTH, payload)
        trust, manifest = payload[TRUST_LENGTH.size :][:length], payload[TRUST_LENGTH.size + length :]
        if len(trust) != length or length > TRUST_MAX or len(manifest) > MANIFEST_MAX:
            found = f"{length} and {len(manifest)} bytes"
            raise DeviceError("the worker sent no head of an image", code="worker", found=found)
        self._manifest = manifest
        return ImageHead(trust, manifest)

    def foresee(self) -> None:
        """Start the decrypting workers by an unverified word, which costs two idle processes if it lies."""
        if _SEALED_WORD in self._manifest and self._decryption.key:
            self._ready = self._decryption.started()

    def unlock(self, manifest: Manifest) -> None:
        """Have the key of an encrypted image at hand; see `ImageStream`."""
        if not manifest.encrypted or self._opening is not None:
            return
        self._worker.send(Kind.UNLOCK, self._manifest)
        unlocked = self._decryption.unlock(self._receive(Kind.ENVELOPE).payload, self._ready)
        self._opening = unlocked.worker
        try:
            self._worker.send(Kind.OPENER, descriptor=unlocked.descriptor)
        finally:
            os.close(unlocked.descriptor)

    def attach(self, names: Sequence[str]) -> None:
        """Attachments that are to come; see `ImageStream`."""
        self._attach = tuple(names)

    def parts(self, manifest: Manifest, bases: Sequence[Base] = ()) -> Iterator[Part]:
        """Lists and groups; see `ImageStream`."""
        self._numbers = {payload.name: number for number, payload in enumerate(manifest.payloads)}
        for base in bases:
            number = self._numbers[base.payload]
            prefix = BASE_PREFIX.pack(number, base.size, base.group_size, bytes.fromhex(base.digest))
            self._worker.send(Kind.BASE, prefix, base.plain_list, descriptor=base.descriptor)
        numbers = [number for number, each in enumerate(manifest.attachments) if each.name in self._attach]
        if numbers:
            self._worker.send(Kind.ATTACH, b"".join(map(ATTACHMENT_NUMBER.pack, numbers)))
        self._worker.send(Kind.PROCEED, self._manifest)
        self._stall.brought(self._fetched)
        while (frame := self._receive(Kind.LIST, Kind.GROUP, Kind.ATTACHMENT, Kind.END)).kind is not Kind.END:
            yield self._part(frame, manifest)
        self._count(*unpack(COUNT, frame.payload))

    def want(self, payload: str, groups: bytes) -> None:
        """Ask for groups; see `ImageStream`."""
        self._want(payload, groups, flags=0)

    def cost(self, payload: str, groups: bytes) -> Cost:
        """What they would take; see `ImageStream`."""
        self._want(payload, groups, flags=1)
        return Cost(*unpack(COST, self._receive(Kind.COST).payload))

    def _want(self, payload: str, groups: bytes, flags: int) -> None:
        """A worker that has ended meanwhile has said why; that is worth more than that it does not listen."""
        try:
            self._worker.send(Kind.WANT, WANT_PREFIX.pack(self._numbers[payload], flags), groups)
            self._stall.brought(self._fetched)
        except TransportError as e:
            if e.code == GONE:
                self._receive(Kind.END)
            raise

    def close(self) -> None:
        """End the workers; see `ImageStream`."""
        for each in (self._worker, self._relay, self._opening, *self._ready):
            if each is not None:
                each.close()

    def _receive(self, *kinds: Kind) -> Frame:
        while (frame := self._worker.receive(*kinds, Kind.FETCHED, Kind.NOTE)).kind in (Kind.FETCHED, Kind.NOTE):
            self._worker.channel.silence = self._silence
            if frame.kind is Kind.NOTE:
                self._hear(read_note(frame.payload))
            else:
                self._count(*unpack(COUNT, frame.payload))
            self._stall.lives(self._fetched)
        self._stall.brought(self._fetched)
        return frame

    def _hear(self, note: Note) -> None:
        if isinstance(note, Unused) and note not in self._unused:
            if len(self._unused) == UNUSED_MAX:
                raise DeviceError("the worker sends notes without end", code="worker")
            self._unused.append(note)
        self._listener(note)

    def _part(self, frame: Frame, manifest: Manifest) -> Part:
        if frame.kind is Kind.LIST:
            number, waits = unpack(LIST_PREFIX, frame.payload)
            return ListPart(_payload(manifest, number).name, frame.payload[LIST_PREFIX.size :], bool(waits))
        if frame.kind is Kind.ATTACHMENT:
            (number,) = unpack(ATTACHMENT_NUMBER, frame.payload)
            return AttachmentPart(_attachment(manifest, number).name, frame.payload[ATTACHMENT_NUMBER.size :])
        number, index, fetched = unpack(GROUP_PREFIX, frame.payload)
        self._count(fetched)
        return GroupPart(_payload(manifest, number).name, index, frame.content)

    def _count(self, fetched: int) -> None:
        if not self._fetched <= fetched <= FETCHED_MAX:
            raise DeviceError("the worker counts wrongly", code="worker", expected=self._fetched, found=fetched)
        self._fetched = fetched
        check_budget(self._budget, fetched)


def open_remote(
    get: Callable[[str], Worker], request: Mapping[str, Any], source: str = "", decryption: Decryption = NO_KEY
) -> WorkerStream:
    """A stream of an image behind an address: a relay that has the network, and a worker that parses and has none.

    Args:
        get: A fresh worker by its kind.
        request: As of `WorkerStream`; what only the relay needs, our key above all, is not told to the other.
        source: See `ImageStream`.
        decryption: How an encrypted image is opened.

    Raises:
        DeviceError: `device.worker`, `device.resources`: no worker can be had.
        TransportError: One died at once.
    """
    http = request.get("http", {})
    with relay_for(get, request["url"], http, request.get("nice", 0)) as (relay, way):
        return WorkerStream(get("fetch"), {**request, "http": for_the_worker(http)}, way, source, decryption, relay)


def verify_in_worker(
    get: Callable[[], Worker], request: TrustRequest, dropped: Callable[[int, TwinslotError], None]
) -> Verdict:
    """Ask a fresh verifying worker.

    Args:
        get: Makes it.
        request: The question.
        dropped: Told, before the verdict or the refusal, how many of the kept roots follow from the built-in one, and
            why the next one does not.

    Raises:
        ImageError: The documents are malformed.
        RefusedError: They are not trusted, with every reason.
        TransportError: The worker died, or did not answer.
        DeviceError: It did not answer what was asked.
    """
    worker = get()
    try:
        worker.channel.silence = START
        worker.send(Kind.REQUEST, encode_request(request))
        frame = worker.receive(Kind.VERDICT, Kind.DROPPED)
        if frame.kind is Kind.DROPPED:
            (fit,) = unpack(FIT, frame.payload)
            dropped(min(fit, len(request.kept_roots)), read_error(frame.payload[FIT.size :]))
            frame = worker.receive(Kind.VERDICT)
        return decode_verdict(frame.payload)
    finally:
        worker.close()


def _silence(request: Mapping[str, Any]) -> float:
    """Seconds within which a download says that it lives: one try at its slowest; pauses tick by themselves."""
    http = request.get("http", {})
    return STALL + HOPS * (ADDRESSES * float(http.get("connect_timeout", 0)) + float(http.get("read_timeout", 0)))


def _stall(request: Mapping[str, Any]) -> StallDetector:
    """An honest download gives up after its tries, each with the longest pause."""
    http = request.get("http", {})
    one = _silence(request) + float(http.get("retry_wait", 0))
    floors = [float(http[name]) for name in ("rate_floor", "rate_limit") if http.get(name)]
    return StallDetector((int(http.get("retries", 0)) + 1) * one, min(floors, default=0.0))


def _attachment(manifest: Manifest, number: int) -> Attachment:
    if number >= len(manifest.attachments):
        raise ImageError("the image holds an attachment that its manifest does not name", code="order", found=number)
    return manifest.attachments[number]


def _payload(manifest: Manifest, number: int) -> Payload:
    if number >= len(manifest.payloads):
        raise ImageError("the image holds a payload that its manifest does not name", code="order", found=number)
    return manifest.payloads[number]
