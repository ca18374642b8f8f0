"""One install at work: parts in, checked groups out to the target's partitions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from twinslot.core.errors import DeviceError, ImageError, TransportError
from twinslot.core.manifest import Manifest
from twinslot.core.progress import Meter, Phase
from twinslot.core.transaction import Transaction
from twinslot.engine.cancellation import Cancellation
from twinslot.engine.edges import DeltaPolicy, Device
from twinslot.engine.local_content import LocalContent
from twinslot.engine.payload_install import PayloadInstall, no_delta
from twinslot.payloads.partition.on_medium import digest_on
from twinslot.payloads.partition.writer import PayloadWriter
from twinslot.storage.base import TargetDevice
from twinslot.transport.base import Base, GroupPart, ImageStream, ListPart, Part
from twinslot.transport.budget import check_budget


@dataclass(frozen=True, slots=True)
class Moved:
    """How the bytes of an install came, for progress and evidence.

    Attributes:
        fetched: Read from the source.
        written: Handed to the partitions.
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
        targets: The slot's partitions by payload name.
        meter: Told of every byte.
        cancelled: Set by somebody who wants to stop.
        holdings: What this device has of it already.
        policy: How much may be fetched, and whether everything may.
        run: Where regions are read back while others are written; None: afterwards.
        monotonic: Seconds, to measure flushes with.
        root: The payload that holds the root file system, from which the boot loader starts: first to go and last to
            come, so that it never starts beside another payload that is not whole (S5).
    """

    def __init__(
        self,
        stream: ImageStream,
        manifest: Manifest,
        targets: Mapping[str, TargetDevice],
        meter: Meter,
        cancelled: Cancellation,
        holdings: LocalContent,
        policy: DeltaPolicy | None = None,
        run: Executor | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        root: str = "",
    ) -> None:
        self._stream, self._manifest, self._meter, self._cancelled = stream, manifest, meter, cancelled
        self._holdings, self._policy = holdings, policy or DeltaPolicy()
        self._writers = {p.name: PayloadWriter(targets[p.name], p, run, monotonic=monotonic) for p in manifest.payloads}
        self._fillers: dict[str, PayloadInstall] = {}
        self._root_first = sorted(manifest.payloads, key=lambda payload: payload.name != root)
        self._total = sum(payload.size for payload in manifest.payloads)
        self._partitions = sum(targets[payload.name].size for payload in manifest.payloads)
        self._done = 0

    @property
    def moved(self) -> Moved:
        """What came how, so far."""
        writers = self._writers.values()
        return Moved(
            self._stream.fetched,
            sum(writer.written for writer in writers),
            sum(writer.copied for writer in writers),
            sum(writer.skipped for writer in writers),
            sum(writer.zeroed for writer in writers),
        )

    @property
    def unused(self) -> dict[str, str]:
        """What would have saved a part of the download, and why it did not; the first reason counts."""
        return {note.what: note.why for note in reversed(self._stream.unused)}

    def wipe(self) -> None:
        """Make every partition of the target unloadable; what was known of it is forgotten first."""
        self._meter.begin(Phase.PREPARE)
        for payload in self._root_first:
            target = self._holdings.take_target(payload.name)
            writer = self._writers[payload.name]
            writer.wipe()
            self._fillers[payload.name] = PayloadInstall(
                payload, writer, self._holdings, target, self._advance, insist=self._policy.insist
            )

    def write(self) -> None:
        """Take every part. Nothing that is not what was signed is written."""
        bases = self._bases()
        self._meter.begin(Phase.WRITE, self._total)
        parts = self._parts(bases)
        for part in parts:
            filler = self._fillers.get(part.payload)
            if filler is None:
                raise ImageError(f"a part of payload '{part.payload}' came unasked", code="order")
            if isinstance(part, GroupPart):
                filler.take(part)
                continue
            self._check_way(part)
            filler.take_list(part, remote=self._stream.remote)
            if part.waits:
                filler.fetch(self._stream, parts)

    def _bases(self) -> list[Base]:
        """What the running slot holds. Without a list it is read, when that may save a download."""
        bases = []
        remote = self._stream.remote
        for payload in self._manifest.payloads:
            known = self._holdings.running(payload, rebuild=remote, tick=lambda _: self._stop_if_cancelled())
            self._fillers[payload.name].prepare(known)
            if known is not None and remote and self._policy.patches:
                bases.append(self._holdings.base(payload.name, known))
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

    def _parts(self, bases: Sequence[Base]) -> Iterator[Part]:
        """The stream's parts; when somebody cancels, the stream ends under us."""
        try:
            for part in self._stream.parts(self._manifest, bases):
                self._stop_if_cancelled()
                yield part
        except TransportError:
            self._stop_if_cancelled()
            raise

    def read_back(self) -> None:
        """Compare every partition, tail included, with what was signed."""
        self._meter.begin(Phase.READ_BACK, self._partitions)
        before = 0
        for writer in self._writers.values():
            writer.read_back(lambda done, before=before: self._tick(before + done))  # type: ignore[misc]
            before += writer.partition_size

    def finish(self) -> None:
        """Write the first groups: the target loads from here on."""
        self._stop_if_cancelled()
        self._meter.begin(Phase.FINISH)
        for payload in reversed(self._root_first):
            writer = self._writers[payload.name]
            writer.finish()
            self._holdings.complete(payload, writer.plain_list)

    def _tick(self, done: int) -> None:
        self._stop_if_cancelled()
        self._meter.at(done, self._stream.fetched)

    def _stop_if_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise self._cancelled.error()


def check_target(device: Device, transaction: Transaction) -> None:
    """Read a slot back against the digests stored when it was installed.

    Raises:
        DeviceError: `device.slot-changed`, or the slot cannot be read.
    """
    targets = device.open_targets(transaction.target)
    try:
        for name, stored in transaction.payloads.items():
            if name not in targets:
                hint = "compare '[slots]' in the configuration"
                raise DeviceError(f"payload '{name}' has no partition here any more", code="payload-unknown", hint=hint)
            found = digest_on(targets[name], stored, lambda _: None)
            if found != stored.digest:
                raise DeviceError(
                    f"payload '{name}' in slot '{transaction.target}' is not what was installed",
                    code="slot-changed",
                    expected=stored.digest,
                    found=found,
                    hint="install an image into that slot",
                )
    finally:
        for target in targets.values():
            target.close()
