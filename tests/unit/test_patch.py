"""Applying patches: what comes out is right or does not come out, whatever the patch says and the base holds."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import construct
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from patch_samples import (
    GROUP,
    NEW,
    OLD,
    RECIPES,
    SAMPLE,
    Recipe,
    Streams,
    assemble,
    entry_for,
    make,
    plain_list,
    streams,
)
from twinslot.core.errors import ImageError, LifecycleError
from twinslot.image import wire_patch
from twinslot.image.lzma2 import PackedError, Unpacker, pack
from twinslot.image.patch import Op, PatchDecoder, PatchHead, add_words, parse_patch_head, patch_head_length
from twinslot.image.wire_patch import (
    CONTROL_MAX,
    PATCH_HEADER,
    PATCH_HEADER_SIZE,
    PatchHeader,
    build_patch_header,
    build_varints,
    parse_patch_header,
    piece_max,
    read_varints,
)

LIST = plain_list(NEW)
PATCHES = Path(__file__).parents[1] / "data/0.1.0/patches"  # one of each format
CHANGED = [1, 3, 4, 5]


class Base:
    """A base payload that notes what was asked of it."""

    def __init__(self, data: bytes = OLD) -> None:
        self.data = data
        self.asked: list[tuple[int, int]] = []

    def read(self, offset: int, length: int) -> bytes:
        self.asked.append((offset, length))
        assert 0 <= offset <= offset + length <= len(self.data), "asked for what is not there"
        assert length <= 64 * 1024
        return self.data[offset : offset + length]


def apply(data: bytes, base: Base | None = None, cut: int = 1000, new_list: bytes = LIST) -> dict[int, bytes | None]:
    """Whatever a device gets out of a patch."""
    head = parse_patch_head(data)
    part = head.payload("rootfs")
    body = data[head.length :]
    chunks = (body[at : at + cut] for at in range(0, len(body), cut))
    return dict(PatchDecoder(part, new_list, (base or Base()).read).groups(chunks))


def group(index: int) -> bytes:
    return NEW[index * GROUP : (index + 1) * GROUP]


def test_a_patch_makes_the_changed_groups_and_no_others() -> None:
    assert apply(SAMPLE) == {index: group(index) for index in CHANGED}


@pytest.mark.parametrize("cut", [1, 7, 100, 10**6])
def test_it_does_not_matter_how_the_file_is_cut(cut: int) -> None:
    assert apply(SAMPLE, cut=cut) == {index: group(index) for index in CHANGED}


def test_a_device_that_knows_its_base_completes_the_list_without_fetching_it() -> None:
    part = parse_patch_head(SAMPLE).payload("rootfs")
    assert part.new_plain_list(plain_list(OLD)) == LIST
    assert [changed.index for changed in part.changed] == CHANGED
    with pytest.raises(ImageError, match="plain list of the base of payload 'rootfs': expected '160 bytes'"):
        part.new_plain_list(plain_list(OLD)[:-32])
    with pytest.raises(KeyError):
        parse_patch_head(SAMPLE).payload("firmware")


def test_after_a_cut_it_goes_on_from_a_piece() -> None:
    part = parse_patch_head(SAMPLE).payload("rootfs")
    start = part.pieces[1].offset
    found = dict(PatchDecoder(part, LIST, Base().read).groups([SAMPLE[start:]], first=1))
    assert found == {4: group(4), 5: group(5)}
    assert part.pieces[-1].offset + part.pieces[-1].length == len(SAMPLE)


def test_a_damaged_base_costs_the_groups_that_used_it_and_no_more() -> None:
    damaged = bytearray(OLD)
    damaged[GROUP + 100] ^= 1  # only group 1 comes from there
    assert apply(SAMPLE, Base(bytes(damaged))) == {1: None, 3: group(3), 4: group(4), 5: group(5)}


@pytest.mark.parametrize("kind", ["error", "short"])
def test_a_base_that_cannot_be_read_costs_the_groups_that_used_it(kind: str) -> None:
    def read(offset: int, length: int) -> bytes:
        if offset >= GROUP:
            if kind == "error":
                raise OSError(5, "Input/output error")
            return b"short"
        return OLD[offset : offset + length]

    head = parse_patch_head(SAMPLE)
    found = dict(PatchDecoder(head.payload("rootfs"), LIST, read).groups([SAMPLE[head.length :]]))
    assert found == {1: None, 3: group(3), 4: group(4), 5: group(5)}


@pytest.mark.verifies("S2")
def test_nothing_leaves_that_is_not_in_the_list_even_when_the_patch_vouches_for_it() -> None:
    other = NEW[: 3 * GROUP] + b"evil".ljust(GROUP, b"!") + NEW[4 * GROUP :]
    recipes: list[list[Recipe]] = [[(1, RECIPES[0][0][1]), (3, [(Op.LITERAL, 0)])], RECIPES[1]]
    assert apply(make(OLD, other, recipes)) == {1: group(1), 3: None, 4: group(4), 5: group(5)}


def test_a_patch_that_is_cut_off_says_so_after_what_was_whole() -> None:
    head = parse_patch_head(SAMPLE)
    part = head.payload("rootfs")
    groups = PatchDecoder(part, LIST, Base().read).groups([SAMPLE[head.length : -1]])
    assert [next(groups), next(groups)] == [(1, group(1)), (3, group(3))]
    with pytest.raises(ImageError, match="the patch ends inside its piece 1") as caught:
        next(groups)
    assert caught.value.code == "image.truncated"


def test_a_head_that_is_cut_off_anywhere_is_refused() -> None:
    for length in range(parse_patch_head(SAMPLE).length):
        with pytest.raises(ImageError) as caught:
            parse_patch_head(SAMPLE[:length])
        assert caught.value.code == "image.truncated", length


def test_a_flipped_bit_anywhere_gives_an_error_or_a_missing_group_never_a_wrong_one() -> None:
    for at in range(len(SAMPLE)):
        data = bytearray(SAMPLE)
        data[at] ^= 1 << at % 8
        try:
            found = apply(bytes(data))
        except ImageError:
            continue
        assert all(plain is None or plain == group(index) for index, plain in found.items()), at


@given(st.binary(max_size=300))
def test_noise_is_refused(noise: bytes) -> None:
    for data in (noise, SAMPLE[:8] + noise, SAMPLE[:PATCH_HEADER_SIZE] + noise):
        with pytest.raises(ImageError):
            parse_patch_head(data)


@given(st.integers(0, 2**21), st.integers(0, 2**21), st.integers(0, 2**19), st.integers(0, 2**39))
@example(2**32 - 1, 2**32 - 1, 2**32 - 1, 2**64 - 1)
def test_lengths_of_a_header_are_bounded_before_anything_is_allocated(a: int, b: int, c: int, d: int) -> None:
    data = PATCH_HEADER.build({"magic": SAMPLE[:8], "version": 1, "packed": a, "table": b, "changed": c, "pieces": d})
    if a <= 2**20 and b <= 2**20 and c <= 2**18 and d <= c * piece_max(2**20):
        assert patch_head_length(data) == 32 + a + 32 * c
    else:
        with pytest.raises(ImageError, match="the patch's length of"):
            patch_head_length(data)


@pytest.mark.parametrize(("newest", "sample"), [(1, 2), (1, 3), (2, 3)])
def test_a_client_of_before_refuses_a_newer_patch_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, newest: int, sample: int
) -> None:
    """What such a client knows is its table of formats; nothing else of the head is looked at before."""
    known = {version: columns for version, columns in wire_patch.PIECE_COLUMNS.items() if version <= newest}
    monkeypatch.setattr(wire_patch, "PIECE_COLUMNS", known)
    monkeypatch.setattr(wire_patch, "PATCH_VERSION", newest)
    for version in range(1, newest + 1):
        assert parse_patch_head((PATCHES / f"format-{version}.twinpatch").read_bytes()).version == version
    with pytest.raises(ImageError) as caught:
        parse_patch_head((PATCHES / f"format-{sample}.twinpatch").read_bytes())
    assert str(caught.value) == (
        f"this is not a patch that this client knows: version: expected '1 to {newest}', found '{sample}' "
        "(hint: install from the image without a patch)"
    )


def test_another_format_is_refused_with_a_hint() -> None:
    with pytest.raises(ImageError, match=r"version: expected '1 to 3', found '4' \(hint: install from the image"):
        parse_patch_head(SAMPLE[:8] + b"\4" + SAMPLE[9:])
    with pytest.raises(ImageError, match="not a patch"):
        parse_patch_head(b"\x89TWIN\r\n\x1a" + SAMPLE[8:])


def with_entry(**changes: object) -> bytes:
    made = [streams(OLD, NEW, piece) for piece in RECIPES]
    entry = replace(entry_for(OLD, NEW, CHANGED, made), **changes)  # type: ignore[arg-type]
    return assemble([entry], b"".join(LIST[32 * i : 32 * i + 32] for i in CHANGED), made)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "../etc"},
        {"name": ""},
        {"group_size": 4097},
        {"group_size": 2**31},
        {"group_size": 0},
        {"size": 0},
        {"size": 2**63},
        {"base_size": 2**63},
        {"size": 2 * GROUP},
        {"changed": 3},
        {"changed": 2**31},
        {"pieces": 3},
        {"pieces": 5},
        {"runs": b""},
        {"runs": build_varints([1, 1, 1])},
        {"runs": build_varints([1, 0, 1, 4])},
        {"runs": build_varints([1, 1, 0, 3])},
        {"runs": build_varints([1, 1, 3, 3])},
        {"runs": build_varints([2**62, 4])},
        {"runs": b"\xff" * 9},
        {"runs": b"\x80"},
        {"columns": b""},
        {"columns": build_varints([0, 1, 1, 1, 1, 1] * 2)},
        {"columns": build_varints([2, piece_max(GROUP) + 1, 1, 1, 0, 0, 2, 1, 1, 1, 1, 1])},
        {"columns": build_varints([2, 30, CONTROL_MAX, 1, 30, 30] * 2)},
        {"columns": build_varints([2, 2**62, 2**62, 2**62, 2**62, 2**62] * 2)},
        {"columns": build_varints([2, 1, 1, 1, 1, 1] * 2)},
    ],
    ids=str,
)
def test_a_table_that_cannot_be_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ImageError) as caught:
        parse_patch_head(with_entry(**changes))
    assert caught.value.code == "image.patch-table"


def test_a_table_of_a_mebibyte_of_tiny_numbers_takes_a_bounded_amount_of_memory() -> None:
    count = 131_000
    runs, columns = build_varints([1, 1] * count), build_varints([1, 0, 1, 0, 0, 0] * (count * 4 // 5))
    data = with_entry(size=2**18 * GROUP, changed=count, pieces=count, runs=runs, columns=columns)
    header = replace(parse_patch_header(data), changed=count)
    data = build_patch_header(header) + data[PATCH_HEADER_SIZE:].ljust(header.head, b"x")
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match="table: pieces"):
            parse_patch_head(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 32 * 1024 * 1024


def test_payloads_stand_sorted_and_once() -> None:
    made = [streams(OLD, NEW, piece) for piece in RECIPES]
    entry = entry_for(OLD, NEW, CHANGED, made)
    digests = b"".join(LIST[32 * i : 32 * i + 32] for i in CHANGED)
    with pytest.raises(ImageError, match="names of payloads"):
        parse_patch_head(assemble([entry, entry], digests * 2, made * 2))


def test_two_payloads_follow_each_other() -> None:
    made = [streams(OLD, NEW, piece) for piece in RECIPES]
    entry = entry_for(OLD, NEW, CHANGED, made)
    digests = b"".join(LIST[32 * i : 32 * i + 32] for i in CHANGED)
    data = assemble([replace(entry, name="firmware"), entry], digests * 2, made * 2)
    head = parse_patch_head(data)
    assert [part.name for part in head.payloads] == ["firmware", "rootfs"]
    for part in head.payloads:
        found = dict(PatchDecoder(part, LIST, Base().read).groups([data[part.pieces[0].offset :]]))
        assert found == {index: group(index) for index in CHANGED}


def test_a_patch_of_nothing_changed_has_no_pieces() -> None:
    head = parse_patch_head(make(OLD, OLD, []))
    part = head.payload("rootfs")
    assert (len(part.changed), len(part.pieces), head.total) == (0, 0, head.length)
    assert part.new_plain_list(plain_list(OLD)) == plain_list(OLD)
    assert list(PatchDecoder(part, plain_list(OLD), Base().read).groups([])) == []


def test_a_payload_that_shrank_has_a_shorter_list() -> None:
    new = OLD[: 2 * GROUP] + b"short"
    part = parse_patch_head(make(OLD, new, [[(2, [(Op.LITERAL, 0)])]])).payload("rootfs")
    assert part.new_plain_list(plain_list(OLD)) == plain_list(new)


def hostile(piece: Streams) -> dict[int, bytes | None]:
    """What a device gets from a patch whose table is true and whose one piece is not."""
    patch = assemble(
        [entry_for(OLD, NEW, CHANGED, [piece])], b"".join(LIST[32 * i : 32 * i + 32] for i in CHANGED), [piece]
    )
    return apply(patch)


NOTHING = dict.fromkeys(CHANGED)


@pytest.mark.parametrize(
    ("ops", "jumps"),
    [
        ([], []),
        ([Op.COPY], []),
        ([Op.COPY], [2 * 10**9]),
        ([Op.COPY], [2 * 10**9 + 1]),
        ([Op.ADD], [2**62]),
        ([(GROUP + 1) << 2 | Op.ZERO], []),
        ([2**62 | Op.ZERO], []),
        ([Op.LITERAL], []),
        ([Op.ADD], [0]),
    ],
    ids=str,
)
def test_ops_that_lead_nowhere_make_nothing(ops: list[int], jumps: list[int]) -> None:
    assert hostile(Streams(4, build_varints(ops), build_varints(jumps), b"", b"")) == NOTHING


@given(
    st.lists(st.integers(0, 2**15), max_size=30), st.lists(st.integers(0, 2**16), max_size=30), st.binary(max_size=99)
)
@settings(max_examples=60, deadline=None)
def test_ops_at_random_stay_inside_base_and_group(ops: list[int], jumps: list[int], data: bytes) -> None:
    assert hostile(Streams(4, build_varints(ops), build_varints(jumps), data, data)) == NOTHING


@pytest.mark.verifies("S9")
def test_a_piece_that_would_unpack_to_very_much_takes_less_than_a_mebibyte() -> None:
    size, groups = 64 * 1024, 8
    old, new = bytes(size), bytes(size * groups)
    bomb = bytes(4 * 1024 * 1024)
    piece = Streams(groups, build_varints([Op.LITERAL, Op.ADD] * 4), build_varints([0] + [1] * 3), bomb, bomb)
    entry = entry_for(old, new, range(groups), [piece], size)
    data = assemble([entry], plain_list(new, size), [piece])
    head = parse_patch_head(data)
    stored, part = data[head.length :], head.payload("rootfs")
    decoder = PatchDecoder(part, plain_list(new, size), lambda _, length: bytes(length))
    tracemalloc.start()
    found = [plain is not None and len(plain) for _, plain in decoder.piece(0, stored)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found[0] == size
    assert 512 * 1024 < peak < 1024 * 1024, "the windows count, and what a stream would unpack to does not"


def test_a_decoder_with_another_list_or_another_piece_is_our_mistake() -> None:
    part = parse_patch_head(SAMPLE).payload("rootfs")
    with pytest.raises(LifecycleError):
        PatchDecoder(part, LIST[:-32], Base().read)
    with pytest.raises(LifecycleError):
        list(PatchDecoder(part, LIST, Base().read).piece(0, b""))


@given(st.binary(min_size=1, max_size=70), st.randoms())
def test_words_are_added_as_arithmetic_says(base: bytes, rng: random.Random) -> None:
    residual = rng.randbytes(len(base))
    sums = bytearray()
    for at in range(0, len(base), 4):
        words = (int.from_bytes(data[at : at + 4], "little") for data in (base, residual))
        sums += (sum(words) % 2**32).to_bytes(4, "little")
    assert add_words(base, residual) == sums[: len(base)]


@given(st.lists(st.integers(0, 2**63 - 1)))
def test_columns_are_what_construct_calls_varints(values: list[int]) -> None:
    data = b"".join(construct.VarInt.build(value) for value in values)
    assert build_varints(values) == data
    assert list(read_varints(data)) == values


def test_a_header_comes_back_as_it_was_built() -> None:
    header = PatchHeader(1, 100, 200, 3, 4000)
    assert parse_patch_header(build_patch_header(header)) == header
    assert header.head == PATCH_HEADER_SIZE + 100 + 96


def parts(data: bytes, lengths: list[int]) -> Iterator[bytes]:
    stream = Unpacker(pack(data))
    for length in lengths:
        yield stream.take(length)


@given(st.binary(max_size=5000), st.lists(st.integers(0, 700), max_size=20))
def test_a_stream_comes_out_in_any_portions_and_ends_where_it_ends(data: bytes, lengths: list[int]) -> None:
    if sum(lengths) <= len(data):
        assert b"".join(parts(data, lengths)) == data[: sum(lengths)]
    else:
        with pytest.raises(PackedError):
            list(parts(data, lengths))


def test_the_head_says_where_everything_is() -> None:
    head: PatchHead = parse_patch_head(SAMPLE)
    part = head.payload("rootfs")
    assert head.total == len(SAMPLE)
    assert [(piece.first, piece.count) for piece in part.pieces] == [(0, 2), (2, 2)]
    assert part.pieces[0].offset == head.length
    assert part.pieces[1].offset == head.length + part.pieces[0].length
    assert [part.group_length(index) for index in (0, 5)] == [GROUP, 350]
    assert [changed.digest for changed in part.changed[1:3]] == [LIST[96:128], LIST[128:160]]
