"""The main job on the other emulated boards: 32 bit, and an Allwinner H3 that starts from SPL on its SD card.

What concerns the watchdog and deadlines is tested on virt-arm64 only: these boards have no watchdog, or cannot be
relied on for time.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from twinslot_lab import demo

pytestmark = pytest.mark.board


@pytest.mark.parametrize("board", ["virt-armv7", "orangepi-pc"])
def test_a_good_update_stays_and_a_bad_one_goes_back(artifacts: Path, board: str) -> None:
    report = demo.run(board, artifacts)
    good, bad = report["updates"]
    assert (good["outcome"], good["from_slot"], good["to_slot"]) == ("committed", "a", "b")
    assert good["running_digest"] == good["image_digest"], "S14: byte for byte what was signed, as the guest read it"
    assert (bad["outcome"], bad["reason"], bad["to_slot"]) == ("rolled-back", "unhealthy", "a")
    assert bad["running_digest"] == good["image_digest"]
    assert report["doctor"]["healthy"]
