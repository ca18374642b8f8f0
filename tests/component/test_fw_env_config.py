"""fw_env.config is read as the real fw_printenv reads it: one table for both."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from twinslot.bootloader.base import Place
from twinslot.bootloader.uboot import rawenv
from twinslot.core.errors import DeviceError

TWO = [(0x1000, 0x2000), (0x5000, 0x2000)]
# Text, with D for the device, and where the tool finds the copies: offset and size. None: it finds none.
TABLE: dict[str, tuple[str, list[tuple[int, int]] | None]] = {
    "as-usual": ("D 0x1000 0x2000\nD 0x5000 0x2000\n", TWO),
    "size-without-0x": ("D 0x1000 2000\nD 0x5000 2000\n", TWO),
    "size-with-a-leading-zero": ("D 0x1000 02000\nD 0x5000 02000\n", TWO),
    "offsets-in-decimal": ("D 4096 0x2000\nD 20480 0x2000\n", TWO),
    "offsets-in-octal": ("D 010000 0x2000\nD 050000 0x2000\n", TWO),
    "capitals": ("D 0X1000 0X2000\nD 0x5000 0X2000\n", TWO),
    "sector-sizes": ("D 0x1000 0x2000 0x200 0x10\nD 0x5000 0x2000 200 10\n", TWO),
    "a-sixth-column": ("D 0x1000 0x2000 0x200 1 1\nD 0x5000 0x2000 0x200 1 1\n", TWO),
    "a-third-line": ("D 0x1000 0x2000\nD 0x5000 0x2000\nD 0x6000 0x800\n", TWO),
    "stray-words": (
        "D 0x1000 0x2000 of the card\nD 0x5000 0x2000 # the second\n",
        TWO,
    ),
    "a-unit-behind-the-size": ("D 0x1000 2000k\nD 0x5000 2000k\n", TWO),
    "tabs-and-blanks": ("\tD\t0x1000\t\t0x2000 \n   D 0x5000 0x2000\n", TWO),
    "comments-and-empty-lines": (
        "# device offset size\n\n  # indented 0x1000 0x2000\nD 0x1000 0x2000\n#D 0x3000 0x2000\nD 0x5000 0x2000",
        TWO,
    ),
    "lines-that-say-too-little": (
        "D\nD 0x1000\nD 0x1000 0x2000\nD size 0x1\nD 0x5000 0x2000\n",
        TWO,
    ),
    "carriage-returns": ("D 0x1000 0x2000\r\nD 0x5000 0x2000\r\n", TWO),
    "one-copy": ("D 0x1000 0x2000\n", [(0x1000, 0x2000)]),
    "a-plus": ("D +0x1000 +0x2000\nD 0x5000 0x2000\n", TWO),
    "sizes-meant-in-decimal": ("D 4096 8192\nD 20480 8192\n", None),
    "nothing-of-the-form": ("D\n# D 0x1000 0x2000\n", None),
    "a-size-of-zero": ("D 0x1000 0\n", None),
    "two-sizes": ("D 0x1000 0x2000\nD 0x5000 0x1000\n", None),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_places_are_those_where_the_tool_looks(tmp_path: Path, name: str) -> None:
    text, expected = TABLE[name]
    medium, config = tmp_path / "medium", tmp_path / "fw_env.config"
    config.write_bytes(text.replace("D", str(medium)).encode())
    data = bytearray(b"\xff" * 0x10000)
    for number, (offset, size) in enumerate(expected or TWO):
        flags = None if expected and len(expected) == 1 else 7 - number
        data[offset : offset + size] = rawenv.encode({"marker": f"copy {number}"}, size, flags)
    medium.write_bytes(data)
    argv = ["fw_printenv", "-c", str(config), "-f", "/dev/null/none", "-n", "marker"]
    tool = subprocess.run(argv, capture_output=True, text=True)
    assert tool.stdout == ("copy 0\n" if expected else ""), "the table says something else than the tool"
    if expected is None:
        with pytest.raises(DeviceError) as caught:
            rawenv.parse_config(config.read_text())
        assert caught.value.code == "device.env-config"
    else:
        places = tuple(Place(str(medium), offset, size) for offset, size in expected)
        with config.open(newline="") as file:
            assert rawenv.parse_config(file.read()) == places
