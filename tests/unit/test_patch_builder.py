"""Making patches: whatever was done to a payload, the patch makes it, and what moved costs next to nothing."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from image_samples import make_sample
from patch_samples import plain_list
from twinslot.core.errors import ImageError
from twinslot.image.patch import PatchDecoder, parse_patch_head
from twinslot.image.replaced import REPLACED_MAX, Op
from twinslot_image import patch_encode, patch_work
from twinslot_image.outputs import Target
from twinslot_image.patch import make_patch
from twinslot_image.patch_path import GroupRecipe, Stretch

GROUP = 16 * 1024
PAGE = 4096


def content(seed: int, size: int) -> bytes:
    """Bytes that look like a program: words of a small vocabulary, none of them random enough to be hard to pack."""
    source = random.Random(seed)
    words = [source.randbytes(4) for _ in range(500)]
    return b"".join(source.choices(words, k=-(-size // 4)))[:size]


OLD = content(1, 20 * PAGE) + bytes(5 * PAGE) + content(2, 15 * PAGE + 1234)


def patch(folder: Path, old: bytes, new: bytes, group_size: int = GROUP) -> bytes:
    """The patch from one payload to another."""
    folder.mkdir(exist_ok=True)
    (folder / "old.img").write_bytes(old)
    (folder / "new.twin").write_bytes(make_sample({"rootfs": new}, group_size=group_size).data)
    make_patch(folder / "old.img", folder / "new.twin", Target(folder / "patch"))
    assert sorted(path.name for path in folder.iterdir()) == ["new.twin", "old.img", "patch"], "nothing is left behind"
    return (folder / "patch").read_bytes()


def apply(data: bytes, old: bytes, group_size: int = GROUP) -> bytes:
    """The new payload as a device makes it: changed groups from the patch, all others from the base."""
    head = parse_patch_head(data)
    part = head.payload("rootfs")
    new_list = part.new_plain_list(plain_list(old, group_size))
    made = dict(PatchDecoder(part, new_list, lambda at, size: old[at : at + size]).groups([data[head.length :]]))
    assert None not in made.values()
    groups = [made.get(i, old[i * group_size : (i + 1) * group_size]) for i in range(part.groups)]
    return b"".join(group for group in groups if group is not None)


@pytest.mark.parametrize(
    ("what", "new", "at_most"),
    [
        ("nothing changed", OLD, 200),
        ("one byte changed", OLD[:50_000] + b"!" + OLD[50_001:], 300),
        ("moved by a page", OLD[:PAGE] + bytes(PAGE) + OLD[PAGE:], 900),
        ("moved by three bytes", OLD[:70_000] + b"abc" + OLD[70_000:], 1200),
        ("parts changed places", OLD[30 * PAGE :] + OLD[: 30 * PAGE], 900),
        ("cut short", OLD[: 17 * PAGE + 77], 400),
        ("all zeros", bytes(len(OLD)), 700),
        ("grown by zeros", OLD + bytes(10 * PAGE), 1900),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_moved_costs_next_to_nothing(tmp_path: Path, what: str, new: bytes, at_most: int) -> None:
    data = patch(tmp_path, OLD, new)
    assert apply(data, OLD) == new
    assert len(data) <= at_most, what


def test_addresses_that_all_moved_by_the_same_are_cheap(tmp_path: Path) -> None:
    words = [OLD[at : at + 4] for at in range(0, 15 * PAGE, 4)]
    moved = [
        ((int.from_bytes(word, "little") + 0x2260) % 2**32).to_bytes(4, "little") if index % 7 == 0 else word
        for index, word in enumerate(words)
    ]
    new = b"".join(moved) + OLD[15 * PAGE :]
    data = patch(tmp_path, OLD, new)
    assert apply(data, OLD) == new
    assert len(data) < 1200, "2,194 words differ, each by the same"


def test_a_changed_payload_of_random_bytes_is_stored_as_it_is(tmp_path: Path) -> None:
    new = random.Random(5).randbytes(10 * GROUP + 5)
    data = patch(tmp_path, OLD, new)
    assert apply(data, OLD) == new
    assert len(data) < len(new) + 1500
    part = parse_patch_head(data).payload("rootfs")
    assert max(piece.length for piece in part.pieces) <= 64 * 1024, "an interrupted fetch repeats no more"


def test_several_groups_that_do_not_fit_a_piece_are_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patch_encode, "_ESTIMATE", 1000)  # as if everything could be packed a thousandfold
    new = random.Random(6).randbytes(12 * GROUP)
    data = patch(tmp_path, OLD, new)
    part = parse_patch_head(data).payload("rootfs")
    assert max(piece.length for piece in part.pieces) <= 64 * 1024
    assert apply(data, OLD) == new


@pytest.mark.parametrize(("newest", "pieces"), [(3, [3, 3, 2]), (2, [8])])
def test_a_piece_ends_before_its_literals_replace_more_than_may_stand_in_for_them(
    newest: int, pieces: list[int]
) -> None:
    groups, size = [], 256 * 1024
    for first in range(0, 8 * size, size):  # eight times 1 KiB as it was and 31 KiB that is new
        parts = [
            (Stretch(at, at + 1024, Op.COPY), Stretch(at + 1024, at + 32768, Op.LITERAL))
            for at in range(first, first + size, 32768)
        ]
        groups.append(GroupRecipe(first, size, tuple(one for part in parts for one in part)))
    base = np.zeros(8 * size, np.uint8)
    cut = list(patch_encode.cut(groups, [0] * len(groups), patch_encode.Form(size, newest)))
    assert [len(piece) for piece in cut] == pieces
    assert len(patch_encode.replaced_of(base, cut[0])) == min(pieces[0] * 8 * 31 * 1024, REPLACED_MAX)


@given(
    st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 20_000), st.binary(max_size=40)), min_size=1, max_size=6)
)
@settings(max_examples=20, deadline=None)
def test_any_edits_come_through(tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[int, int, bytes]]) -> None:
    new = OLD
    for at, length, text in edits:
        place = at % len(new)
        new = new[:place] + text + new[place + length :] or b"x"
    data = patch(tmp_path_factory.mktemp("edits"), OLD, new, 4096)
    assert apply(data, OLD, 4096) == new


def test_the_same_inputs_give_the_same_patch_on_one_processor_and_on_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = OLD[:50_001] + b"some more" + OLD[50_000:]
    first = patch(tmp_path / "one", OLD, new)
    monkeypatch.setattr(patch_work, "ALONE_BELOW", 0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert patch(tmp_path / "several", OLD, new) == first


@pytest.mark.parametrize("base", [b"", b"tiny", bytes(PAGE)], ids=["empty", "tiny", "zeros"])
def test_a_base_that_is_no_use_is_refused_or_not_used(tmp_path: Path, base: bytes) -> None:
    new = OLD[: 3 * PAGE]
    if not base:
        with pytest.raises(ImageError, match="is empty"):
            patch(tmp_path, base, new)
        return
    assert apply(patch(tmp_path, base, new), base) == new


def test_an_image_and_its_unpacked_content_are_the_same_base(tmp_path: Path) -> None:
    new = OLD[:50_000] + b"!" + OLD[50_001:]
    plain = patch(tmp_path / "plain", OLD, new)
    (tmp_path / "old.twin").write_bytes(make_sample({"rootfs": OLD}, group_size=4096).data)  # other groups
    make_patch(tmp_path / "old.twin", tmp_path / "plain/new.twin", Target(tmp_path / "patch"))
    assert (tmp_path / "patch").read_bytes() == plain


def test_images_of_several_payloads_are_patched_payload_by_payload(tmp_path: Path) -> None:
    sides = {
        "old": {"firmware": b"\x7fboot" * 900, "rootfs": OLD},
        "new": {"firmware": b"\x7fboot" * 900, "rootfs": OLD[8:]},
    }
    for side, payloads in sides.items():
        (tmp_path / f"{side}.twin").write_bytes(make_sample(payloads, group_size=GROUP).data)
    head = make_patch(tmp_path / "old.twin", tmp_path / "new.twin", Target(tmp_path / "patch"))
    assert [(part.name, len(part.changed) > 0) for part in head.payloads] == [("firmware", False), ("rootfs", True)]
    assert apply((tmp_path / "patch").read_bytes(), OLD) == OLD[8:]


def test_pairs_that_have_not_the_same_payloads_are_refused(tmp_path: Path) -> None:
    for side, payloads in {"old": {"rootfs": OLD}, "new": {"rootfs": OLD, "firmware": OLD}}.items():
        (tmp_path / f"{side}.twin").write_bytes(make_sample(payloads).data)
    (tmp_path / "old.img").write_bytes(OLD)
    for base in ("old.twin", "old.img"):
        with pytest.raises(ImageError) as caught:
            make_patch(tmp_path / base, tmp_path / "new.twin", Target(tmp_path / "patch"))
        assert caught.value.code == "image.patch-pair"
    assert not (tmp_path / "patch").exists()
