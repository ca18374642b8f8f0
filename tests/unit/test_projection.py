"""Words that refer to what has moved: predicted as the page says, never worse than without, whatever a file says."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from elf_samples import PAGE, Program, a64_program, lying
from elf_samples_code import (
    ARM,
    X86_64,
    Emit,
    arm_absolute_slot,
    arm_slot,
    code_program,
    thumb_slot,
    x86_absolute_slot,
    x86_slot,
)
from image_samples import make_sample
from independent_patch_reader import Moves, apply_patch, expected
from patch_samples import plain_list
from twinslot.image.lzma2 import PackedError
from twinslot.image.patch import PatchDecoder, parse_patch_head
from twinslot.image.projection import CODES, PART, SHIFTS_MAX, TABLES, Projection
from twinslot.image.wire_patch import PATCH_VERSION, PIECE_COLUMNS, build_varints, from_signed
from twinslot_image import patch_search
from twinslot_image.outputs import Target
from twinslot_image.patch import make_patch

GROUP = 64 * 1024
KINDS = sorted(CODES | TABLES)
HUGE = 2**63 - 1

a64_words = st.one_of(
    st.integers(0, 2**32 - 1),
    st.builds(lambda top, rest: top << 26 | rest & 0x3FFFFFF, st.sampled_from([5, 37]), st.integers(-3000, 3000)),
    st.builds(
        lambda top, rest, low: top << 24 | (rest & 0x7FFFF) << 5 | low,
        st.sampled_from([0x34, 0x35, 0x54, 0xB4, 0xB5, 0x10, 0x30, 0x50, 0x70, 0x90, 0xB0, 0xD0, 0xF0]),
        st.integers(-5, 5),
        st.integers(0, 31),
    ),
    st.builds(
        lambda top, low, one, two: top << 22 | low << 10 | one << 5 | two,
        st.sampled_from([0x244, 0xE4, 0xE5, 0x3E5, 0xF6, 0xF7]),
        st.integers(0, 4095),
        st.integers(0, 3),
        st.integers(0, 3),
    ),
    st.integers(-4000, 4000).map(lambda value: value % 2**32),
)
small = st.integers(-40, 40)
arm_words = st.one_of(
    st.builds(lambda top, value: top << 24 | value % 2**24, st.sampled_from([0xEA, 0xEB, 0x0A, 0xFB]), small),
    st.builds(lambda register: 0xE08F0000 | register << 12 | register, st.integers(0, 3)),
    st.builds(
        lambda up, register, offset: 0xE51F0000 | up << 23 | register << 12 | 4 * offset,
        st.integers(0, 1),
        st.integers(0, 3),
        st.integers(0, 20),
    ),
    small.map(lambda value: 2**31 + value if value < 0 else value),
)
THUMBS = st.sampled_from([0x4478, 0x4479, 0x44FB, 0x4802, 0x4903, 0x4A01, 0xF8DF, 0x0008, 0xB00C, 0xF000, 0xBF00])
thumb_words = st.one_of(
    st.builds(
        lambda one, sign, two, j, value: one << 11 | sign << 10 | 1023 * sign | (two | j << 11 | value % 2048) << 16,
        st.just(30),
        st.integers(0, 1),
        st.sampled_from([0x8000, 0x9000, 0xC000, 0xD000]),
        st.sampled_from([0, 1, 4, 5]),
        st.integers(0, 2047),
    ),
    st.builds(lambda one, two: two << 16 | one, THUMBS, THUMBS),
)
x86_words = st.one_of(
    st.integers(-300, 300).map(lambda value: value % 2**32),
    st.sampled_from([0xE8, 0xE9 << 24, 0x850F, 0x058D48, 0x3D8B0000, 0x05C6E8E8, 0x0FE9800F, 0xFF000515]),
)
all_words = st.one_of(a64_words, arm_words, thumb_words, x86_words)
numbers = st.one_of(st.integers(0, 40_000), st.integers(0, HUGE))
steps = st.one_of(st.integers(-5000, 5000), st.integers(-(2**40), 2**40)).map(from_signed)


@st.composite
def area_lists(draw: st.DrawFn) -> bytes:
    areas = st.tuples(st.integers(0, 300), st.integers(1, 20_000), st.sampled_from(KINDS), steps, steps)
    return build_varints(number for area in draw(st.lists(areas, max_size=5)) for number in area)


@st.composite
def shift_lists(draw: st.DrawFn) -> bytes:
    found = [draw(st.integers(0, 3000))]
    for _ in range(draw(st.integers(0, 8))):
        found += [draw(steps), draw(st.integers(0, 30_000))]
    return build_varints(found)


@pytest.mark.slow
@given(
    st.lists(all_words, min_size=1, max_size=120),
    st.integers(0, 200),
    st.integers(0, 9),
    st.integers(-100, 3000),
    area_lists(),
    shift_lists(),
)
@settings(max_examples=400, deadline=None)
def test_a_device_predicts_what_the_page_says(
    words: list[int], place: int, cut: int, distance: int, areas: bytes, shifts: bytes
) -> None:
    part = struct.pack(f"<{len(words)}I", *words)
    part = part[: max(len(part) - cut, 0)] or b"x"
    distance = max(distance, -place)
    op = range(place + distance, place + distance + len(part))
    found = Projection(areas, shifts).predict(part, place, distance, (op.start, op.stop))
    assert found == expected(part, place, distance, op, Moves(areas, shifts))


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_an_op_are_predicted_one_after_another(kind: int) -> None:
    base = bytes(range(4, 252, 4)) * 700
    areas = build_varints([100, 30_000, kind, from_signed(64), 0, 8, 9000, 6, 0, 0])
    shifts = build_varints([0, from_signed(32), 2**40])
    device, made = Projection(areas, shifts), b""
    for at in range(0, len(base), PART):
        made += device.predict(base[at : at + PART], at, 0, (0, len(base)))
    moves, op = Moves(areas, shifts), range(len(base))
    parts = [expected(base[at : at + PART], at, 0, op, moves) for at in range(0, len(base), PART)]
    assert made == b"".join(parts)
    assert made[39_108:] == base[39_108:]


@pytest.mark.verifies("S9")
@pytest.mark.parametrize(
    ("areas", "shifts", "why"),
    [
        ([0, 0, 0, 0, 0], [], "an area that cannot be"),
        ([0, 8, 12, 0, 0], [], "an area that cannot be"),
        ([0, 8, 0, 0], [], "the areas end too early"),
        ([0, 8, 0, 0, 0], [1, 2], "shifts without an end"),
        ([0, 8, 0, 0, 0], [1, *[2, 1] * (SHIFTS_MAX + 1)], "more shifts than a piece may have"),
        ([0, 8, 0, 0, 0], [HUGE, 2, HUGE], "shifts that cannot be"),
    ],
)
def test_areas_and_shifts_that_make_no_sense_are_refused(areas: list[int], shifts: list[int], why: str) -> None:
    with pytest.raises(PackedError, match=why):
        Projection(build_varints(areas), build_varints(shifts)).predict(bytes(64), 0, 0, (0, 64))


@given(st.binary(max_size=60), st.binary(max_size=60), st.lists(all_words, min_size=20, max_size=20))
@settings(max_examples=150, deadline=None)
@example(build_varints([0, HUGE, 0, from_signed(-HUGE // 2), 0]), build_varints([0, from_signed(HUGE // 2), HUGE]), [0])
@example(build_varints([0, HUGE, 6, from_signed(HUGE // 2), 0]), b"\0\1\1", [2**32 - 1] * 8)
def test_noise_in_areas_and_shifts_predicts_something_or_is_refused(
    areas: bytes, shifts: bytes, words: list[int]
) -> None:
    part = struct.pack(f"<{len(words)}I", *words)
    try:
        found = Projection(areas, shifts).predict(part, 0, 0, (0, len(part)))
    except PackedError:
        return
    assert len(found) == len(part)


def payload(*programs: bytes) -> bytes:
    """Files that begin at pages, in no file system."""
    files = (program + bytes(-len(program) % PAGE) for program in programs)
    return b"".join(files)


def patch(folder: Path, old: bytes, new: bytes, newest: int = PATCH_VERSION) -> bytes:
    folder.mkdir(exist_ok=True)
    (folder / "old.img").write_bytes(old)
    (folder / "new.twin").write_bytes(make_sample({"rootfs": new}, group_size=GROUP).data)
    make_patch(folder / "old.img", folder / "new.twin", Target(folder / "patch"), newest=newest)
    return (folder / "patch").read_bytes()


def apply(data: bytes, old: bytes, new: bytes) -> None:
    """By the device's decoder and by the one that was written from the page alone."""
    head = parse_patch_head(data)
    part = head.payload("rootfs")
    new_list = part.new_plain_list(plain_list(old, GROUP))
    made = dict(PatchDecoder(part, new_list, lambda at, size: old[at : at + size]).groups([data[head.length :]]))
    assert made == {index: new[index * GROUP : (index + 1) * GROUP] for index in made}
    assert apply_patch(data, old) == made
    kept = [made.get(i) or old[i * GROUP : (i + 1) * GROUP] for i in range(part.groups)]
    assert b"".join(kept) == new


INSERTED = {20: 24, 111: 8, 230: 64, 333: 120}


PROGRAMS: dict[str, Callable[[int, dict[int, int]], Program]] = {
    "A64": a64_program,
    "A32": partial(code_program, ARM, arm_slot),
    "T32": partial(code_program, ARM, thumb_slot),
    "x86-64": partial(code_program, X86_64, x86_slot),
}


@pytest.mark.parametrize("code", PROGRAMS)
def test_code_whose_targets_moved_costs_less_than_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    old, new = (payload(PROGRAMS[code](1, inserted).build()) for inserted in ({}, INSERTED))
    data = patch(tmp_path / "new", old, new)
    apply(data, old, new)
    monkeypatch.setattr(patch_search, "look", lambda *_: False)
    plain = patch(tmp_path / "plain", old, new)
    apply(plain, old, new)
    assert len(data) < 0.5 * len(plain)


@pytest.mark.parametrize(("machine", "emit"), [(X86_64, x86_absolute_slot), (ARM, arm_absolute_slot)])
def test_a_program_that_always_lies_at_one_address_costs_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: int, emit: Emit
) -> None:
    """Its calls are followed, the addresses in its instructions stay as they are (docs/decisions/0074)."""
    old, new = (payload(code_program(machine, emit, 1, insert).build(e_type=2)) for insert in ({}, INSERTED))
    data = patch(tmp_path / "new", old, new)
    apply(data, old, new)
    monkeypatch.setattr(patch_search, "look", lambda *_: False)
    plain = patch(tmp_path / "plain", old, new)
    assert len(data) < len(plain)


def test_what_an_old_client_can_read_is_of_its_format(tmp_path: Path) -> None:
    old = bytes(range(256)) * 1000
    data = patch(tmp_path, old, bytes(PAGE) + old)
    assert parse_patch_head(data).version == 1


@pytest.mark.parametrize("newest", PIECE_COLUMNS)
def test_a_fleet_with_old_clients_gets_a_format_that_they_read(tmp_path: Path, newest: int) -> None:
    old, new = (payload(a64_program(1, place).build(), b"new" * length) for place, length in (({}, 0), (INSERTED, 99)))
    data = patch(tmp_path, old, new, newest)
    apply(data, old, new)
    assert parse_patch_head(data).version == newest


header_numbers = st.one_of(st.integers(0, 300), st.integers(0, 20_000), st.sampled_from([2**31, 2**63, 2**64 - 1]))
headers = st.dictionaries(
    st.sampled_from(["e_type", "e_phoff", "e_shoff", "e_phnum", "e_shnum", "e_shentsize", "e_phentsize"]),
    header_numbers,
    max_size=3,
)
sections = st.dictionaries(st.sampled_from(["address", "offset", "size", "kind", "flags"]), header_numbers, max_size=3)
_WIDTH = {"e_phoff": 64, "e_shoff": 64, "address": 64, "offset": 64, "size": 64, "kind": 32, "flags": 64}


@pytest.mark.slow
@given(headers, sections, st.integers(0, 3))
@settings(max_examples=5, deadline=None)
@example({"e_shoff": 2**63}, {}, 0)
@example({}, {"offset": 2**64 - 1, "size": 2**64 - 1}, 2)
@example({}, {"offset": 0, "size": 60_000, "flags": 6, "kind": 1}, 1)
@example({}, {"offset": 0x1234, "size": 60_000, "flags": 3, "kind": 4}, 3)
@example({"e_shnum": 65_535}, {"address": 2**63}, 2)
def test_programs_whose_headers_lie_cost_nothing_more(
    tmp_path_factory: pytest.TempPathFactory, fields: dict[str, int], changes: dict[str, int], number: int
) -> None:
    folder = tmp_path_factory.mktemp("lying")
    cut = {name: value % 2 ** _WIDTH.get(name, 16) for name, value in (fields | changes).items()}
    header = {name: cut[name] for name in fields}
    section = {name: cut[name] for name in changes}
    old = payload(lying(a64_program(2, {}), number, **section).build(**header))
    new = payload(lying(a64_program(2, INSERTED), number, **section).build(**header))
    data = patch(folder / "new", old, new)
    apply(data, old, new)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(patch_search, "look", lambda *_: False)
        plain = patch(folder / "plain", old, new)
    assert len(data) <= len(plain)
