"""The boot script in real U-Boot: what it starts, what it leaves on the card (docs/boot-contract.md, section 3)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from board.tiny_slots import make_slot
from twinslot.bootloader.uboot.rawenv import encode
from twinslot_image.factory.disk import write_at
from twinslot_image.factory.slot_image import make_slot_image
from twinslot_lab.build import BoardFiles
from twinslot_lab.plugin import BoardFactory
from twinslot_lab.qemu_board import QemuBoard

pytestmark = pytest.mark.board

TRIAL = {"slot": "b", "slot_b": "trial", "upgrade_available": "1", "ts_release": "7", "ts_generation": "2"}
GIVEN_UP = {"slot": "a", "slot_b": "bad", "ts_failed": "7", "upgrade_available": "1", "bootcount": "1"}

Starts = Callable[[QemuBoard], str]


@pytest.fixture
def board(board_factory: BoardFactory, tiny_board: BoardFiles) -> QemuBoard:
    return board_factory(files=tiny_board, stop_on_reset=True)


def start(board: QemuBoard) -> str:
    """One start, until the board switches off or resets; the slot whose kernel ran, or nothing."""
    board.power_on()
    board.wait_off(60)
    ran = [line.split()[1] for line in board.console.text().splitlines() if line.startswith("payload ")]
    assert len(ran) <= 1
    return "".join(ran)


def break_slot(board: QemuBoard, name: str) -> None:
    """Wipe a slot's superblock, as an unfinished write leaves it (S5)."""
    with board.disk.open("r+b") as disk:
        disk.seek(board.files.board.disk.partitions()[f"slot_{name}"][0])
        disk.write(bytes(65536))


def subset(board: QemuBoard, names: dict[str, str]) -> dict[str, str]:
    found = board.card.variables()
    return {name: found.get(name, "") for name in names}


def test_a_committed_slot_starts_and_nothing_is_written(board: QemuBoard) -> None:
    before = board.card.copies()
    assert start(board) == "a"
    assert board.card.copies() == before


def test_a_trial_starts_and_its_tries_are_counted(board: QemuBoard) -> None:
    board.card.update_both(**TRIAL, bootcount="0")
    for tries in ("1", "2", "3"):
        assert start(board) == "b"
        assert board.card.variables()["bootcount"] == tries


def test_when_the_tries_of_a_trial_run_out_the_old_slot_starts_in_the_same_start(board: QemuBoard) -> None:
    board.card.update_both(**TRIAL, bootcount="3")
    assert start(board) == "a"
    expected = GIVEN_UP | {"ts_reason": "bootlimit", "slot_a": "good", "ts_generation": "2"}
    assert subset(board, expected) == expected
    assert start(board) == "a"


@pytest.mark.verifies("S5")
def test_a_trial_that_does_not_load_is_given_up_in_the_same_start(board: QemuBoard) -> None:
    break_slot(board, "b")
    board.card.update_both(**TRIAL, bootcount="0")
    assert start(board) == "a"
    expected = GIVEN_UP | {"ts_reason": "load-failed", "slot_a": "good"}
    assert subset(board, expected) == expected


@pytest.mark.parametrize("missing", ["kernel", "initrd"])
def test_a_slot_without_kernel_or_initrd_does_not_load(board: QemuBoard, tmp_path: Path, missing: str) -> None:
    slot = make_slot("b", tmp_path, kernel=missing != "kernel", initrd=missing != "initrd")
    write_at(board.disk, board.files.board.disk.partitions()["slot_b"][0], slot)
    board.card.update_both(**TRIAL, bootcount="0")
    assert start(board) == "a"
    assert board.card.variables()["ts_reason"] == "load-failed"


def test_a_kernel_that_is_none_does_not_load(board: QemuBoard, tmp_path: Path) -> None:
    make_slot("b", tmp_path)
    (tmp_path / "tree" / "boot" / "vmlinuz").write_bytes(b"not a kernel" * 1000)
    slot = make_slot_image(tmp_path / "tree", tmp_path / "again.img")
    write_at(board.disk, board.files.board.disk.partitions()["slot_b"][0], slot)
    board.card.update_both(**TRIAL, bootcount="0")
    assert start(board) == "a"
    assert board.card.variables()["slot_b"] == "bad"


def test_two_good_slots_alternate_rather_than_reset_for_ever(board: QemuBoard) -> None:
    good = {"slot_a": "good", "slot_b": "good", "upgrade_available": "1"}
    board.card.update_both(**good, slot="a", bootcount="3")
    assert start(board) == "b"
    assert subset(board, good | {"slot": ""}) == good | {"slot": "b"}
    board.card.update_both(bootcount="3")
    assert start(board) == "a"
    found = board.card.variables()
    assert (found["slot_a"], found["slot_b"], found["ts_reason"]) == ("good", "good", "bootlimit")
    assert "ts_failed" not in found


def test_a_good_slot_that_does_not_load_stays_good_and_the_other_starts(board: QemuBoard) -> None:
    break_slot(board, "a")
    board.card.update_both(slot="a", slot_a="good", slot_b="good", upgrade_available="0")
    assert start(board) == "b"
    found = board.card.variables()
    assert (found["slot"], found["slot_a"], found["ts_reason"]) == ("b", "good", "load-failed")
    assert (found["upgrade_available"], found["bootcount"]) == ("1", "1")


@pytest.mark.parametrize("state", ["good", "trial"])
def test_with_the_other_slot_bad_the_chosen_one_keeps_trying(board: QemuBoard, state: str) -> None:
    board.card.update_both(slot="a", slot_a=state, slot_b="bad", upgrade_available="1", bootcount="3")
    for tries in ("4", "5"):
        assert start(board) == "a"
        found = board.card.variables()
        assert (found["slot"], found["slot_a"], found["slot_b"]) == ("a", state, "bad")
        assert found["bootcount"] == tries


def test_a_chosen_slot_that_is_bad_never_starts_and_the_reason_stays(board: QemuBoard) -> None:
    board.card.update_both(slot="b", slot_b="bad", slot_a="good", ts_reason="unhealthy")
    assert start(board) == "a"
    found = board.card.variables()
    assert (found["slot"], found["slot_b"], found["ts_reason"]) == ("a", "bad", "unhealthy")


@pytest.mark.parametrize("count", ["0", "9"])
def test_two_bad_slots_never_start_and_the_board_resets(board: QemuBoard, count: str) -> None:
    board.card.update_both(slot="a", slot_a="bad", slot_b="bad", upgrade_available="1", bootcount=count)
    assert start(board) == ""
    assert "Twinslot: no slot can be started" in board.console.text()
    found = board.card.variables()
    assert (found["slot_a"], found["slot_b"]) == ("bad", "bad")


def test_a_trial_that_does_not_load_is_not_followed_by_a_bad_slot(board: QemuBoard) -> None:
    break_slot(board, "b")
    board.card.update_both(**TRIAL, slot_a="bad", bootcount="0")
    assert start(board) == ""
    assert board.card.variables()["slot_a"] == "bad"


def test_with_both_copies_lost_the_tries_count_from_the_first_start(board: QemuBoard) -> None:
    board.card.damage(0)
    board.card.damage(1)
    assert start(board) == "a"
    expected = {"slot": "a", "slot_a": "good", "slot_b": "good", "upgrade_available": "1", "bootcount": "1"}
    found = board.card.variables()
    assert {name: found[name] for name in expected} == expected
    assert "ts_generation" not in found


def test_with_both_copies_lost_a_slot_that_does_not_load_hands_over(board: QemuBoard) -> None:
    break_slot(board, "a")
    board.card.damage(0)
    board.card.damage(1)
    assert start(board) == "b"
    assert board.card.variables()["slot"] == "b"


@pytest.mark.parametrize("lost", [0, 1])
def test_with_one_copy_damaged_the_other_counts(board: QemuBoard, lost: int) -> None:
    board.card.update_both(slot="b", slot_b="good", slot_a="bad")
    board.card.damage(lost)
    assert start(board) == "b"


@pytest.mark.parametrize(
    ("flags", "runs"), [((1, 0), "b"), ((0, 1), "a"), ((255, 0), "a"), ((0, 255), "b"), ((9, 9), "b")]
)
def test_the_copy_with_the_newer_flags_counts_also_when_they_wrap(
    board: QemuBoard, flags: tuple[int, int], runs: str
) -> None:
    size = board.files.board.environment.size
    good = {"slot_a": "good", "slot_b": "good", "upgrade_available": "0"}
    board.card.write_copy(0, encode(good | {"slot": "b"}, size, flags[0]))
    board.card.write_copy(1, encode(good | {"slot": "a"}, size, flags[1]))
    assert start(board) == runs
    assert board.card.variables()["slot"] == runs


@pytest.mark.parametrize("back", ["a", "b", "c", "a b", "*", "-o"])
def test_a_trial_goes_back_to_the_other_slot_whatever_the_card_says_of_back(board: QemuBoard, back: str) -> None:
    board.card.update_both(**TRIAL, bootcount="3", ts_back=back)
    assert start(board) == "a"
    expected = GIVEN_UP | {"ts_reason": "bootlimit", "slot_a": "good", "ts_back": back}
    assert subset(board, expected) == expected


def test_a_list_of_slots_on_the_card_is_not_obeyed(board: QemuBoard) -> None:
    board.card.update_both(slots="c", ask_a="found=bad", slot_c="good", ts_back="c")
    assert start(board) == "a"


def test_a_script_on_the_card_is_not_obeyed(board: QemuBoard) -> None:
    foreign = {
        "bootcmd": "echo payload c; poweroff",
        "altbootcmd": "poweroff",
        "bootlimit": "0",
        "board_load": "true",
        "do_start": "poweroff",
    }
    board.card.update_both(**foreign, preboot="echo payload d; poweroff", bootdelay="-1")
    assert start(board) == "a"


def test_a_variable_of_a_later_client_is_kept_when_tries_are_counted(board: QemuBoard) -> None:
    board.card.update_both(**TRIAL, bootcount="0", ts_of_tomorrow="x y", unknown="z")
    assert start(board) == "b"
    found = board.card.variables()
    assert (found["bootcount"], found["ts_of_tomorrow"]) == ("1", "x y")
    assert "unknown" not in found


def test_a_count_that_is_no_number_is_taken_for_none(board: QemuBoard) -> None:
    board.card.update_both(**TRIAL, bootcount="seven")
    assert start(board) == "b"
    assert board.card.variables()["bootcount"] == "1"
