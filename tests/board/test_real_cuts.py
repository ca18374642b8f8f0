"""Power cuts by killing QEMU at drawn moments of an update (docs/safety.md, "Power cuts, for real").

`make powercut` does many more of them. A cut follows from seed and number alone: the failure says how to repeat it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from twinslot_lab.description import load
from twinslot_lab.powercut import campaign, cli, plan
from twinslot_lab.powercut.campaign import HOME, Theatre

pytestmark = pytest.mark.board

SEED = 1
CUTS = {"virt-arm64": 20, "virt-armv7": 2, "orangepi-pc": 2}
SLOW = ("orangepi-pc",)  # a quarter of an hour until the first cut: in `make test-long`


def cuts() -> Iterator[object]:
    """Each number of each board."""
    for board, count in CUTS.items():
        for number in range(count):
            marks = [pytest.mark.long] if board in SLOW else []
            yield pytest.param(board, number, id=f"{board}-{number}", marks=marks)


@pytest.fixture(scope="session")
def theatres() -> dict[str, Theatre]:
    """Boards whose stories were lived and frozen, by name; filled by the first cut of each."""
    return {}


@pytest.mark.parametrize(("board", "number"), list(cuts()))
def test_a_power_cut_leaves_one_signed_system_and_a_record_that_agrees(
    theatres: dict[str, Theatre], board: str, number: int
) -> None:
    if board not in theatres:
        phases = campaign.phases_of(load(board))
        drawn = [plan.draw(SEED, number, phases) for number in range(CUTS[board])]
        theatres[board] = campaign.prepare(board, cuts=drawn)
    line = campaign.one(theatres[board], SEED, number, HOME / "test" / f"{board}-{number}")
    assert line["outcome"] != "BRICK", "\n" + cli.brick(line)
    assert line["audit_rows_lost"] == 0, f"phase {line['phase']}, second {line['second']}"
