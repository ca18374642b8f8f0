"""A device leaves the factory: record and environment on a blank card, read back by the real fw_printenv."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from image_samples import make_sample
from twinslot.bootloader.uboot.rawenv import current, decode
from twinslot.image.wire import parse_trust
from twinslot.storage.record.record import Record
from twinslot_image.cli import main
from twinslot_image.file_kind import read_image_front

SIZE, FIRST, SECOND = 0x4000, 0x400000, 0x800000
BOARD = "bootlimit=3\nbootcmd=run board_find; run board_go\n# a comment\n"


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    (tmp_path / "pump.twin").write_bytes(make_sample({"rootfs": bytes(range(256)) * 500}).data)
    (tmp_path / "fw_env.txt").write_text(f"/dev/mmcblk0 {FIRST:#x} {SIZE:#x}\n/dev/mmcblk0 {SECOND:#x} {SIZE:#x}\n")
    (tmp_path / "default-env.txt").write_text(BOARD)
    return tmp_path


def provision(bench: Path, disk: Path, *more: str) -> int:
    return main(
        [
            *("provision", str(bench / "pump.twin"), "--record", str(bench / "record.sqlite"), "--slot", "b"),
            *("--environment", str(disk), "--fw-env-config", str(bench / "fw_env.txt"), *more),
        ]
    )


def printed(bench: Path, disk: Path) -> dict[str, str]:
    """What the real tool reads from the card."""
    config = bench / "here.txt"
    config.write_text((bench / "fw_env.txt").read_text().replace("/dev/mmcblk0", str(disk)))
    done = subprocess.run(["fw_printenv", "-c", config], capture_output=True, text=True, check=True)
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


@pytest.mark.parametrize(
    "blank", [None, bytes(SECOND + SIZE), b"\xff" * (SECOND + 2 * SIZE)], ids=["none", "zeros", "ones"]
)
def test_a_blank_card_gets_both_copies_with_the_boards_variables(bench: Path, blank: bytes | None) -> None:
    card = bench / "card.img"
    if blank:
        card.write_bytes(blank)
    assert provision(bench, card, "--default-env", str(bench / "default-env.txt")) == 0
    data = card.read_bytes()
    copies = [decode(data[at : at + SIZE]) for at in (FIRST, SECOND)]
    assert copies[0] is not None
    assert copies[1] is not None
    assert copies[0].variables == copies[1].variables
    assert current(copies[0].flags, copies[1].flags) == 0
    found = printed(bench, card)
    wanted = {"slot": "b", "slot_b": "good", "slot_a": "bad", "upgrade_available": "0", "ts_generation": "1"}
    assert found.items() >= (wanted | {"bootlimit": "3", "bootcmd": "run board_find; run board_go"}).items()
    outside = data[:FIRST] + data[FIRST + SIZE : SECOND] + data[SECOND + SIZE :]
    assert outside.strip(b"\xff" if blank and blank[0] else b"\0") == b"", "nothing else of the card changes"


def test_either_copy_alone_is_enough(bench: Path) -> None:
    card = bench / "card.img"
    assert provision(bench, card) == 0
    good = card.read_bytes()
    for at in (FIRST, SECOND):
        card.write_bytes(good[:at] + bytes(SIZE) + good[at + SIZE :])
        assert printed(bench, card)["slot_b"] == "good"


def test_the_variables_for_mkenvimage_make_the_same_environment(
    bench: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The two ways of the guide."""
    assert main(["provision", str(bench / "pump.twin"), "--record", str(bench / "r"), "--slot", "b"]) == 0
    text = bench / "environment.txt"
    text.write_text(capsys.readouterr().out)
    subprocess.run(["mkenvimage", "-r", "-s", str(SIZE), "-o", bench / "copy.bin", text], check=True)
    card = bench / "card.img"
    for at in (FIRST, SECOND):
        place = [f"of={card}", f"seek={at // 512}", "bs=512", "conv=notrunc"]
        subprocess.run(["dd", f"if={bench / 'copy.bin'}", *place], check=True, capture_output=True)
    by_hand = printed(bench, card)
    assert provision(bench, bench / "other.img") == 0
    assert by_hand == printed(bench, bench / "other.img")


def test_json_says_what_was_written(bench: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert provision(bench, bench / "card.img", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["type"], told["command"], told["environment"]) == ("result", "provision", str(bench / "card.img"))
    assert told["variables"]["slot_b"] == "good"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda bench: (bench / "pump.twin").write_bytes(b"no image"), 3),
        (lambda bench: (bench / "fw_env.txt").unlink(), 6),
        (lambda bench: (bench / "fw_env.txt").write_text("/dev/mmcblk0 0x0 0x4000\n"), 6),
        (lambda bench: (bench / "fw_env.txt").write_text("/dev/a 0x0 0x4000\n/dev/b 0x0 0x4000\n"), 6),
        (lambda bench: (bench / "fw_env.txt").write_text("/dev/a 0x0 0x40\n/dev/a 0x400 0x40\n"), 6),
        (lambda bench: (bench / "default-env.txt").unlink(), 6),
        (lambda bench: (bench / "default-env.txt").write_text("no variable\n"), 6),
        (lambda bench: (bench / "card.img").mkdir(), 6),
        (lambda bench: (bench / "record.sqlite").write_text("there already"), 4),
    ],
)
def test_a_device_that_cannot_be_provisioned_whole_is_not_begun(bench: Path, change: object, status: int) -> None:
    assert callable(change)
    change(bench)
    before = {path: path.read_bytes() for path in bench.iterdir() if path.is_file()}
    assert provision(bench, bench / "card.img", "--default-env", str(bench / "default-env.txt")) == status
    assert {path: path.read_bytes() for path in bench.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("options", [["--environment", "x"], ["--fw-env-config", "x"], ["--default-env", "x"]])
def test_options_that_need_each_other_are_asked_for(bench: Path, options: list[str]) -> None:
    command = ["provision", str(bench / "pump.twin"), "--record", str(bench / "record.sqlite")]
    assert main([*command, *options]) == 2
    assert not (bench / "record.sqlite").exists()


@pytest.mark.verifies("S24")
def test_a_new_device_knows_whose_keys_it_left_the_factory_with(bench: Path) -> None:
    assert provision(bench, bench / "card.img") == 0
    with Record(bench, lambda: "2026-11-01T00:00:00Z", "first") as record:
        kept = record.document("targets")
    assert kept == parse_trust(read_image_front(bench / "pump.twin").trust).targets.decode()
