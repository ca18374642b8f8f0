"""Disks of new devices: where partitions, boot loader and environment stand, by sfdisk and blkid."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from twinslot.core.errors import ImageError
from twinslot.core.model import Floors, SlotName
from twinslot_image.factory.disk import assemble, make_disk, put_environment
from twinslot_image.factory.layout import PARTITIONS
from twinslot_image.factory.record import first_variables
from twinslot_lab.command import run
from twinslot_lab.description import load


def test_a_dos_table_has_the_partitions_that_the_kernel_is_told_of(tmp_path: Path) -> None:
    board = load("orangepi-pc")
    disk = make_disk(board.disk, tmp_path / "disk.img", {})
    table = json.loads(run("sfdisk", "--json", disk))["partitiontable"]
    assert (table["label"], table["id"]) == ("dos", f"{board.disk.id:#010x}")
    found = [(entry["start"] * 512, entry["size"] * 512) for entry in table["partitions"]]
    assert found == list(board.disk.partitions().values())
    ids = [run("blkid", "-p", "-o", "value", "-s", "PTUUID", disk).strip() + f"-{number:02x}" for number in (1, 2, 3)]
    assert [board.disk.partition(name) for name in PARTITIONS] == [f"PARTUUID={one}" for one in ids]
    assert board.disk.device("slot_b") == f"/dev/disk/by-partuuid/{ids[1]}"
    assert disk.stat().st_size.bit_count() == 1, "QEMU takes an SD card only if its size is a power of two"


def test_a_gpt_disk_has_named_partitions(tmp_path: Path) -> None:
    board = load("virt-arm64")
    table = json.loads(run("sfdisk", "--json", make_disk(board.disk, tmp_path / "disk.img", {})))["partitiontable"]
    assert [entry["name"] for entry in table["partitions"]] == list(PARTITIONS)
    assert board.disk.partition("slot_a") == "PARTLABEL=slot_a"


def test_a_slot_of_several_payloads_has_a_partition_for_each(tmp_path: Path) -> None:
    board = load("virt-arm64")
    board = replace(board, disk=replace(board.disk, beside={"voices": 2, "assets": 3}))
    table = json.loads(run("sfdisk", "--json", make_disk(board.disk, tmp_path / "disk.img", {})))["partitiontable"]
    found = {entry["name"]: (entry["start"] * 512, entry["size"] * 512) for entry in table["partitions"]}
    assert list(found) == [*PARTITIONS, "voices_a", "voices_b", "assets_a", "assets_b"]
    assert found == board.disk.partitions()
    assert board.disk.payloads("b") == {
        "rootfs": found["slot_b"],
        "voices": found["voices_b"],
        "assets": found["assets_b"],
    }


def test_partitions_that_do_not_fit_are_refused() -> None:
    board = load("orangepi-pc")
    with pytest.raises(ImageError, match=r"the partitions do not fit on the disk: expected .*536870912 bytes"):
        replace(board.disk, size_mib=512).size()


@pytest.mark.parametrize(("size", "fits"), [(0x400000 - 0x2000, True), (0x400000 - 0x2000 + 1, False)])
def test_firmware_on_the_disk_ends_before_the_environment(tmp_path: Path, size: int, fits: bool) -> None:
    board, disk, image = load("orangepi-pc"), tmp_path / "disk.img", tmp_path / "spl"
    image.write_bytes(b"\x01" * size)
    if not fits:
        with pytest.raises(ImageError, match=r"an end at byte 4194304 or before.*4194305"):
            assemble(board.layout, disk, tmp_path / "card", {}, {}, image)
        return
    assemble(board.layout, disk, tmp_path / "card", {}, {}, image)
    with disk.open("rb") as made:
        made.seek(0x2000)
        assert made.read(size) == image.read_bytes()


def test_the_environment_of_a_board_with_one_card_stands_on_its_disk(tmp_path: Path) -> None:
    board = load("orangepi-pc")
    disk = make_disk(board.disk, tmp_path / "disk.img", {})
    variables = first_variables(SlotName.A, Floors(1, 0, 1))
    card = put_environment(board.environment, disk, tmp_path / "card.img", variables)
    assert card.path == disk
    assert card.variables() == variables
    assert json.loads(run("sfdisk", "--json", disk))["partitiontable"]["label"] == "dos", "the table is still there"
