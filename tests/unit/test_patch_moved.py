"""What moved by less than a page, as in file systems with small blocks, is copied, and not searched for."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_samples import make_sample
from twinslot.image.patch import Op
from twinslot_image.outputs import Target
from twinslot_image.patch import make_patch
from twinslot_image.patch_moved import UNIT, find_moved, without
from twinslot_image.patch_search import PatchSearch
from twinslot_image.patch_sources import read_content

OLD = random.Random(1).randbytes(64 * UNIT) + bytes(16 * UNIT) + random.Random(2).randbytes(64 * UNIT)


def moved(old: bytes, new: bytes) -> list[tuple[int, int, int]]:
    before, after = (np.frombuffer(data, np.uint8) for data in (old, new))
    found = find_moved(before, after, [(0, len(old))], [(0, len(new))])
    assert all(stretch.op is Op.COPY for stretch in found)
    for one in found:
        assert new[one.start : one.end] == old[one.start + one.distance : one.end + one.distance]
    return [(one.start, one.end, one.distance) for one in found]


def test_a_file_that_moved_by_one_small_block_is_one_copy() -> None:
    assert moved(OLD, bytes(UNIT) + OLD) == [(UNIT, UNIT + len(OLD), -UNIT)]


def test_a_change_in_the_middle_leaves_two_copies() -> None:
    new = bytearray(bytes(UNIT) + OLD)
    new[30 * UNIT + 5] ^= 1
    assert moved(OLD, bytes(new)) == [(UNIT, 30 * UNIT, -UNIT), (31 * UNIT, UNIT + len(OLD), -UNIT)]


def test_few_blocks_in_a_row_are_left_to_the_search() -> None:
    assert moved(OLD, b"x" * UNIT + OLD[: 7 * UNIT] + b"x" * UNIT) == []
    assert moved(OLD[:5], OLD) == []


@given(st.lists(st.tuples(st.integers(0, 143), st.integers(1, 60)), max_size=5), st.integers(0, 3000))
@settings(max_examples=50, deadline=None)
def test_copies_never_lie(parts: list[tuple[int, int]], lead: int) -> None:
    new = b"y" * lead + b"".join(OLD[at * UNIT : (at + count) * UNIT] for at, count in parts)
    found = moved(OLD, new) if new else []
    assert found == sorted(found)


@given(st.sets(st.integers(0, 60), max_size=20), st.sets(st.integers(0, 60), max_size=10))
def test_what_is_left_of_ranges_is_what_was_not_taken(whole: set[int], part: set[int]) -> None:
    ranges, taken = ([(at, at + 1) for at in sorted(one)] for one in (whole, whole & part))
    assert [at for at, _ in without(ranges, taken)] == sorted(whole - part)
    assert list(without([(0, 61)], taken)) == [] or taken != [(0, 61)]


@pytest.mark.parametrize("changed", [0, 1])
def test_the_work_follows_what_changed_and_not_what_moved(tmp_path: Path, changed: int) -> None:
    new = bytearray(b"z" * UNIT + OLD)
    new[100 * UNIT] ^= changed
    (tmp_path / "old").write_bytes(OLD)
    (tmp_path / "new").write_bytes(new)
    sides = [read_content("rootfs", tmp_path / name, 16 * UNIT) for name in ("old", "new")]
    search = PatchSearch(sides[0], sides[1], tmp_path)
    assert search.work <= (2 + 2 * changed) * 4 * UNIT
    (tmp_path / "new.twin").write_bytes(make_sample({"rootfs": bytes(new)}, group_size=16 * UNIT).data)
    make_patch(tmp_path / "old", tmp_path / "new.twin", Target(tmp_path / "patch"))
    assert (tmp_path / "patch").stat().st_size < 3000
