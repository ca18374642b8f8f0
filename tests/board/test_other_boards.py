"""The main job on the other emulated boards: 32 bit, and an Allwinner H3 that starts from SPL on its SD card.

What concerns the watchdog and deadlines is tested on virt-arm64 only: these boards have no watchdog, or cannot be
relied on for time.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from twinslot_lab import demo
from twinslot_lab.powercut import sample
from twinslot_lab.product import Product
from twinslot_lab.release import ReleaseTeam

pytestmark = pytest.mark.board


@pytest.mark.parametrize("board", ["virt-armv7", "orangepi-pc"])
def test_a_good_update_stays_and_a_bad_one_goes_back(artifacts: Path, board: str) -> None:
    """The good update is the one that the power cuts begin from: it was lived without a cut."""
    snapshot, system = sample.updated(board)
    with snapshot.start(artifacts / "board") as device:
        device.wait_up(slot="b")
        good = Product(device).history()[0]
        bad = demo.update(demo.Timeline(), device, ReleaseTeam(board).image(demo.BAD), "b", "rolled-back")
        doctor = Product(device).doctor()
    assert (good["release"]["name"], good["target"], good["outcome"]) == (demo.GOOD.name, "b", "committed")
    assert (bad["reason"], bad["from_slot"], bad["to_slot"]) == ("unhealthy", "b", "a")
    assert bad["running_digest"] == system.b.digest, "S14: byte for byte what was signed, as the guest read it"
    assert doctor["healthy"]
