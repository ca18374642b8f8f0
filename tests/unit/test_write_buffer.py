"""Writes that are handed over together: what stands on the medium is what was written, by whole sectors if possible."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

import waits
from twinslot.core.errors import DeviceError
from twinslot.storage import write_buffer as writebehind
from twinslot.storage.write_buffer import WriteBuffer

SIZE, SECTOR, BUFFER = 4096, 512, 1024


class Medium:
    """Takes writes and notes them."""

    def __init__(self) -> None:
        self.content = bytearray(SIZE)
        self.direct: list[tuple[int, int]] = []
        self.plain: list[tuple[int, int]] = []
        self.broken = False

    def write(self, offset: int, view: memoryview) -> None:
        if self.broken:
            raise DeviceError("cannot write", code="write")
        self.content[offset : offset + len(view)] = view

    def write_direct(self, offset: int, view: memoryview) -> None:
        self.direct.append((offset, len(view)))
        self.write(offset, view)

    def write_plain(self, offset: int, view: memoryview) -> None:
        self.plain.append((offset, len(view)))
        self.write(offset, view)


@pytest.fixture(autouse=True)
def small_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writebehind, "WRITE_BUFFER", BUFFER)


def behind(medium: Medium, sector: int = SECTOR) -> WriteBuffer:
    return WriteBuffer(medium.write_plain, medium.write_direct, sector)


writes = st.lists(
    st.tuples(st.integers(0, SIZE - 1), st.integers(0, 2500), st.integers(1, 255), st.booleans()), max_size=12
)


@given(writes, st.sampled_from([0, SECTOR]))
def test_whatever_is_written_stands_there_once_it_is_handed_over(
    steps: list[tuple[int, int, int, bool]], sector: int
) -> None:
    medium, expected = Medium(), bytearray(SIZE)
    held = behind(medium, sector)
    end = 0
    for offset, length, value, follows in steps:
        at = end if follows else offset
        data = bytes([value]) * min(length, SIZE - at)
        expected[at : at + len(data)] = data
        held.write(at, memoryview(data))
        end = at + len(data)
    held.hand_over()
    assert medium.content == expected
    assert all(offset % SECTOR == length % SECTOR == 0 for offset, length in medium.direct)
    assert not (medium.direct and not sector)


def test_writes_that_follow_each_other_reach_the_medium_as_one() -> None:
    medium = Medium()
    held = behind(medium)
    for at in range(0, SIZE, 256):
        held.write(at, memoryview(b"x" * 256))
    held.hand_over()
    assert medium.direct == [(at, BUFFER) for at in range(0, SIZE, BUFFER)]
    assert medium.plain == []


def test_the_end_within_a_sector_is_written_through_the_cache() -> None:
    medium = Medium()
    held = behind(medium)
    held.write(512, memoryview(b"x" * 700))
    assert medium.direct == medium.plain == [], "held back"
    held.hand_over()
    assert (medium.direct, medium.plain) == ([(512, 512)], [(1024, 188)])


@pytest.mark.verifies("S5")
@given(writes, st.integers(0, SIZE - 1), st.integers(1, SIZE))
def test_a_region_that_is_read_after_any_writes_holds_what_was_written_last(
    steps: list[tuple[int, int, int, bool]], region: int, size: int
) -> None:
    medium, expected = Medium(), bytearray(SIZE)
    held = behind(medium)
    end = 0
    for offset, length, value, follows in steps:
        at = end if follows else offset
        data = bytes([value]) * min(length, SIZE - at)
        expected[at : at + len(data)] = data
        held.write(at, memoryview(data))
        end = at + len(data)
        held.hand_over_region(region, size)
        assert medium.content[region : region + size] == expected[region : region + size]


class SlowMedium(Medium):
    """Takes direct writes only while the gate is open."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.gate = threading.Event(), threading.Event()

    def write_direct(self, offset: int, view: memoryview) -> None:
        self.asked.set()
        assert self.gate.wait(waits.HANG)
        super().write_direct(offset, view)


@pytest.mark.verifies("S5")
def test_the_next_buffer_is_filled_while_the_medium_takes_one() -> None:
    medium = SlowMedium()
    held = behind(medium)
    held.write(0, memoryview(b"a" * BUFFER))
    held.write(BUFFER, memoryview(b"b" * (BUFFER - 1)))
    assert medium.direct == [], "both writes returned, and the medium has taken nothing yet"
    medium.gate.set()
    held.hand_over()
    assert medium.content[: 2 * BUFFER] == (b"a" * BUFFER + b"b" * (BUFFER - 1)).ljust(2 * BUFFER, b"\0")
    held.close()


def test_who_reads_elsewhere_does_not_wait_for_the_medium_and_who_reads_there_does() -> None:
    medium = SlowMedium()
    held = behind(medium)
    held.write(BUFFER, memoryview(b"a" * BUFFER))
    writing = threading.Thread(target=held.write, args=(2 * BUFFER, memoryview(b"b" * BUFFER)))
    writing.start()  # fills the other buffer, and waits for the medium
    assert medium.asked.wait(waits.HANG)
    held.hand_over_region(0, BUFFER)
    assert medium.direct == [], "the region before was free to be read"
    medium.gate.set()
    held.hand_over_region(BUFFER, SECTOR)
    assert medium.direct[0] == (BUFFER, BUFFER), "the region on its way was not"
    writing.join(waits.HANG)
    held.close()


def test_a_write_that_fails_on_its_way_is_told_by_a_later_call_once_and_what_follows_is_not_held_back() -> None:
    medium = Medium()
    medium.broken = True
    held = behind(medium)
    held.write(0, memoryview(b"x" * BUFFER))
    with pytest.raises(DeviceError, match="cannot write"):
        held.write(BUFFER, memoryview(b"y" * BUFFER))
    medium.broken = False
    held.hand_over()
    assert not any(medium.content)
    held.write(2 * BUFFER, memoryview(b"z" * BUFFER))
    held.hand_over()
    assert medium.content == b"z".rjust(2 * BUFFER + 1, b"\0") + b"z" * (BUFFER - 1) + bytes(SIZE - 3 * BUFFER)
    held.close()


@given(st.integers(0, 3000), st.integers(1, 1000), st.integers(0, 3500), st.integers(1, 500))
def test_a_region_that_is_about_to_be_read_is_handed_over_and_no_other(
    start: int, length: int, region: int, size: int
) -> None:
    medium = Medium()
    held = behind(medium)
    held.write(start, memoryview(b"x" * length))
    held.hand_over_region(region, size)
    within = [at for at in range(region, region + size) if start <= at < start + length]
    assert bool(medium.direct or medium.plain) == bool(within)
    assert all(medium.content[at] == ord("x") for at in within)


def test_what_could_not_be_written_is_told_once_and_not_tried_again() -> None:
    medium = Medium()
    held = behind(medium)
    held.write(0, memoryview(b"x" * 512))
    medium.broken = True
    with pytest.raises(DeviceError, match="cannot write"):
        held.hand_over()
    held.hand_over()
    assert len(medium.direct) == 1


@pytest.mark.parametrize("broken", [False, True])
def test_what_is_held_back_is_handed_over_when_it_is_closed_if_it_can_be(broken: bool) -> None:
    medium = Medium()
    held = behind(medium)
    held.write(0, memoryview(b"x" * 512))
    medium.broken = broken
    held.close()
    held.close()
    assert medium.direct == [(0, 512)]
    assert any(medium.content) != broken
