"""What the device holds is taken from there, and a worker that answers with something else gets nothing written."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.disk import SimulatedDisk
from simulation.image import GROUP, SmallImage, SmallStream
from twinslot.core.bitset import bits_where, has, ones
from twinslot.core.errors import DeviceError, ImageError, RefusedError
from twinslot.core.manifest import Manifest, Payload
from twinslot.core.model import SlotName
from twinslot.core.stream import GroupPart, ListPart, Part
from twinslot.payloads.local_content import LocalContent
from twinslot.payloads.partition.read_behind import ReadBehind
from twinslot.payloads.partition.writer import PayloadWriter
from twinslot.payloads.payload_install import Known, PayloadInstall, begin_payload
from twinslot.payloads.plan import ContentSource, make_plan
from twinslot.storage import slot_reader as slotreader
from twinslot.storage.known_lists import KnownList

IMAGE = SmallImage("2.0", 2, groups=6)
PAYLOAD = IMAGE.manifest.payload("rootfs")
SIZE = 8 * GROUP


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def known(content: bytes) -> KnownList:
    groups = [content[at : at + GROUP] for at in range(0, len(content), GROUP)]
    return KnownList(len(content), GROUP, hashlib.sha256(content).hexdigest(), b"".join(map(digest, groups)))


@given(members=st.sets(st.integers(0, 300)), first=st.integers(0, 320))
def test_bits_hold_what_was_put_in(members: set[int], first: int) -> None:
    bits = bits_where(301, lambda index: index in members)
    assert set(ones(bits)) == members
    assert list(ones(bits, first)) == sorted(index for index in members if index >= first)
    assert sum(1 for _ in ones(bits)) == len(members)
    assert all(has(bits, index) == (index in members) for index in range(400))
    assert bool(bits) == bool(members)


class Stream(SmallStream):
    """A worker that waits, and answers the first question as a test wants."""

    def __init__(self, answers: list[GroupPart]) -> None:
        super().__init__(IMAGE, ranged=True)
        self._answers = answers

    def parts(self, manifest: Manifest, bases: object = ()) -> Iterator[Part]:
        yield ListPart("rootfs", IMAGE.plain_list, waits=True)
        yield from self._answers


def group(index: int, data: bytes | None = None, payload: str = "rootfs") -> GroupPart:
    return GroupPart(payload, index, IMAGE.content[index * GROUP :][:GROUP] if data is None else data)


def fill(stream: SmallStream, disk: SimulatedDisk, target: KnownList | None, *, insist: bool = False) -> PayloadWriter:
    """Wipe and fill a partition."""
    writer = PayloadWriter(disk, PAYLOAD)
    writer.wipe()
    parts = stream.parts(IMAGE.manifest)
    first = next(parts)
    assert isinstance(first, ListPart)
    begin(writer, first, target, insist=insist).fetch(stream, parts)
    return writer


def begin(
    writer: PayloadWriter,
    part: ListPart,
    target: KnownList | None,
    moved: Callable[[int], None] = lambda _: None,
    *,
    remote: bool = True,
    unfinished: bool = False,
    insist: bool = False,
) -> PayloadInstall:
    """Nothing is known of the running slot."""
    here, known = LocalContent(SlotName.B, SlotName.A, unfinished=unfinished), Known(None, target)
    return begin_payload(PAYLOAD, writer, here, known, part, moved, remote=remote, insist=insist)


def held(*groups: int) -> bytes:
    """A partition with these groups of the image in their place."""
    noise = b"\xee" * GROUP
    return b"".join(IMAGE.content[n * GROUP :][:GROUP] if n in groups else noise for n in range(6)).ljust(SIZE, b"\0")


def disk_with(content: bytes) -> SimulatedDisk:
    disk = SimulatedDisk("slot_b", SIZE)
    disk.fill(content)
    return disk


@pytest.mark.parametrize(
    "answers",
    [
        [group(2)],  # not asked for
        [group(4), group(3)],  # out of order
        [group(3), group(3)],  # twice
        [group(3), group(9)],  # not there
        [group(3, payload="boot")],
        [group(3, b"\1" * GROUP)],
        [group(3), ListPart("rootfs", IMAGE.plain_list)],
        [group(3)],  # and then nothing
        [],
        [group(3, b""), group(4), group(3, b"")],  # cannot be made, and again not
        [group(4, b"")],
    ],
)
def test_what_was_not_asked_for_is_refused_and_not_written(answers: list[GroupPart]) -> None:
    content = held(0, 1, 2, 5)
    disk = disk_with(content)
    with pytest.raises(ImageError) as error:
        fill(Stream(answers), disk, known(content[: 6 * GROUP]))
    assert error.value.code in ("image.order", "image.group")
    for at in range(GROUP, SIZE, GROUP):
        now = disk.content()[at : at + GROUP]
        assert now in (content[at : at + GROUP], IMAGE.content[at : at + GROUP]), at
    assert not any(disk.content()[:GROUP])


def test_only_what_is_missing_is_asked_for_and_written() -> None:
    content = held(0, 1, 2, 5)
    disk, stream = disk_with(content), SmallStream(IMAGE, ranged=True)
    writer = fill(stream, disk, known(content[: len(IMAGE.content)]))
    assert stream.groups == [3, 4]
    assert writer.written == 2 * GROUP
    writer.read_back(lambda _: None)
    writer.finish()
    assert disk.content() == IMAGE.content.ljust(SIZE, b"\0")


def test_a_list_that_lies_costs_a_second_round_and_policy_may_forbid_it() -> None:
    content = held(0, 1, 2, 5)
    lying = known(IMAGE.content)
    disk, stream = disk_with(content), SmallStream(IMAGE, ranged=True)
    writer = fill(stream, disk, lying)
    assert stream.groups == [3, 4]
    writer.read_back(lambda _: None)
    writer.finish()
    assert disk.content() == IMAGE.content.ljust(SIZE, b"\0")
    with pytest.raises(RefusedError, match="2 groups of payload 'rootfs'"):
        fill(SmallStream(IMAGE, ranged=True), disk_with(content), lying, insist=True)


def test_a_group_that_moved_within_the_target_is_read_before_it_is_overwritten() -> None:
    shifted = (b"\xee" * GROUP + IMAGE.content).ljust(SIZE, b"\0")  # every group one place further
    disk, stream = disk_with(shifted), SmallStream(IMAGE, ranged=True)
    writer = fill(stream, disk, known(shifted))
    assert stream.groups == [5], "the last one is shorter in the image"
    writer.read_back(lambda _: None)
    writer.finish()
    assert disk.content() == IMAGE.content.ljust(SIZE, b"\0")


@pytest.mark.verifies("S2")
def test_a_moved_group_that_is_not_what_the_list_says_is_fetched() -> None:
    shifted = (b"\xee" * GROUP + IMAGE.content).ljust(SIZE, b"\0")
    disk = disk_with(shifted[: 3 * GROUP] + b"\xdd" * GROUP + shifted[4 * GROUP :])
    stream = SmallStream(IMAGE, ranged=True)
    writer = fill(stream, disk, known(shifted))
    assert stream.groups == [5, 2]
    writer.read_back(lambda _: None)
    writer.finish()
    assert disk.content() == IMAGE.content.ljust(SIZE, b"\0")


class Worn(SimulatedDisk):
    """One of its places cannot be read; every other one can."""

    worn = -1

    def read_direct(self, offset: int, length: int) -> bytes:
        if offset <= self.worn < offset + length:
            raise DeviceError(f"cannot read 'slot_b' at byte {self.worn}", code="read", found="Input/output error")
        return super().read_direct(offset, length)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        self.worn = -1 if offset <= self.worn < offset + len(data) else self.worn
        super().write(offset, data)


@pytest.mark.parametrize("ranged", [True, False])
def test_a_group_that_cannot_be_read_is_fetched_and_written_anew(*, ranged: bool) -> None:
    disk, stream = Worn("slot_b", SIZE), SmallStream(IMAGE, ranged=ranged)
    disk.fill(held(0, 1, 2, 5))
    disk.worn = 2 * GROUP
    writer = PayloadWriter(disk, PAYLOAD)
    writer.wipe()
    parts = stream.parts(IMAGE.manifest)
    first = next(parts)
    assert isinstance(first, ListPart)
    install = begin(writer, first, known(IMAGE.content), remote=ranged)
    if first.waits:
        install.fetch(stream, parts)
    for part in parts:
        assert isinstance(part, GroupPart)
        install.take(part)
    writer.read_back(lambda _: None)
    writer.finish()
    assert disk.content() == IMAGE.content.ljust(SIZE, b"\0")


def test_an_error_of_reading_back_is_not_taken_for_a_group_that_is_not_there() -> None:
    class Failing(ReadBehind):
        def reached(self, end: int) -> None:
            raise DeviceError(f"cannot read 'slot_b' at byte {end}", code="read", found="Input/output error")

    writer = PayloadWriter(disk_with(held(0, 1, 2, 5)), PAYLOAD)
    writer._behind = Failing(writer._device, lambda *_: None)
    writer.wipe()
    part = ListPart("rootfs", IMAGE.plain_list, waits=True)
    with pytest.raises(DeviceError, match="cannot read 'slot_b'"):
        begin(writer, part, known(held(0, 1, 2, 5)[: 6 * GROUP]))


def test_a_list_of_a_larger_partition_than_this_one_costs_a_fetch_and_nothing_else() -> None:
    longer = b"".join([bytes([0xEE]) * GROUP] * 20) + IMAGE.content  # every group stands behind the partition's end
    disk, stream = disk_with(b"\xee" * SIZE), SmallStream(IMAGE, ranged=True)
    writer = fill(stream, disk, known(longer))
    assert sorted(stream.groups) == list(range(6))
    writer.read_back(lambda _: None)
    writer.finish()
    assert disk.content() == IMAGE.content.ljust(SIZE, b"\0")


def test_groups_that_were_found_before_a_pipe_brings_them_count_once_and_are_not_written() -> None:
    disk, moved = disk_with(held(1, 2, 5)), list[int]()
    writer = PayloadWriter(disk, PAYLOAD)
    writer.wipe()
    parts = SmallStream(IMAGE).parts(IMAGE.manifest)
    first = next(parts)
    assert isinstance(first, ListPart)
    install = begin(writer, first, None, moved.append, remote=False, unfinished=True)
    for part in parts:
        assert isinstance(part, GroupPart)
        install.take(part)
    assert sum(moved) == PAYLOAD.size
    assert writer.skipped == PAYLOAD.size - 3 * GROUP
    assert writer.written == 2 * GROUP, "and the first at the end"
    writer.read_back(lambda _: None)
    writer.finish()
    assert disk.content() == IMAGE.content.ljust(SIZE, b"\0")


def test_a_pipe_that_brings_a_group_out_of_order_is_refused_also_where_the_group_was_found() -> None:
    writer = PayloadWriter(disk_with(held(1, 2, 5)), PAYLOAD)
    writer.wipe()
    install = begin(writer, ListPart("rootfs", IMAGE.plain_list), None, remote=False, unfinished=True)
    for index in (1, 4, 6, 2**32 - 1):
        with pytest.raises(ImageError, match="out of order"):
            install.take(group(index))


def test_a_plan_is_made_in_a_moment_also_when_very_many_groups_are_the_same() -> None:
    same, many = digest(b"\xff" * GROUP), 30_000
    running = KnownList(2 * many * GROUP, GROUP, "", same * many + digest(b"x") * many)
    payload = Payload("rootfs", 2 * many * GROUP, "0" * 64, GROUP, 2 * many, "", "", 0)
    steps = 0

    def count(frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        nonlocal steps
        steps += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        plan = make_plan(payload, digest(b"y") * many + same * many, running, None)
    finally:
        sys.settrace(before)
    assert 0 < steps < 100 * many, "lines of Python: not the product of both counts"
    assert plan.place(2 * many - 1) == many - 1


def test_of_a_slot_with_more_groups_than_a_list_may_have_only_the_first_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slot").write_bytes(IMAGE.content)
    monkeypatch.setattr(slotreader, "GROUPS_MAX", 4)
    with contextlib.closing(slotreader.open_reader(tmp_path / "slot")) as reader:
        listed = slotreader.list_on(reader, reader.size, GROUP, lambda _: None)
    assert listed == known(IMAGE.content[: 4 * GROUP]), "a longer one is no frame that a worker takes"


contents = st.lists(st.integers(0, 4), min_size=1, max_size=12)


@given(new=contents, running=contents, target=contents)
def test_a_plan_names_only_places_that_hold_the_group(new: list[int], running: list[int], target: list[int]) -> None:
    def made(numbers: list[int]) -> bytes:
        return b"".join(bytes([number]) * GROUP for number in numbers)

    payload = Payload("rootfs", len(new) * GROUP, "0" * 64, GROUP, len(new), "", "", 0)
    plan = make_plan(payload, known(made(new)).data, known(made(running)), known(made(target)))
    for index, number in enumerate(new):
        way, place = plan.way(index), plan.place(index)
        if way is ContentSource.KEEP:
            assert index
            assert target[index] == number
        elif way is ContentSource.ZERO:
            assert number == 0
        elif way is ContentSource.COPY:
            assert running[place] == number
        elif way is ContentSource.MOVE:
            assert place
            assert target[place] == number
        else:
            assert number not in running
            assert number not in target[1:]
    assert sum(plan.bytes_of(way) for way in ContentSource) == payload.size
    assert set(ones(plan.wanted())) == {index for index in range(len(new)) if plan.way(index) is ContentSource.FETCH}
