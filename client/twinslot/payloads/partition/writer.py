"""One payload on its way into one partition, so that it ends whole or does not load (S2, S5).

The order is the safety argument:

1. `wipe`: the first group (where the file system's superblock stands) is zeroed and flushed, its first sector with
   content first.
2. `take_list`: the plain list must have the digest that the manifest names.
3. `take_group`, `copy`, `keep`, `zero`: each group must have the digest that the list names, wherever it comes from;
   only then is it written, or left as it stands. The first is held back.
4. `read_back`: the rest and the tail were flushed and are read from the medium, not from a cache. With an executor
   this follows the writer (read_behind.py), once the first group is known: the digest of the whole begins with it.
5. `finish`: the first group is written, its first sector with content last, flushed and read back.

A cut before the end of 5 leaves a partition that neither counts as bootable nor loads.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor

from twinslot.core.errors import DeviceError, ImageError
from twinslot.core.manifest import Payload
from twinslot.core.model import SECTOR
from twinslot.payloads.base import Tick
from twinslot.payloads.partition.flush import FlushPolicy
from twinslot.payloads.partition.on_medium import PAGE, check_tail, groups_on, is_zero, padded, pieces_on
from twinslot.payloads.partition.read_behind import STEP, ReadBehind
from twinslot.payloads.signed_list import SignedList
from twinslot.storage.base import TargetDevice


class PayloadWriter:
    """Writes one payload; implements `PayloadSink`.

    Memory: two groups, the plain list (32 bytes per group), and what is read back at once.

    Args:
        device: The partition; owned by the caller, who closes it after `run` is shut down.
        payload: From the verified manifest.
        run: Where written regions are read back early, on one thread; None: all of it in `read_back`.
        step: Bytes between two early flushes.
        monotonic: Seconds, to measure flushes with.

    Attributes:
        lasting: What arrives is flushed at intervals, since it would cost much to fetch it again.
        written: Bytes of groups handed to the device.
        copied: Those of them that came from a slot of this device.
        skipped: Bytes of groups that the target held already.
        zeroed: Bytes of all-zero groups, which the kernel was asked to make.
    """

    def __init__(
        self,
        device: TargetDevice,
        payload: Payload,
        run: Executor | None = None,
        step: int = STEP,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._device, self._payload = device, payload
        self._behind = ReadBehind(device, self._read_region, run, step)
        self._whole = hashlib.sha256()  # of what was read back
        self._tick: Tick = lambda _: None
        self._flush = FlushPolicy(device, monotonic)
        self._signed = SignedList(payload)
        self._first = b""
        self._before = b""  # what stood in the first group's place
        self._done = bytearray()  # for each group: 1 once it is in its place, or held back
        self._front = 0  # all groups before this one are done
        self._zeros = (0, 0)  # a run of bytes that is yet to be zeroed: its start and end
        self.lasting = False
        self.written = self.copied = self.skipped = self.zeroed = 0

    # keeps: S5
    def wipe(self) -> None:
        """Make the partition unloadable, durably: first the sector that makes it a file system, then the group."""
        length = padded(self._device, self._payload.group_length(0))
        held, readable = self._read_first(length)
        self._before = self._before or held
        if not is_zero(held):
            self._write_mark(held, there=False)
        if not (is_zero(held) and readable):  # else as an install that was cut short leaves it
            self._device.write(0, bytes(length))
        self._device.flush()
        if not is_zero(self._device.read_direct(0, length)):
            raise DeviceError(f"'{self._device.path}' did not take the wipe of its first group", code="read-back")

    def _read_first(self, length: int) -> tuple[bytes, bool]:
        """What stands in the first group's place, and whether all of it can be read; zeros for pages that cannot.

        Writing them anew may mend them, and what cannot be read does not load either.
        """
        if whole := self._held(0, length):
            return whole, True
        sizes = ((at, min(PAGE, length - at)) for at in range(0, length, PAGE))
        return b"".join(self._held(at, size) or bytes(size) for at, size in sizes), False

    def _held(self, offset: int, length: int) -> bytes:
        """What stands there; empty when it cannot be read: then it is not there.

        Caught here and not by whoever looks for a group: there it could be the thread's error, which ends the install.
        """
        try:
            return self._device.read_direct(offset, length)
        except DeviceError as e:
            if e.code != "device.read":
                raise
            return b""

    # keeps: S9 (in the process whose memory is measured)
    def take_list(self, data: bytes) -> None:
        """Take the list of digests, once.

        Raises:
            ImageError: Its digest is not the one in the manifest; `image.order`: it came before.
        """
        self._signed.take(data)
        self._done = bytearray(self._payload.groups)

    def expect(self, indices: Iterable[int]) -> None:
        """Say which groups will come through `take_group`, and in which order; at first: all of them, in order."""
        self._signed.expect(indices)

    # keeps: S2
    def take_group(self, index: int, data: bytes | memoryview, *, look: bool = False) -> None:
        """Check one group that arrived, and write it. Groups come in the order that was asked for, each once.

        Args:
            index: Of the group.
            data: Its plain content; only used until this returns.
            look: The target may hold it already: look there, and spare the write.

        Raises:
            ImageError: Wrong order, length or digest; nothing of it was written.
            DeviceError: The device did not take it.
        """
        self.next_is(index)
        self._signed.check(index, data)
        if look and index and self._on_device(index) == data:
            self._written(index)
            self.skipped += len(data)
        elif index and is_zero(data):
            self.zero(index)
        else:
            self._put(index, data)
            if self.lasting and index:
                self._flush.wrote(len(data))

    def next_is(self, index: int) -> None:
        """This group comes next, or the news that it cannot come.

        Raises:
            ImageError: `image.order`: another one was expected, or none.
        """
        self._signed.next_is(index)

    def read(self, index: int) -> bytes:
        """A group of the target as it stands there now, for another place; may be anything, or nothing."""
        start = index * self._payload.group_size
        end = padded(self._device, start + self._payload.group_size)
        return self._held(start, end - start) if start < end else b""

    def copy(self, index: int, data: bytes) -> bool:
        """Take a group that a slot of this device is said to hold; False: it is not what was signed."""
        if not self._signed.names(index, data):
            return False
        self._put(index, data)
        self.copied += len(data)
        return True

    def keep(self, index: int) -> bool:
        """Leave a group that stands in its place already; False: it does not. The first one stood there before."""
        length = self._payload.group_length(index)
        data = self._on_device(index) if index else self._before[:length]
        if not self._signed.names(index, data):
            return False
        if index == 0:
            self._first = data
        self._written(index)
        self.skipped += length
        return True

    def zero(self, index: int) -> None:
        """Make an all-zero group; whether it is one has been seen by its digest."""
        start = index * self._payload.group_size
        length = self._payload.group_length(index)
        if index == 0:
            self._first = bytes(length)
        elif start == self._zeros[1]:
            self._zeros = (self._zeros[0], start + length)
        else:
            self._write_zeros()
            self._zeros = (start, start + length)
        self._written(index, zeros=True)
        self.zeroed += length

    def has(self, index: int) -> bool:
        """This group is in its place, or held back to be written last."""
        return index < len(self._done) and bool(self._done[index])

    @property
    def extent(self) -> int:
        """Bytes of the whole partition: all of it is read back."""
        return self._device.size

    @property
    def plain_list(self) -> bytes:
        """The list that was taken; empty before."""
        return self._signed.data

    @property
    def complete(self) -> bool:
        """Every group is in its place, or held back."""
        return bool(self._done) and all(self._done)

    # keeps: S5
    def read_back(self, tick: Tick) -> None:
        """Zero the tail, flush, and compare the whole partition but the first group with what was signed.

        Raises:
            ImageError: A group never came, or the whole has another digest than the manifest names.
            DeviceError: `device.read-back`: the medium returns something else than what was written.
        """
        if not self.complete:
            raise ImageError(
                f"payload '{self._payload.name}' ends early",
                code="truncated",
                expected=f"{self._payload.groups} groups",
                found=f"{sum(self._done)} groups",
            )
        self._write_zeros()
        end = padded(self._device, self._payload.size)
        if end < self._device.size:
            self._device.zero(end, self._device.size - end)
        self._tick = tick
        self._behind.finish(self._payload.size)
        if self._whole.hexdigest() != self._payload.digest:
            self._find_difference()
            raise ImageError(
                f"payload '{self._payload.name}' has other content than its manifest says",
                code="payload",
                expected=self._payload.digest,
                found=self._whole.hexdigest(),
                hint="every group is as signed, so the image was built wrongly",
            )
        check_tail(self._device, self._payload.size, tick)

    def _read_region(self, first: int, end: int, ahead: Executor | None) -> None:
        """Take the medium's content into the digest of the whole; in the place of the first group it must be zeros.

        In pieces of many groups, since each update may wait for the threads that write and decode.
        """
        size, group_size = self._payload.size, self._payload.group_size
        for start, piece in pieces_on(self._device, size, group_size, self._tick, first, end, ahead):
            self._whole.update(piece if start else self._with_first_group(piece))

    def _with_first_group(self, piece: memoryview) -> memoryview:
        """Put the first group's content, which is held back, into the digest of the whole; what is behind it."""
        length = len(self._first)
        if not is_zero(piece[:length]):
            raise self._differs(0)
        self._whole.update(self._first)
        return piece[length:]

    def _find_difference(self) -> None:
        """Say which group is not on the medium as it was written; returns if each is."""
        for index, data in groups_on(self._device, self._payload.size, self._payload.group_size):
            if index:
                self._check_read_back(index, data)

    # keeps: S5
    def finish(self) -> None:
        """Write the first group, and last in it the sector that makes it a file system: from here on it loads."""
        at = _mark(self._first)
        self._write(0, self._first[:at] + bytes(len(self._first[at : at + SECTOR])) + self._first[at + SECTOR :])
        self._device.flush()
        self._write_mark(self._first, there=True)
        length = self._payload.group_length(0)
        self._check_read_back(0, self._device.read_direct(0, padded(self._device, length))[:length])

    def _write_mark(self, group: bytes, *, there: bool) -> None:
        """The first sector with content of a first group, as it stands there or as zeros; flushed.

        Without it no file system is found. In one write with the rest a cut may tear the group behind it; a sector is
        whole or not there (`SECTOR`), and the rest of the page that carries it stands already.
        """
        group = group.ljust(padded(self._device, len(group)), b"\0")
        at = _mark(group)
        page, mark = at - at % PAGE, group[at : at + SECTOR] if there else bytes(SECTOR)
        self._device.write(page, group[page:at] + mark + group[at + SECTOR : page + PAGE])
        self._device.flush()

    def _put(self, index: int, data: bytes | memoryview) -> None:
        if index == 0:
            self._first = bytes(data)
        else:
            self._behind.writing(index * self._payload.group_size)
            self._write(index * self._payload.group_size, data)
        self._written(index)

    def _written(self, index: int, *, zeros: bool = False) -> None:
        """This group will not be written again, but for the first; what lies before the front can be read back.

        A run of zeros ends with the first group that is none, so that reading back does not wait for the last run.
        """
        if not zeros:
            self._write_zeros()
        self._done[index] = 1
        if index != self._front:
            return
        self._front = self._done.find(0, index)
        if self._front < 0:
            self._front = self._payload.groups
        if self._zeros[0] == self._zeros[1] and self._front < self._payload.groups:
            self._behind.reached(self._front * self._payload.group_size)

    def _on_device(self, index: int) -> bytes:
        """A group as the medium holds it; empty if it cannot be read, or if no zeros follow the payload's end."""
        start, length = index * self._payload.group_size, self._payload.group_length(index)
        data = self._held(start, padded(self._device, start + length) - start)
        return data[:length] if is_zero(data[length:]) else b""

    def _write_zeros(self) -> None:
        start, end = self._zeros
        self._zeros = (0, 0)
        if start < end:
            self._behind.writing(start)
            self._device.zero(start, padded(self._device, end) - start)

    def _write(self, offset: int, data: bytes | memoryview) -> None:
        missing = padded(self._device, offset + len(data)) - offset - len(data)
        self._device.write(offset, bytes(data) + bytes(missing) if missing else data)
        self.written += len(data)

    def _check_read_back(self, index: int, data: bytes | memoryview) -> None:
        if not self._signed.names(index, data):
            raise self._differs(index)

    def _differs(self, index: int) -> DeviceError:
        return DeviceError(
            f"group {index} of payload '{self._payload.name}' reads back differently from '{self._device.path}'",
            code="read-back",
            hint="the storage loses or changes data; the slot stays unbootable",
        )


def _mark(group: bytes) -> int:
    """Where the first sector with content begins: with erofs and ext4 the superblock's. 0 if there is none."""
    return next((at for at in range(0, len(group), SECTOR) if not is_zero(group[at : at + SECTOR])), 0)
