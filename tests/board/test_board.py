"""The board itself, before any update: it starts, keeps what it must keep, and comes back from every kind of hang."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from twinslot_image.factory.disk import write_at
from twinslot_lab.build import BoardFiles
from twinslot_lab.plugin import BoardFactory
from twinslot_lab.qemu_board import QemuBoard

pytestmark = pytest.mark.board


def boot_id(board: QemuBoard) -> str:
    return board.check("cat", "/proc/sys/kernel/random/boot_id").strip()


def digest_of_slot_a(board: QemuBoard, size: int) -> str:
    start, _ = board.files.board.disk.partitions()["slot_a"]
    with board.disk.open("rb") as disk:
        disk.seek(start)
        return hashlib.sha256(disk.read(size)).hexdigest()


def copy_slot_image_to_b(board: QemuBoard) -> None:
    write_at(board.disk, board.files.board.disk.partitions()["slot_b"][0], board.files.slot)


@pytest.mark.verifies("S14")
def test_a_board_keeps_its_identity_and_its_slot_through_a_power_cut(fresh_board: QemuBoard) -> None:
    board = fresh_board
    assert board.slot() == "a"
    assert board.check("systemctl", "--failed", "--no-legend").strip() == ""
    options = board.check("findmnt", "-no", "FSTYPE,OPTIONS", "/").split()
    assert options[0] == "erofs"
    assert "ro" in options[1].split(",")
    assert board.check("findmnt", "-no", "PARTLABEL", "/var").strip() == "data"
    assert board.run("touch", "/etc/x").exit != 0
    board.check("ip", "route", "get", "10.0.2.2")
    machine = board.check("cat", "/etc/machine-id")
    board.check("sh", "-c", "echo kept > /var/lib/x; sync")
    first = boot_id(board)

    board.cut()
    board.power_on()
    board.wait_up()

    assert boot_id(board) != first
    assert board.check("cat", "/etc/machine-id") == machine
    assert board.check("cat", "/var/lib/x") == "kept\n"
    assert len(board.check("journalctl", "--list-boots", "--no-pager", "-q").splitlines()) == 2
    size = board.files.slot.stat().st_size
    assert digest_of_slot_a(board, size) == hashlib.sha256(board.files.slot.read_bytes()).hexdigest()


def test_the_guest_changes_the_environment_that_the_boot_script_obeys(board_factory: BoardFactory) -> None:
    board = board_factory()
    copy_slot_image_to_b(board)
    board.power_on()
    board.wait_up(slot="a")
    decision = "slot=b\nslot_b=trial\nupgrade_available=1\nbootcount=0\nts_release=7\nts_generation=2\n"
    board.check("fw_setenv", "-s", "-", text=decision)
    assert board.card.variables()["slot"] == "b"

    board.reboot()
    board.wait_up(slot="b")
    assert "bootcount=1" in board.check("fw_printenv").splitlines()

    # A panic in the new slot costs a try; the boot after the last try is the old slot's.
    for tries in (2, 3):
        board.agent.start("sh", "-c", "echo c > /proc/sysrq-trigger")
        board.wait_up(slot="b", through_failures=True)
        assert board.card.variables()["bootcount"] == str(tries)
    board.agent.start("sh", "-c", "echo c > /proc/sysrq-trigger")
    board.wait_up(slot="a", through_failures=True)
    found = board.card.variables()
    assert (found["slot_b"], found["ts_failed"], found["ts_reason"]) == ("bad", "7", "bootlimit")


@pytest.mark.parametrize(
    "hang",
    [
        pytest.param("echo 1 > /sys/fs/cgroup/init.scope/cgroup.freeze", id="systemd-stops"),
        pytest.param(
            # The scheduler keeps a share for ordinary tasks in two ways; both are taken away.
            "mount -t debugfs debugfs /sys/kernel/debug; echo -1 > /proc/sys/kernel/sched_rt_runtime_us;"
            " for cpu in 0 1; do echo 0 > /sys/kernel/debug/sched/fair_server/cpu$cpu/runtime; done;"
            " for cpu in 0 1; do chrt -f 99 taskset -c $cpu sh -c 'while :; do :; done' & done",
            id="processors-spin",
        ),
    ],
)
def test_the_watchdog_resets_a_board_that_hangs(fresh_board: QemuBoard, hang: str) -> None:
    first = boot_id(fresh_board)
    fresh_board.agent.start("sh", "-c", hang)
    fresh_board.wait_up()
    assert fresh_board.monitor.count("WATCHDOG") == 1
    assert boot_id(fresh_board) != first


def blank_data(board: QemuBoard) -> int:
    """Make the data partition zeros, as on a new medium; gives its start in bytes."""
    start, size = board.files.board.disk.partitions()["data"]
    with board.disk.open("r+b") as disk:
        disk.seek(start)
        disk.write(bytes(size))
    return start


def test_a_blank_data_partition_is_made_anew(board_factory: BoardFactory) -> None:
    board = board_factory()
    blank_data(board)
    board.power_on()
    board.wait_up()
    assert board.check("findmnt", "-no", "PARTLABEL", "/var").strip() == "data"
    assert board.check("cat", "/var/lib/board/machine-id") == board.check("cat", "/etc/machine-id")


def test_a_data_partition_that_holds_something_else_does_not_stop_the_board(
    board_factory: BoardFactory,
) -> None:
    board = board_factory()
    # All of it: with what the factory made still behind it, fsck may find a copy of the superblock there.
    write_at(board.disk, blank_data(board), board.files.slot)
    board.power_on()
    board.wait_up()
    assert board.check("findmnt", "-no", "FSTYPE", "/var").strip() == "tmpfs"
    assert "'data' cannot be used" in board.check("journalctl", "-b", "-p", "err", "--no-pager", "-u", "var.mount")
    board.check("fw_setenv", "ts_reason", "operator")  # the lock file must not need /var
    assert board.card.variables()["ts_reason"] == "operator"


def test_the_same_tree_gives_the_same_slot_image(board_files: BoardFiles, tmp_path: Path) -> None:
    from twinslot_lab.build import build_slot

    again = build_slot(board_files.board, tmp_path / "slot.img")
    assert again.read_bytes() == board_files.slot.read_bytes()
