"""The life-time registers of an eMMC, as the kernel shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from twinslot.storage.wear import read_wear


def emmc(system: Path, name: str = "mmc0:0001", **files: str) -> None:
    place = system / "class/mmc_host/mmc0" / name
    place.mkdir(parents=True)
    for file, text in ({"life_time": "0x02 0x01", "pre_eol_info": "0x01", "name": "DG4016"} | files).items():
        (place / file).write_text(text + "\n")


def test_an_emmc_says_how_much_of_its_life_is_used(tmp_path: Path) -> None:
    emmc(tmp_path)
    (wear,) = read_wear(tmp_path)
    assert wear.as_dict() == {"name": "mmc0:0001", "product": "DG4016", "used_a": 20, "used_b": 10, "spare": "normal"}


@pytest.mark.parametrize(
    ("life", "spare", "told"),
    [
        ("0x0b 0x0a", "0x03", (110, 100, "urgent")),
        ("0x00 0x00", "0x00", (None, None, "")),
        ("0xff 0x01", "0x02", (None, 10, "warning")),
        ("zero 0x01", "?", (None, 10, "")),
    ],
)
def test_what_it_does_not_say_is_not_known(tmp_path: Path, life: str, spare: str, told: tuple[object, ...]) -> None:
    emmc(tmp_path, life_time=life, pre_eol_info=spare)
    (wear,) = read_wear(tmp_path)
    assert (wear.used_a, wear.used_b, wear.spare) == told


def test_a_card_and_a_machine_without_any_say_nothing(tmp_path: Path) -> None:
    assert read_wear(tmp_path) == ()
    emmc(tmp_path, life_time="")
    assert read_wear(tmp_path) == ()
