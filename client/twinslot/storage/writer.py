"""One payload on its way into one partition, so that it ends whole or does not load (S2, S5).

The order is the safety argument:

1. `wipe`: the first group (where the file system's superblock stands) is zeroed and flushed, its first sector with
   content first.
2. `take_list`: the plain list must have the digest that the manifest names.
3. `take_group`: each group must have the digest that the list names; only then is it written. The first is held back.
4. `read_back`: the rest and the tail were flushed and are read from the medium, not from a cache.
5. `finish`: the first group is written, its first sector with content last, flushed and read back.

A cut before the end of 5 leaves a partition that neither counts as bootable nor loads.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Final

from twinslot.core.errors import BundleError, DeviceError
from twinslot.core.manifest import Payload
from twinslot.core.model import DIGEST_SIZE, SECTOR, StoredPayload
from twinslot.storage.base import TargetDevice

READ_SIZE: Final = 1024 * 1024  # bytes asked of the medium at once; a multiple of every group size up to 1 MiB
PAGE: Final = 4096  # bytes; the largest logical sector size in use (NVMe and UFS "4Kn"), so that O_DIRECT accepts it

Tick = Callable[[int], None]  # told how many bytes are done


class PayloadWriter:
    """Writes one payload. Memory: one group and the plain list (32 bytes per group)."""

    def __init__(self, device: TargetDevice, payload: Payload) -> None:
        self._device, self._payload = device, payload
        self._list = b""
        self._first = b""
        self._next = 0
        self.written = 0  # bytes handed to the device so far

    def wipe(self) -> None:
        """Make the partition unloadable, durably: first the sector that makes it a file system, then the group."""
        length = padded(self._device, self._payload.group_length(0))
        self._write_mark(self._device.read_direct(0, length), there=False)
        self._device.write(0, bytes(length))
        self._device.flush()
        if any(self._device.read_direct(0, length)):
            raise DeviceError(f"'{self._device.path}' did not take the wipe of its first group", code="read-back")

    def take_list(self, data: bytes) -> None:
        """Take the list of digests.

        Raises:
            BundleError: Its digest is not the one in the manifest.
        """
        found = hashlib.sha256(data).hexdigest()
        if found != self._payload.plain_list or len(data) != self._payload.groups * DIGEST_SIZE:
            raise BundleError(
                f"the plain list of payload '{self._payload.name}' is not the one that was signed",
                code="plain-list",
                expected=self._payload.plain_list,
                found=found,
            )
        self._list = data

    def take_group(self, index: int, data: bytes) -> None:
        """Check one group and write it. Groups come in order, each once.

        Raises:
            BundleError: Wrong order, length or digest; nothing of it was written.
            DeviceError: The device did not take it.
        """
        if index != self._next or index >= self._payload.groups or not self._list:
            raise BundleError(
                f"group {index} of payload '{self._payload.name}' is out of order", code="order", expected=self._next
            )
        self._check(index, data, "as received")
        self._next += 1
        if index == 0:
            self._first = data
        else:
            self._write(index * self._payload.group_size, data)

    @property
    def partition_size(self) -> int:
        """Bytes of the whole partition."""
        return self._device.size

    @property
    def complete(self) -> bool:
        """Every group was taken."""
        return self._next == self._payload.groups

    def read_back(self, tick: Tick) -> None:
        """Zero the tail, flush, and compare the whole partition but the first group with what was signed.

        Raises:
            BundleError: A group never came, or the whole has another digest than the manifest names.
            DeviceError: `device.read-back`: the medium returns something else than what was written.
        """
        if not self.complete:
            raise BundleError(
                f"payload '{self._payload.name}' ends early",
                code="truncated",
                expected=f"{self._payload.groups} groups",
                found=f"{self._next} groups",
            )
        end = padded(self._device, self._payload.size)
        if end < self._device.size:
            self._device.zero(end, self._device.size - end)
        self._device.flush()
        if any(self._device.read_direct(0, padded(self._device, self._payload.group_length(0)))):
            raise self._differs(0)
        whole = hashlib.sha256(self._first)
        for index, data in _groups_on(self._device, self._payload.size, self._payload.group_size, tick):
            if index:
                self._check(index, data, "as read back")
                whole.update(data)
        if whole.hexdigest() != self._payload.digest:
            raise BundleError(
                f"payload '{self._payload.name}' has other content than its manifest says",
                code="payload",
                expected=self._payload.digest,
                found=whole.hexdigest(),
                hint="every group is as signed, so the image was built wrongly",
            )
        check_tail(self._device, self._payload.size, tick)

    def finish(self) -> None:
        """Write the first group, and last in it the sector that makes it a file system: from here on it loads."""
        at = _mark(self._first)
        self._write(0, self._first[:at] + bytes(len(self._first[at : at + SECTOR])) + self._first[at + SECTOR :])
        self._device.flush()
        self._write_mark(self._first, there=True)
        length = self._payload.group_length(0)
        self._check(0, self._device.read_direct(0, padded(self._device, length))[:length], "as read back")

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

    def _write(self, offset: int, data: bytes) -> None:
        missing = padded(self._device, offset + len(data)) - offset - len(data)
        self._device.write(offset, data + bytes(missing) if missing else data)
        self.written += len(data)

    def _check(self, index: int, data: bytes | memoryview, when: str) -> None:
        expected = self._list[index * DIGEST_SIZE : (index + 1) * DIGEST_SIZE]
        if hashlib.sha256(data).digest() == expected:
            return
        if when == "as read back":
            raise self._differs(index)
        raise BundleError(
            f"group {index} of payload '{self._payload.name}' {when} is not the one that was signed",
            code="group",
            expected=expected.hex(),
            found=hashlib.sha256(data).hexdigest(),
        )

    def _differs(self, index: int) -> DeviceError:
        return DeviceError(
            f"group {index} of payload '{self._payload.name}' reads back differently from '{self._device.path}'",
            code="read-back",
            hint="the storage loses or changes data; the slot stays unbootable",
        )


def digest_on(device: TargetDevice, stored: StoredPayload, tick: Tick) -> str:
    """SHA-256 of a payload as the medium holds it, 64 hex digits; the tail must be zeros.

    Raises:
        DeviceError: The device cannot be read, is smaller than the payload, or its tail is not zeros.
    """
    if stored.size > device.size:
        raise DeviceError(f"'{device.path}' is too small", code="size", expected=stored.size, found=device.size)
    whole = hashlib.sha256()
    for _, data in _groups_on(device, stored.size, stored.group_size, tick):
        whole.update(data)
    check_tail(device, stored.size, tick)
    return whole.hexdigest()


def check_tail(device: TargetDevice, size: int, tick: Tick) -> None:
    """The partition after the payload must read as zeros, so that its whole content is defined (S14).

    Raises:
        DeviceError: `device.tail` with the offset.
    """
    for offset in range(padded(device, size), device.size, READ_SIZE):
        length = min(READ_SIZE, device.size - offset)
        if any(device.read_direct(offset, length)):
            raise _not_zero(device, offset)
        tick(offset + length)


def _not_zero(device: TargetDevice, offset: int) -> DeviceError:
    found = f"something else at or after offset {offset}"
    return DeviceError(f"'{device.path}' is not zero after its payload", code="tail", expected="zeros", found=found)


def _mark(group: bytes) -> int:
    """Where the first sector with content begins: with erofs and ext4 the superblock's. 0 if there is none."""
    return next((at for at in range(0, len(group), SECTOR) if any(group[at : at + SECTOR])), 0)


def padded(device: TargetDevice, end: int) -> int:
    """An end position rounded up to a whole page, or to the end of the partition if that comes first."""
    return min(-(-end // PAGE) * PAGE, device.size)


def _groups_on(device: TargetDevice, size: int, group_size: int, tick: Tick) -> Iterator[tuple[int, memoryview]]:
    """Each group as the medium holds it, read in large pieces."""
    for start in range(0, size, READ_SIZE):
        length = min(READ_SIZE, size - start)
        piece = memoryview(device.read_direct(start, padded(device, start + length) - start))
        if any(piece[length:]):
            raise _not_zero(device, start + length)
        piece = piece[:length]
        for offset in range(0, length, group_size):
            yield (start + offset) // group_size, piece[offset : offset + group_size]
        tick(start + length)
