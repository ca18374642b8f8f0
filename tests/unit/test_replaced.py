"""Literals that repeat what they replace: found by one rule on both sides, bounded, and never believed."""

from __future__ import annotations

import ctypes
import random
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_samples import make_sample
from independent_patch_reader import Moves, Piece, apply_patch, replaced
from patch_samples import plain_list
from twinslot.core.errors import DeviceError
from twinslot.image.lzma2 import WIDE_WINDOW, Unpacker
from twinslot.image.patch import Op, PatchDecoder, parse_patch_head
from twinslot.image.replaced import REPLACED_MAX, RUN_MAX, PlacedOp, replaced_runs
from twinslot.image.wire_patch import PATCH_VERSION
from twinslot_image import liblzma
from twinslot_image.liblzma import pack_after
from twinslot_image.outputs import Target
from twinslot_image.patch import make_patch

GROUP = 64 * 1024
PAGE = 4096
SOURCE = random.Random(3)
KEPT = [SOURCE.randbytes(3 * PAGE) for _ in range(8)]
OLD_CODE = [SOURCE.randbytes(6000) for _ in range(8)]
# The same code, but so that no sixteen bytes in a row are as they were: what the search cannot find.
NEW_CODE = [bytes(byte ^ (index % 15 == 0) for index, byte in enumerate(code)) for code in OLD_CODE]
OLD = b"".join(kept + code for kept, code in zip(KEPT, OLD_CODE, strict=True))
NEW = b"".join(kept + code for kept, code in zip(KEPT, NEW_CODE, strict=True))


def patch(folder: Path, old: bytes = OLD, new: bytes = NEW, newest: int = PATCH_VERSION) -> bytes:
    folder.mkdir(exist_ok=True)
    (folder / "old.img").write_bytes(old)
    (folder / "new.twin").write_bytes(make_sample({"rootfs": new}, group_size=GROUP).data)
    make_patch(folder / "old.img", folder / "new.twin", Target(folder / "patch"), newest=newest)
    return (folder / "patch").read_bytes()


def apply(data: bytes, base: bytes, old: bytes = OLD) -> dict[int, bytes | None]:
    head = parse_patch_head(data)
    part = head.payload("rootfs")
    decoder = PatchDecoder(part, part.new_plain_list(plain_list(old, GROUP)), lambda at, size: base[at : at + size])
    return dict(decoder.groups([data[head.length :]]))


def groups(content: bytes) -> dict[int, bytes]:
    return {at // GROUP: content[at : at + GROUP] for at in range(0, len(content), GROUP)}


def test_code_that_was_compiled_anew_costs_what_is_new_in_it(tmp_path: Path) -> None:
    data, before = patch(tmp_path / "3"), patch(tmp_path / "2", newest=2)
    assert parse_patch_head(data).version == PATCH_VERSION
    assert apply(data, OLD) == groups(NEW) == apply_patch(data, OLD)
    assert apply(before, OLD) == groups(NEW)
    assert len(data) < 0.8 * len(before)


def test_a_base_damaged_where_something_is_replaced_costs_groups_and_gives_no_wrong_ones(
    tmp_path: Path,
) -> None:
    data, base = patch(tmp_path), bytearray(OLD)
    base[3 * PAGE + 1000] ^= 1
    made = apply(data, bytes(base))
    assert None in made.values()
    assert all(plain is None or plain == groups(NEW)[index] for index, plain in made.items())


def test_a_base_that_cannot_be_read_there_costs_groups_and_gives_no_wrong_ones(tmp_path: Path) -> None:
    data = patch(tmp_path)
    head = parse_patch_head(data)
    part = head.payload("rootfs")

    def read(at: int, size: int) -> bytes:
        if at <= 3 * PAGE + 2000 < at + size:
            raise OSError(5, "Input/output error")
        return OLD[at : at + size]

    made = dict(PatchDecoder(part, plain_list(NEW, GROUP), read).groups([data[head.length :]]))
    assert None in made.values()
    assert all(plain is None or plain == groups(NEW)[index] for index, plain in made.items())


kinds = st.sampled_from(list(Op))
steps = st.lists(
    st.tuples(kinds, st.sampled_from([1, 7, 100, 5000, 40_000]), st.integers(-50_000, 50_000)), max_size=40
)


@pytest.mark.verifies("S9")
@given(steps, st.integers(1, 500_000))
@settings(max_examples=200, deadline=None)
def test_the_runs_are_those_of_the_page_inside_the_base_and_bounded(
    ops: list[tuple[Op, int, int]], base_size: int
) -> None:
    placed, numbers, jumps, at, distance = list[PlacedOp](), list[int](), list[int](), 0, 0
    for kind, size, jump in ops:
        numbers.append(size << 2 | kind)
        if kind in (Op.COPY, Op.ADD):
            step = max(jump, -at - distance)
            jumps.append(2 * step if step >= 0 else -2 * step - 1)
            distance += step
        placed.append(PlacedOp(kind, size, at + distance))
        at += size
    found = list(replaced_runs(placed, base_size))
    assert found == replaced(Piece(numbers, jumps, Moves(b"", b""), b"", b""), base_size, [(0, at)])
    assert all(0 <= start < start + length <= base_size and length <= RUN_MAX for start, length in found)
    assert sum(length for _, length in found) <= REPLACED_MAX


@pytest.mark.verifies("S9")
def test_a_piece_that_replaces_very_much_takes_less_than_two_mebibytes() -> None:
    many = [PlacedOp(Op.COPY, 1, 0), *[PlacedOp(Op.LITERAL, RUN_MAX, 0), PlacedOp(Op.COPY, 1, RUN_MAX + 1)] * 1000]
    stored = pack_after(b"", bytes(8 * 1024 * 1024), WIDE_WINDOW)
    assert sum(length for _, length in replaced_runs(many, 2**40)) == REPLACED_MAX
    tracemalloc.start()
    stream = Unpacker(stored, WIDE_WINDOW)
    stream.put_before(bytes(length) for _, length in replaced_runs(many, 2**40))
    assert len(stream.take(GROUP)) == GROUP
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 1024 * 1024 < peak < 2 * 1024 * 1024


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=5), st.binary(max_size=2000), st.integers(1, 700))
@settings(deadline=None)
def test_a_stream_after_a_window_comes_out_in_any_portions(runs: list[bytes], data: bytes, cut: int) -> None:
    before = b"".join(runs)
    data += before[:500] + data
    stream = Unpacker(pack_after(before, data, WIDE_WINDOW), WIDE_WINDOW)
    stream.put_before(runs)
    made = b"".join(stream.take(min(cut, len(data) - at)) for at in range(0, len(data), cut))
    assert made == data


def test_without_the_library_the_tool_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: object) -> object:
        raise OSError("no such file")

    liblzma._library.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(DeviceError, match=r"'patch' needs liblzma \(hint: install liblzma5\)"):
        pack_after(b"before", b"data", WIDE_WINDOW)
