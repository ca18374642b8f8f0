"""Power goes at every storage call of a download: what was fetched and flushed is never fetched again."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from simulation.board import SimulatedBoard, power_may_go
from simulation.image import SmallImage, SmallStream
from simulation.power import Power
from twinslot.core.requests import InstallOptions
from twinslot.core.slotset import slots_from

OLD = SmallImage("1.0", 10, groups=7)
NEW = SmallImage("2.0", 20, groups=7)
SEEDS = range(int(os.environ.get("TWINSLOT_SEEDS", "2")))


def memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def download(board: SimulatedBoard, image: SmallImage) -> SmallStream:
    """Install as from a server with ranges, over a slow network; the trial is not started."""
    stream = SmallStream(image, ranged=True)
    stream.takes = board.wait
    board.last = stream
    board.engine().install(stream, InstallOptions(activate=False))
    return stream


def calls_of_a_download() -> int:
    with TemporaryDirectory(dir=memory()) as directory:
        board = SimulatedBoard(Path(directory), OLD, NEW)
        board.live()
        board.set_power(Power())
        download(board, NEW)
        return board.power.calls


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_after_a_cut_at_any_call_at_most_one_group_is_fetched_again(seed: int) -> None:
    total = calls_of_a_download()
    assert total > 20
    repeated = []
    for cut in range(1, total + 1):
        with TemporaryDirectory(dir=memory()) as directory:
            board = SimulatedBoard(Path(directory), OLD, NEW)
            board.live()
            board.set_power(Power(cut, seed))
            with power_may_go(board):
                download(board, NEW)
            before = board.last.groups if board.last else []
            board.live()
            again = download(board, NEW).groups
            repeated.append(len(set(before) & set(again)))
            assert set(before) | set(again) == set(range(7)) or not before, f"cut {cut}"
            assert repeated[-1] <= 1, f"cut {cut} of {total}, seed {seed}: {before}, then {again}"
            assert board.running is not None
            other = slots_from(board.running).target()
            assert board.holds(other) is NEW, f"cut {cut}"
    assert max(repeated) <= 1


def test_a_second_download_of_the_same_release_fetches_nothing() -> None:
    with TemporaryDirectory(dir=memory()) as directory:
        board = SimulatedBoard(Path(directory), OLD, NEW)
        board.live()
        download(board, NEW)
        assert download(board, NEW).groups == []
