"""What a medium holds, past every cache: groups, digests, and zeros where zeros must be."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from typing import Final

from twinslot.core.bounds import GROUP_SIZE_MAX
from twinslot.core.errors import DeviceError
from twinslot.core.model import StoredPayload
from twinslot.payloads.base import Tick
from twinslot.storage.base import TargetDevice

READ_SIZE: Final = 512 * 1024  # bytes asked of the medium at once, or one group if that is more
PAGE: Final = 4096  # bytes; the largest logical sector size in use (NVMe and UFS "4Kn"), so that O_DIRECT accepts it

_ZEROS: Final = bytes(GROUP_SIZE_MAX)


# keeps: S14
def digest_on(device: TargetDevice, stored: StoredPayload, tick: Tick) -> str:
    """SHA-256 of a payload as the medium holds it, 64 hex digits; the tail must be zeros.

    Raises:
        DeviceError: The device cannot be read, is smaller than the payload, or its tail is not zeros.
    """
    if stored.size > device.size:
        raise DeviceError(f"'{device.path}' is too small", code="size", expected=stored.size, found=device.size)
    whole = hashlib.sha256()
    for _, data in pieces_on(device, stored.size, stored.group_size, tick):
        whole.update(data)
    check_tail(device, stored.size, tick)
    return whole.hexdigest()


# keeps: S14
def check_tail(device: TargetDevice, size: int, tick: Tick) -> None:
    """The partition after the payload must read as zeros, so that its whole content is defined (S14).

    Raises:
        DeviceError: `device.tail` with the offset.
    """
    for offset in range(padded(device, size), device.size, READ_SIZE):
        length = min(READ_SIZE, device.size - offset)
        if not is_zero(device.read_direct(offset, length)):
            raise _not_zero(device, offset)
        tick(offset + length)


def _not_zero(device: TargetDevice, offset: int) -> DeviceError:
    found = f"something else at or after offset {offset}"
    return DeviceError(f"'{device.path}' is not zero after its payload", code="tail", expected="zeros", found=found)


def padded(device: TargetDevice, end: int) -> int:
    """An end position rounded up to a whole page, or to the end of the partition if that comes first."""
    return min(-(-end // PAGE) * PAGE, device.size)


def is_zero(data: bytes | memoryview) -> bool:
    """Whether at most `GROUP_SIZE_MAX` bytes are all zero; by comparison, a hundred times quicker than `any`."""
    return not any(data[:16]) and bytes(data) == _ZEROS[: len(data)]  # most content says so at once


def groups_on(device: TargetDevice, size: int, group_size: int) -> Iterator[tuple[int, memoryview]]:
    """Each group of a payload as the medium holds it, with its number; see `pieces_on`."""
    for start, piece in pieces_on(device, size, group_size, lambda _: None):
        for offset in range(0, len(piece), group_size):
            yield (start + offset) // group_size, piece[offset : offset + group_size]


def pieces_on(
    device: TargetDevice,
    size: int,
    group_size: int,
    tick: Tick,
    first: int = 0,
    end: int | None = None,
    ahead: Executor | None = None,
) -> Iterator[tuple[int, memoryview]]:
    """A region as the medium holds it, in pieces of whole groups, each with its offset in bytes.

    Args:
        device: The medium.
        size: Of the payload, in bytes.
        group_size: Bytes; `first` and `end` are at groups' edges.
        tick: Told how far it is.
        first: Byte at which the region begins.
        end: Byte behind it; None: the payload's.
        ahead: An idle thread that reads the next piece while the caller looks at this one; two pieces are in memory.
    """
    end = size if end is None else end
    step = max(READ_SIZE, group_size)

    def piece_at(start: int) -> bytes:
        return device.read_direct(start, padded(device, min(start + step, end)) - start)

    starts = range(first, end, step)
    for start, whole in zip(starts, _in_order(piece_at, starts, ahead), strict=True):
        piece, length = memoryview(whole), min(step, end - start)
        if not is_zero(piece[length:]):
            raise _not_zero(device, start + length)
        yield start, piece[:length]
        tick(start + length)


def _in_order(piece_at: Callable[[int], bytes], starts: range, ahead: Executor | None) -> Iterator[bytes]:
    """What `piece_at` gives for each of these, one after another; with a thread, the next is read meanwhile."""
    if ahead is None:
        yield from map(piece_at, starts)
        return
    following: Future[bytes] | None = None
    for start in starts:
        whole = following.result() if following is not None else piece_at(start)
        following = ahead.submit(piece_at, start + starts.step) if start + starts.step in starts else None
        yield whole
