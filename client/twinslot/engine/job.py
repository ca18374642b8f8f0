"""One install at work: parts in, checked groups out to the target's partitions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Executor

from twinslot.core.errors import BundleError, CancelledError, DeviceError, TransportError
from twinslot.core.manifest import Manifest
from twinslot.core.progress import Meter, Phase
from twinslot.core.transaction import Transaction
from twinslot.engine.cancellation import Cancellation
from twinslot.engine.device import Device
from twinslot.storage.base import TargetDevice
from twinslot.storage.writer import PayloadWriter, digest_on
from twinslot.transport.base import GroupPart, ImageStream, Part


class InstallJob:
    """Moves one image into one slot. Owns nothing: stream and targets are closed by whoever opened them.

    Args:
        stream: Where the parts come from; not trusted.
        manifest: Verified and accepted.
        targets: The slot's partitions by payload name.
        meter: Told of every byte.
        cancelled: Set by somebody who wants to stop.
        run: Where regions are read back while others are written; None: afterwards.
    """

    def __init__(
        self,
        stream: ImageStream,
        manifest: Manifest,
        targets: Mapping[str, TargetDevice],
        meter: Meter,
        cancelled: Cancellation,
        run: Executor | None = None,
    ) -> None:
        self._stream, self._manifest, self._meter, self._cancelled = stream, manifest, meter, cancelled
        self._writers = {p.name: PayloadWriter(targets[p.name], p, run) for p in manifest.payloads}
        self._total = sum(payload.size for payload in manifest.payloads)
        self._partitions = sum(targets[payload.name].size for payload in manifest.payloads)

    @property
    def fetched(self) -> int:
        """Bytes read from the source."""
        return self._stream.fetched

    @property
    def written(self) -> int:
        """Bytes of groups handed to the partitions."""
        return sum(writer.written for writer in self._writers.values())

    def wipe(self) -> None:
        """Make every partition of the target unloadable."""
        self._meter.begin(Phase.PREPARE)
        for writer in self._writers.values():
            writer.wipe()

    def write(self) -> None:
        """Take every part. Nothing that is not what was signed is written."""
        self._meter.begin(Phase.WRITE, self._total)
        done = 0
        for part in self._parts():
            writer = self._writers.get(part.payload)
            if writer is None:
                raise BundleError(f"a part of payload '{part.payload}' came unasked", code="order")
            if isinstance(part, GroupPart):
                writer.take_group(part.index, part.data)
                done += len(part.data)
                self._meter.at(done, self.fetched)
            else:
                writer.take_list(part.data)

    def _parts(self) -> Iterator[Part]:
        """The stream's parts; when somebody cancels, the stream ends under us."""
        try:
            for part in self._stream.parts(self._manifest):
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
        for writer in self._writers.values():
            writer.finish()

    def _tick(self, done: int) -> None:
        self._stop_if_cancelled()
        self._meter.at(done, self.fetched)

    def _stop_if_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise CancelledError("the install was cancelled", hint="the target slot stays unbootable; install again")


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
