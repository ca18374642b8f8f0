"""Reading back behind the writer: only what was flushed, only once, and every difference is told."""

from __future__ import annotations

import hashlib
import random
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from simulation.disk import SimulatedDisk
from simulation.image import GROUP, SmallImage
from twinslot.core.errors import DeviceError, LifecycleError
from twinslot.payloads.partition.on_medium import READ_SIZE, pieces_on
from twinslot.payloads.partition.read_behind import ReadBehind
from twinslot.payloads.partition.writer import PayloadWriter

IMAGE = SmallImage("1.0", 1, groups=6)
PAYLOAD = IMAGE.manifest.payload("rootfs")


class Now(Executor):
    """Does at once what it is given, so that a test sees each step."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except DeviceError as e:
            future.set_exception(e)
        return future


class CountingDisk(SimulatedDisk):
    """Remembers what had been flushed when a region was read back."""

    def __init__(self) -> None:
        super().__init__("slot", 8 * GROUP)
        self.calls: list[str] = []

    def write(self, offset: int, data: bytes | memoryview) -> None:
        self.calls.append(f"write {offset // GROUP}")
        super().write(offset, data)

    def flush(self) -> None:
        self.calls.append("flush")
        super().flush()


class LossyDisk(SimulatedDisk):
    """Flips a bit of the byte at one place whenever it is written."""

    def __init__(self, place: int) -> None:
        super().__init__("slot", 8 * GROUP)
        self.place = place

    def write(self, offset: int, data: bytes | memoryview) -> None:
        changed = bytearray(data)
        if offset <= self.place < offset + len(data):
            changed[self.place - offset] ^= 1
        super().write(offset, bytes(changed))


def sweep_of(disk: CountingDisk, run: Executor | None) -> ReadBehind:
    return ReadBehind(
        disk, lambda first, end, _: disk.calls.append(f"read {first // GROUP} to {end // GROUP}"), run, 2 * GROUP
    )


@pytest.mark.verifies("S5")
def test_a_region_is_read_back_once_enough_came_together_and_only_behind_a_flush() -> None:
    disk = CountingDisk()
    sweep = sweep_of(disk, Now())
    for index in range(5):
        disk.write(index * GROUP, bytes(GROUP))
        sweep.reached((index + 1) * GROUP)
    sweep.finish(5 * GROUP)
    assert [call for call in disk.calls if not call.startswith("write")] == [
        *("flush", "read 0 to 2", "flush", "read 2 to 4", "flush", "read 4 to 5")
    ]
    assert disk.calls.index("read 0 to 2") > disk.calls.index("write 1")
    assert disk.calls.index("read 0 to 2") < disk.calls.index("write 2")


def test_without_an_executor_everything_is_read_back_at_the_end() -> None:
    disk = CountingDisk()
    sweep = sweep_of(disk, None)
    sweep.reached(4 * GROUP)
    assert disk.calls == []
    sweep.finish(5 * GROUP)
    assert disk.calls == ["flush", "read 0 to 5"]


def test_going_back_behind_what_was_read_is_our_own_mistake() -> None:
    sweep = sweep_of(CountingDisk(), Now())
    sweep.reached(4 * GROUP)
    sweep.writing(4 * GROUP)
    with pytest.raises(LifecycleError, match="written again"):
        sweep.writing(3 * GROUP)


def test_much_at_once_is_read_back_in_parts_so_that_cancelling_does_not_wait_for_all_of_it() -> None:
    disk = CountingDisk()
    sweep = sweep_of(disk, Now())
    sweep.reached(30 * GROUP)
    sweep.reached(31 * GROUP)
    sweep.finish(40 * GROUP)
    assert disk.calls == ["flush", "read 0 to 8", "flush", "read 8 to 16", "flush", "read 16 to 40"]


def test_what_cannot_be_read_back_is_not_taken_for_a_group_that_cannot_be_found() -> None:
    class Worn(CountingDisk):
        """Its first group cannot be read any more after the wipe."""

        def read_direct(self, offset: int, length: int) -> bytes:
            if offset == 0 and self.calls[-1:] == ["flush"] and "write 3" in self.calls:
                raise DeviceError("cannot read 'slot' at byte 0", code="read", found="Input/output error")
            return super().read_direct(offset, length)

    disk = Worn()
    disk.fill(IMAGE.content)
    writer = PayloadWriter(disk, PAYLOAD, Now(), 4 * GROUP)
    writer.wipe()
    writer.take_list(IMAGE.plain_list)
    for number in range(4):
        writer.copy(number, IMAGE.content[number * GROUP : (number + 1) * GROUP])
    with pytest.raises(DeviceError, match="cannot read 'slot' at byte 0"):
        writer.keep(4)


def test_a_run_of_zeros_does_not_keep_what_follows_from_being_read_back() -> None:
    content = IMAGE.content[:GROUP] + bytes(2 * GROUP) + IMAGE.content[3 * GROUP :]
    plain_list = b"".join(hashlib.sha256(content[at : at + GROUP]).digest() for at in range(0, len(content), GROUP))
    digests = [hashlib.sha256(data).hexdigest() for data in (content, plain_list)]
    disk = CountingDisk()
    writer = PayloadWriter(disk, replace(PAYLOAD, digest=digests[0], plain_list=digests[1]), Now(), GROUP)
    writer.wipe()
    writer.take_list(plain_list)
    disk.calls.clear()
    for number in range(6):
        writer.take_group(number, content[number * GROUP : (number + 1) * GROUP])
    assert disk.calls == ["flush", "write 3", "write 1", "flush", "write 4", "flush", "write 5"]
    writer.read_back(lambda _: None)
    writer.finish()
    assert disk.content() == content.ljust(disk.size, b"\0")


@pytest.mark.parametrize("index", range(1, 6))
def test_a_medium_that_changed_a_group_is_noticed_behind_the_writer_or_at_the_end(index: int) -> None:
    writer = PayloadWriter(LossyDisk(index * GROUP), PAYLOAD, Now(), 2 * GROUP)
    writer.wipe()
    writer.take_list(IMAGE.plain_list)
    with pytest.raises(DeviceError, match=f"group {index} .* reads back differently"):  # noqa: PT012 - either call may
        for number in range(6):
            writer.take_group(number, IMAGE.content[number * GROUP : (number + 1) * GROUP])
        writer.read_back(lambda _: None)


def test_with_a_real_thread_the_slot_ends_as_signed() -> None:
    disk = SimulatedDisk("slot", 8 * GROUP)
    disk.fill(b"\xee" * disk.size)
    with ThreadPoolExecutor(max_workers=1) as run:
        writer = PayloadWriter(disk, PAYLOAD, run, GROUP)
        writer.wipe()
        writer.take_list(IMAGE.plain_list)
        for number in range(6):
            writer.take_group(number, IMAGE.content[number * GROUP : (number + 1) * GROUP])
        writer.read_back(lambda _: None)
        assert not any(disk.content()[:GROUP])
        writer.finish()
    assert disk.content() == IMAGE.content.ljust(disk.size, b"\0")


@pytest.mark.parametrize("size", [READ_SIZE - GROUP, READ_SIZE, READ_SIZE + GROUP, 3 * READ_SIZE + 5 * GROUP])
def test_what_an_idle_thread_reads_ahead_is_what_is_read_without_one(size: int) -> None:
    disk = SimulatedDisk("slot", 4 * READ_SIZE)
    disk.fill(random.Random(size).randbytes(disk.size))

    def pieces(ahead: Executor | None) -> list[tuple[int, bytes]]:
        found = pieces_on(disk, size, GROUP, lambda _: None, 0, size, ahead)
        return [(start, bytes(data)) for start, data in found]

    with ThreadPoolExecutor(max_workers=1) as run:
        assert pieces(run) == pieces(None)
    assert b"".join(data for _, data in pieces(None)) == disk.content()[:size]


def test_a_medium_that_cannot_be_read_ahead_is_told_where_its_piece_comes() -> None:
    class FailingDisk(SimulatedDisk):
        def read_direct(self, offset: int, length: int) -> bytes:
            if offset >= READ_SIZE:
                raise DeviceError("cannot read 'slot'", code="read")
            return super().read_direct(offset, length)

    seen = []
    with ThreadPoolExecutor(max_workers=1) as run, pytest.raises(DeviceError, match="cannot read"):  # noqa: PT012 - where it is raised counts
        for start, _ in pieces_on(FailingDisk("slot", 4 * READ_SIZE), 2 * READ_SIZE, GROUP, print, ahead=run):
            seen.append(start)
    assert seen == [0]
