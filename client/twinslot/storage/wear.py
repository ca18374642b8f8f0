"""How worn the flash memory is, by its own word: the life-time registers of an eMMC.

JEDEC JESD84-B51, section 7.4: EXT_CSD byte 267 (PRE_EOL_INFO), 268 and 269 (DEVICE_LIFE_TIME_EST_TYP_A and _B). The
kernel shows them below /sys/class/mmc_host (Documentation/driver-api/mmc/mmc-dev-attrs.rst): `life_time` "0xA 0xB",
`pre_eol_info`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

PRE_EOL: Final = {1: "normal", 2: "warning", 3: "urgent"}  # spare blocks: fewer than 80 % used, 80 %, 90 %
WORN: Final = 0x0B  # the estimate is exceeded


@dataclass(frozen=True, slots=True)
class Wear:
    """One eMMC.

    Attributes:
        name: As the kernel has it, for example `mmc0:0001`.
        product: Name that its maker gave it.
        used_a: Hundredths of its life that are used at most, of the memory of type A; 110: more than all; None: not
            said.
        used_b: The same of type B.
        spare: How its spare blocks are: `normal`, `warning` or `urgent`; empty: not said.
    """

    name: str
    product: str
    used_a: int | None
    used_b: int | None
    spare: str

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def read_wear(system: Path) -> tuple[Wear, ...]:
    """Every eMMC that says something of its life.

    Args:
        system: Where the kernel shows its devices: /sys.
    """
    return tuple(_found(system / "class/mmc_host"))


def _found(hosts: Path) -> Iterator[Wear]:
    for place in sorted(hosts.glob("*/*:*")):
        life = _line(place / "life_time").split()
        if len(life) == 2:  # cards have none
            spare = PRE_EOL.get(_number(_line(place / "pre_eol_info")), "")
            used_a, used_b = (_used(_number(word)) for word in life)
            yield Wear(place.name, _line(place / "name"), used_a, used_b, spare)


def _used(value: int) -> int | None:
    """From steps of ten hundredths, each the highest of its step."""
    return value * 10 if 1 <= value <= WORN else None


def _number(text: str) -> int:
    with contextlib.suppress(ValueError):
        return int(text, 16)
    return -1


def _line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.readline(100).decode(errors="replace").strip()
    except OSError:
        return ""
