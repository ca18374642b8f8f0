"""Power cuts by killing QEMU at drawn moments of an update (docs/safety.md, "Power cuts, for real").

`make powercut` does many more of them. A cut follows from seed and number alone: the failure says how to repeat it. The
seed is the commit's, so that each commit's run looks elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from twinslot_lab.powercut import campaign, cli, sample
from twinslot_lab.powercut.campaign import HOME

pytestmark = pytest.mark.board


def cuts() -> Iterator[object]:
    """Each cut of each board; its name says in which part of the update."""
    for board in sample.COUNT:
        for cut in sample.cuts(board):
            yield pytest.param(board, cut.number, id=f"{board}-{cut.phase.name}")


@pytest.mark.parametrize(("board", "number"), list(cuts()))
def test_a_power_cut_leaves_one_signed_system_and_a_record_that_agrees(board: str, number: int) -> None:
    folder = HOME / "test" / f"{board}-{number}"
    line = campaign.one(sample.setup(board), sample.seed(), number, folder)
    folder.with_suffix(".json").write_text(json.dumps(line, indent=1) + "\n")
    assert line["outcome"] != "BRICK", cli.brick(line)
    assert line["audit_rows_lost"] == 0, f"phase {line['phase']}, second {line['second']}"
