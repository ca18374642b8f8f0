"""Finding blocks: what is put together is what the base holds, and nothing is claimed that it does not hold."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinslot.image import block_index as blocks
from twinslot.image.block_index import BlockIndex, block_sums, numbers
from twinslot.image.wire_blocks import BLOCK_SIZE

GROUP_BLOCKS = 4
KINDS = [bytes(BLOCK_SIZE), *(random.Random(n).randbytes(BLOCK_SIZE) for n in range(6))]

contents = st.lists(st.integers(0, len(KINDS) - 1), max_size=24)


def content_of(kinds: list[int]) -> bytes:
    return b"".join(KINDS[kind] for kind in kinds)


def index_of(wanted: list[bytes], base: bytes, step: int = 3) -> BlockIndex:
    index = BlockIndex(GROUP_BLOCKS)
    for number, group in enumerate(wanted):
        index.add(number, block_sums(group))
    index.make_searchable()
    for first in range(0, len(base) // BLOCK_SIZE + 1, step):
        index.show(first, base[first * BLOCK_SIZE : (first + step) * BLOCK_SIZE])
    return index


def put_together(index: BlockIndex, group: int, base: bytes) -> bytes:
    return b"".join(
        bytes(count * BLOCK_SIZE)
        if first is None
        else base[first * BLOCK_SIZE : (first + count) * BLOCK_SIZE].ljust(count * BLOCK_SIZE, b"?")
        for first, count in index.runs(group)
    )


@given(st.lists(st.lists(st.integers(0, 6), min_size=4, max_size=4), min_size=1, max_size=5), contents)
def test_exactly_the_groups_whose_blocks_the_base_holds_can_be_put_together(
    wanted: list[list[int]], held: list[int]
) -> None:
    base = content_of(held)
    index = index_of([content_of(kinds) for kinds in wanted], base)
    for group, kinds in enumerate(wanted):
        assert index.has(group) == (set(kinds) <= {0, *held})
        if index.has(group):
            assert put_together(index, group, base) == content_of(kinds)


def test_neighbours_in_the_base_are_one_run() -> None:
    base = content_of([1, 2, 3, 4, 5])
    index = index_of([content_of([2, 3, 4, 0])], base)
    assert list(index.runs(0)) == [(1, 3), (None, 1)]


def test_a_block_that_is_cut_off_at_the_end_of_the_base_is_not_held() -> None:
    index = index_of([content_of([1, 1, 1, 1])], KINDS[1][:-1])
    assert not index.has(0)


def test_a_group_that_was_not_asked_for_is_not_held() -> None:
    assert not index_of([content_of([0, 0, 0, 0])], b"").has(7)


def test_a_base_of_one_block_over_and_over_costs_one_look_at_the_table() -> None:
    base, wanted = KINDS[1] * 500, [KINDS[1] * GROUP_BLOCKS] * 500
    index = index_of(wanted, base, step=500)
    assert all(index.has(group) and next(iter(index.runs(group)))[0] == 0 for group in range(500))


def test_more_blocks_than_memory_is_meant_for_are_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCKS_MAX", 2 * GROUP_BLOCKS)
    index = BlockIndex(GROUP_BLOCKS)
    for number in range(2):
        assert not index.full
        index.add(number, bytes(16))
    assert index.full


def test_sums_are_those_of_zlib_little_endian() -> None:
    assert list(numbers(block_sums(content_of([1, 0])))) == [zlib.crc32(KINDS[1]), zlib.crc32(KINDS[0])]
    assert numbers(b"\1\2\0\0")[0] == 0x201
