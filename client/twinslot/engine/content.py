"""One install at work: parts in, checked groups out to the places of the target slot."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from twinslot.core.errors import ImageError, TransportError
from twinslot.core.manifest import Manifest
from twinslot.core.progress import Meter, Phase
from twinslot.core.stream import AttachmentPart, Base, GroupPart, ImageStream, ListPart
from twinslot.engine.documents import Documents
from twinslot.engine.edges import DeltaPolicy
from twinslot.payloads.base import PayloadTarget
from twinslot.payloads.local_content import LocalContent
from twinslot.payloads.payload_install import Known, PayloadInstall, begin_payload, no_delta
from twinslot.storage.known_lists import KnownList
from twinslot.system.cancellation import Cancellation
from twinslot.transport.budget import check_budget


@dataclass(frozen=True, slots=True)
class ByteCounts:
    """How the bytes of an install came, for progress and evidence.

    Attributes:
        fetched: Read from the source.
        written: Handed to the medium.
        copied: Of those written: taken from a slot of this device.
        skipped: Not written, since they stood there already.
        zeroed: Made by the kernel.
    """

    fetched: int = 0
    written: int = 0
    copied: int = 0
    skipped: int = 0
    zeroed: int = 0


class ImageInstall:
    """Moves one image into one slot. Owns nothing: stream and targets are closed by whoever opened them.

    Args:
        stream: Where the parts come from; not trusted.
        manifest: Verified and accepted.
        targets: The slot's places by payload name, opened for writing.
        meter: Told of every byte.
        cancelled: Set by somebody who wants to stop.
        local: What this device has of it already.
        policy: How much may be fetched, and whether everything may.
        run: Where regions are read back while others are written; None: afterwards.
        monotonic: Seconds, to measure flushes with.
        document: The manifest as it came, which is kept with its attachments.
        root: The payload that holds the root file system, from which the boot loader starts: first to go and last to
            come, so that it never starts beside another payload that is not whole (S5).
    """

    def __init__(
        self,
        stream: ImageStream,
        manifest: Manifest,
        targets: Mapping[str, PayloadTarget],
        meter: Meter,
        cancelled: Cancellation,
        local: LocalContent,
        policy: DeltaPolicy | None = None,
        run: Executor | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        root: str = "",
        document: bytes = b"",
    ) -> None:
        self._stream, self._manifest, self._meter, self._cancelled = stream, manifest, meter, cancelled
        self._local, self._policy = local, policy or DeltaPolicy()
        self._sinks = {p.name: targets[p.name].sink(p, run, monotonic) for p in manifest.payloads}
        self._documents = Documents(local, manifest, document)
        self._held: dict[str, KnownList | None] = {}  # what the target held before it was wiped
        self._known: dict[str, Known] = {}  # of the payloads whose list did not come yet
        self._installs: dict[str, PayloadInstall] = {}  # of those whose list came
        self._root_first = sorted(manifest.payloads, key=lambda payload: payload.name != root)
        self._total = sum(payload.size for payload in manifest.payloads)
        self._done = 0

    @property
    def moved(self) -> ByteCounts:
        """What came how, so far."""
        sinks = self._sinks.values()
        return ByteCounts(
            self._stream.fetched,
            sum(sink.written for sink in sinks),
            sum(sink.copied for sink in sinks),
            sum(sink.skipped for sink in sinks),
            sum(sink.zeroed for sink in sinks),
        )

    @property
    def unused(self) -> dict[str, str]:
        """What would have saved a part of the download, and why it did not; the first reason counts."""
        return {note.what: note.why for note in reversed(self._stream.unused)}

    # keeps: S5
    def wipe(self) -> None:
        """Make every place of the target count for nothing; what was known of it is forgotten first."""
        self._documents.drop()
        self._meter.begin(Phase.PREPARE)
        for payload in self._root_first:
            self._held[payload.name] = self._local.take_target(payload.name)
            self._sinks[payload.name].wipe()

    def write(self) -> None:
        """Take every part. Nothing that is not what was signed is written."""
        bases = self._bases()
        self._meter.begin(Phase.WRITE, self._total)
        try:
            self._take_parts(bases)
        except TransportError:  # when somebody cancels, the stream ends under us
            self._stop_if_cancelled()
            raise

    def _take_parts(self, bases: Sequence[Base]) -> None:
        self._stream.attach(self._documents.wanted)
        parts = self._stream.parts(self._manifest, bases)
        for part in parts:
            if isinstance(part, AttachmentPart):
                self._documents.take(part)
                continue
            if part.payload not in self._sinks:
                raise ImageError(
                    f"the worker sent a part of payload '{part.payload}' that was not requested", code="order"
                )
            if isinstance(part, ListPart):
                install = self._begin(part)
                if part.waits:
                    install.fetch(self._stream, parts)
            else:
                self._install_of(part).take(part)

    def _begin(self, part: ListPart) -> PayloadInstall:
        self._stop_if_cancelled()
        self._check_way(part)
        install = self._installs[part.payload] = begin_payload(
            self._manifest.payload(part.payload),
            self._sinks[part.payload],
            self._local,
            self._known.pop(part.payload, Known(None, None)),  # of a second list, which is refused
            part,
            self._advance,
            remote=self._stream.remote,
            insist=self._policy.insist,
        )
        return install

    def _install_of(self, part: GroupPart) -> PayloadInstall:
        if part.payload not in self._installs:
            raise ImageError(f"a group of payload '{part.payload}' came before its list", code="order")
        return self._installs[part.payload]

    def _bases(self) -> list[Base]:
        """What the running slot holds. Without a list it is read, when that may save a download."""
        bases = []
        remote = self._stream.remote
        for payload in self._manifest.payloads:
            known = self._local.running(payload, rebuild=remote, tick=lambda _: self._stop_if_cancelled())
            self._known[payload.name] = Known(known, self._held.pop(payload.name))
            if known is not None and remote and self._policy.patches:
                bases.append(self._local.base(payload.name, known))
        return bases

    def _check_way(self, part: ListPart) -> None:
        """A server without ranges sends everything: is that within the policy?"""
        if part.waits or not self._stream.remote:
            return
        if self._policy.insist:
            raise no_delta("a server that sends only the whole file")
        check_budget(self._policy.budget, sum(payload.stored_size for payload in self._manifest.payloads))

    def _advance(self, count: int) -> None:
        """So many more bytes are in their place."""
        self._done += count
        self._stop_if_cancelled()
        check_budget(self._policy.budget if self._stream.remote else 0, self._stream.fetched)
        self._meter.at(self._done, self._stream.fetched)

    def read_back(self) -> None:
        """Compare every place with what was signed, all that lies behind it included."""
        self._meter.begin(Phase.READ_BACK, sum(sink.extent for sink in self._sinks.values()))
        before = 0
        for sink in self._sinks.values():
            sink.read_back(lambda done, before=before: self._tick(before + done))  # type: ignore[misc]
            before += sink.extent

    # keeps: S5
    def finish(self) -> None:
        """Make every payload count in its place: the target loads from here on."""
        self._stop_if_cancelled()
        self._meter.begin(Phase.FINISH)
        for payload in reversed(self._root_first):
            sink = self._sinks[payload.name]
            sink.finish()
            self._local.complete(payload, sink.plain_list)
        self._documents.complete()

    def _tick(self, done: int) -> None:
        self._stop_if_cancelled()
        self._meter.at(done, self._stream.fetched)

    def _stop_if_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise self._cancelled.error()
