"""The raw environment: what the helper writes is what U-Boot's own tool writes, and damage is seen."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinslot.bootloader.base import Place
from twinslot.bootloader.uboot.rawenv import RawCopy, current, decode, encode
from twinslot.core.errors import LifecycleError
from twinslot_image.factory.environment import RawEnvironment

SIZE = 0x4000
TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
NAMES = TEXT.filter(lambda name: "=" not in name)
VARIABLES = st.dictionaries(NAMES, TEXT, max_size=20)


@pytest.fixture
def card(tmp_path: Path) -> RawEnvironment:
    path = tmp_path / "card.img"
    path.write_bytes(bytes(0x20000))
    return RawEnvironment(path, (Place("/dev/card", 0x1000, SIZE), Place("/dev/card", 0x10000, SIZE)))


@given(VARIABLES, st.integers(0, 255))
def test_what_is_packed_comes_back(variables: dict[str, str], flags: int) -> None:
    assert decode(encode(variables, SIZE, flags)) == RawCopy(flags, variables)


@given(VARIABLES, st.integers(0, SIZE * 8 - 1))
def test_any_flipped_bit_but_those_of_the_flags_is_seen(variables: dict[str, str], bit: int) -> None:
    raw = bytearray(encode(variables, SIZE, 1))
    raw[bit // 8] ^= 1 << bit % 8
    assert (decode(bytes(raw)) is not None) == (bit // 8 == 4)


@given(st.binary(max_size=64))
def test_anything_else_is_not_a_copy_and_no_error(raw: bytes) -> None:
    copy = decode(raw)
    assert copy is None or copy.flags is not None


@pytest.mark.skipif(shutil.which("mkenvimage") is None, reason="u-boot-tools is not installed")
def test_u_boots_own_tool_writes_the_same_content(tmp_path: Path) -> None:
    variables = {"slot": "a", "ts_txn": "0" * 32, "upgrade_available": "1"}
    text = "".join(f"{name}={value}\n" for name, value in sorted(variables.items()))
    (tmp_path / "env.txt").write_text(text)
    argv = ["mkenvimage", "-r", "-p", "0", "-s", str(SIZE), "-o", "env.bin", "env.txt"]
    subprocess.run(argv, cwd=tmp_path, check=True)
    assert (tmp_path / "env.bin").read_bytes() == encode(variables, SIZE, 1)


def test_variables_that_do_not_fit_are_refused() -> None:
    with pytest.raises(LifecycleError, match="at most 59"):
        encode({"name": "x" * 64}, 64, 1)


@pytest.mark.parametrize("name", ["", "a=b", "a\0b"])
def test_a_name_that_cannot_be_stored_is_refused(name: str) -> None:
    with pytest.raises(LifecycleError, match="cannot stand in a boot environment"):
        encode({name: "x"}, SIZE, 1)


@pytest.mark.parametrize(
    ("one", "two", "index"),
    [
        (1, 0, 0),
        (0, 1, 1),
        (255, 0, 1),
        (0, 255, 0),
        (255, 254, 0),
        (7, 7, 0),
        (None, 3, 1),
        (3, None, 0),
        (None, None, None),
    ],
)
def test_the_newer_copy_counts(one: int | None, two: int | None, index: int | None) -> None:
    assert current(one, two) == index


def test_an_update_of_both_keeps_the_rest_and_removes_what_is_emptied(card: RawEnvironment) -> None:
    card.write_both({"slot": "a", "ts_reason": "operator", "ts_root": "1"})
    card.update_both(slot="b", ts_reason="")
    assert card.variables() == {"slot": "b", "ts_root": "1"}
    first, second = card.copies()
    assert first
    assert second
    assert first.variables == second.variables


def test_a_damaged_copy_leaves_the_other_and_two_leave_nothing(card: RawEnvironment) -> None:
    card.write_both({"slot": "a"})
    card.damage(0)
    assert card.variables() == {"slot": "a"}
    card.damage(1)
    assert card.variables() == {}
