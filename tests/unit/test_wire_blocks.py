"""The head of a block list: what it says is in bounds, or it is refused with a sentence."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinslot.core.bounds import GROUP_SIZE_MAX, GROUPS_MAX
from twinslot.core.errors import ImageError
from twinslot.image.wire_blocks import (
    BLOCK_SIZE,
    BLOCKS_ENTRY_SIZE,
    BLOCKS_HEADER_SIZE,
    PACKED_EXTRA,
    BlocksEntry,
    BlocksHead,
    build_blocks_head,
    parse_blocks_head,
)

entries = st.builds(
    lambda groups, blocks, share: BlocksEntry(
        int(groups * (blocks * BLOCK_SIZE + PACKED_EXTRA) * share), groups, blocks * BLOCK_SIZE
    ),
    st.integers(1, GROUPS_MAX),
    st.integers(2, GROUP_SIZE_MAX // BLOCK_SIZE),
    st.floats(0, 1),
)
heads = st.builds(
    BlocksHead, st.binary(min_size=32, max_size=32), st.lists(entries, min_size=1, max_size=16).map(tuple)
)
SAMPLE = BlocksHead(bytes(32), (BlocksEntry(1000, 3, 65536), BlocksEntry(0, 1, 8192)))


@given(heads, st.binary(max_size=50))
def test_a_head_is_read_as_it_was_written_whatever_follows(head: BlocksHead, more: bytes) -> None:
    assert parse_blocks_head(build_blocks_head(head) + more) == head


@given(heads)
def test_all_parts_stand_without_gap_or_overlap(head: BlocksHead) -> None:
    spans = [head.spans(number) for number in range(len(head.entries))]
    parts = [part for lengths, sums, _ in spans for part in (lengths, sums)] + [packed for _, _, packed in spans]
    assert parts[0].offset == head.size
    assert all(one.end == other.offset for one, other in pairwise(parts))
    assert parts[-1].end == head.total


@given(st.binary(max_size=400))
def test_any_bytes_are_a_head_or_refused(data: bytes) -> None:
    with pytest.raises(ImageError):
        parse_blocks_head(data)


@given(st.integers(8, BLOCKS_HEADER_SIZE + 2 * BLOCKS_ENTRY_SIZE - 1), st.integers(0, 255))
def test_a_changed_byte_gives_another_head_in_bounds_or_none(at: int, value: int) -> None:
    data = bytearray(build_blocks_head(SAMPLE))
    data[at] = value
    try:
        head = parse_blocks_head(bytes(data))
    except ImageError:
        return
    assert all(entry.groups <= GROUPS_MAX and entry.group_size <= GROUP_SIZE_MAX for entry in head.entries)


@pytest.mark.parametrize("size", [0, 7, BLOCKS_HEADER_SIZE - 1, BLOCKS_HEADER_SIZE, BLOCKS_HEADER_SIZE + 31])
def test_a_head_that_is_cut_off_says_so(size: int) -> None:
    with pytest.raises(ImageError, match="ends inside its head") as error:
        parse_blocks_head(build_blocks_head(SAMPLE)[:size])
    assert error.value.code == "image.truncated"


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (BlocksEntry(0, 0, 65536), "groups"),
        (BlocksEntry(0, GROUPS_MAX + 1, 65536), "groups"),
        (BlocksEntry(0, 1, BLOCK_SIZE), "group size"),
        (BlocksEntry(0, 1, 9000), "group size"),
        (BlocksEntry(0, 1, 2 * GROUP_SIZE_MAX), "group size"),
        (BlocksEntry(65536 + PACKED_EXTRA + 1, 1, 65536), "packed"),
    ],
)
def test_a_number_out_of_bounds_is_refused(entry: BlocksEntry, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        build_blocks_head(BlocksHead(bytes(32), (entry,)))
