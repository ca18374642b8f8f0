"""A write of the environment that power cut short, in real U-Boot: the older or the newer state starts, nothing else.

A copy is written sector by sector (512 bytes), so a torn one is the new copy's first sectors before the old one's rest.
Random ranges stand for media that do not keep that order. Slots are tiny; a start takes a second.
"""

from __future__ import annotations

import random

import pytest

from twinslot.bootloader.uboot.rawenv import decode, encode
from twinslot_lab.build import BoardFiles
from twinslot_lab.plugin import BoardFactory
from twinslot_lab.qemu_board import QemuBoard

pytestmark = pytest.mark.board

SECTOR = 512  # bytes; SD Physical Layer Simplified Specification, 4.3: what a card writes whole
# An arming write: before it slot a is committed, after it slot b is on trial.
BEFORE = {"slot": "a", "slot_a": "good", "slot_b": "bad", "upgrade_available": "0", "ts_generation": "4"}
AFTER = BEFORE | {
    "slot": "b",
    "slot_b": "trial",
    "upgrade_available": "1",
    "bootcount": "0",
    "ts_release": "7",
    "ts_generation": "5",
    "ts_filler": "x" * 9000,  # so that the new content reaches far into the copy, and most prefixes really tear it
}


@pytest.fixture
def board(board_factory: BoardFactory, tiny_board: BoardFiles) -> QemuBoard:
    return board_factory(files=tiny_board, stop_on_reset=True)


def start(board: QemuBoard) -> str:
    """One start; the slot whose kernel ran, or nothing."""
    mark = len(board.log.read_text(errors="replace")) if board.log.exists() else 0
    board.power_on()
    board.wait_off(60)
    said = board.log.read_text(errors="replace")[mark:]
    ran = [line.split()[1] for line in said.splitlines() if line.startswith("payload ")]
    assert len(ran) <= 1
    return "".join(ran)


def put(board: QemuBoard, index: int, torn: bytes) -> None:
    """The torn copy in its place, the older state whole in the other."""
    board.card.write_copy(1 - index, encode(BEFORE, len(torn), 8))
    board.card.write_copy(index, torn)


def assert_old_or_new(board: QemuBoard, index: int, torn: bytes, what: str) -> str:
    """The state that the copies amount to, by what starts and by what stands on the card afterwards."""
    put(board, index, torn)
    copy = decode(torn)
    new = copy is not None and copy.variables["ts_generation"] == "5"
    ran = start(board)
    found = board.card.variables()
    assert ran == ("b" if new else "a"), what
    assert found["slot"] == ran, what
    assert found["ts_generation"] == ("5" if new else "4"), what
    assert found.get("bootcount") == ("1" if new else None), what
    return ran


@pytest.mark.parametrize("index", [0, 1])
def test_every_prefix_of_a_torn_write_starts_the_older_state_and_only_the_whole_one_the_newer(
    board: QemuBoard, index: int
) -> None:
    size = board.files.board.environment.size
    old, new = encode(BEFORE, size, 7), encode(AFTER, size, 9)
    ran = [
        assert_old_or_new(board, index, new[:cut] + old[cut:], f"{cut} of {size} bytes of copy {index}")
        for cut in range(0, size + 1, SECTOR)
    ]
    behind = next(cut for cut in range(0, size + 1, SECTOR) if new[:cut] + old[cut:] == new)
    assert ran == ["a"] * (behind // SECTOR) + ["b"] * ((size - behind) // SECTOR + 1)
    assert 2 < behind // SECTOR < len(ran), "the content fills part of the copy; the rest is filling in both"


@pytest.mark.parametrize("seed", range(3))
def test_random_ranges_that_were_not_written_start_the_older_state(board: QemuBoard, seed: int) -> None:
    size, draw = board.files.board.environment.size, random.Random(seed)
    old, new = encode(BEFORE, size, 7), encode(AFTER, size, 9)
    for _ in range(4):
        torn = bytearray(new)
        first = draw.randrange(size)
        end = min(size, first + draw.choice([1, 16, SECTOR, 4 * SECTOR]))
        torn[first:end] = draw.choice([old[first:end], bytes(end - first), draw.randbytes(end - first)])
        what = f"bytes {first} to {end} of a copy, seed {seed}"
        assert_old_or_new(board, draw.randrange(2), bytes(torn), what)


@pytest.mark.parametrize("loss", ["torn", "zeros", "ones", "noise"])
def test_with_both_copies_lost_the_built_in_default_starts_a_whole_slot(board: QemuBoard, loss: str) -> None:
    size = board.files.board.environment.size
    old, new = encode(BEFORE, size, 7), encode(AFTER, size, 9)
    raw = {
        "torn": new[: 2 * SECTOR] + old[2 * SECTOR :],
        "zeros": bytes(size),
        "ones": b"\xff" * size,
        "noise": random.Random(1).randbytes(size),
    }[loss]
    for index in (0, 1):
        board.card.write_copy(index, raw)
    assert start(board) == "a"
    found = board.card.variables()
    assert (found["slot"], found["slot_a"], found["slot_b"], found["bootcount"]) == ("a", "good", "good", "1")
    assert "ts_generation" not in found, "the client sees that nothing was left"


def test_a_torn_copy_is_replaced_whole_by_the_next_try_that_is_counted(board: QemuBoard) -> None:
    size = board.files.board.environment.size
    trial = AFTER | {"ts_generation": "6"}
    board.card.write_copy(0, encode(AFTER, size, 8))
    board.card.write_copy(1, encode(trial, size, 9)[:SECTOR] + encode(BEFORE, size, 7)[SECTOR:])
    assert start(board) == "b"
    first, second = board.card.copies()
    assert second, "U-Boot saves its count over the copy that was torn"
    assert (second.variables["bootcount"], second.variables["ts_generation"]) == ("1", "5")
    assert first
    assert first.variables["ts_generation"] == "5"
