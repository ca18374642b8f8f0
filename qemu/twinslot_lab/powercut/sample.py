"""The cuts that `make test` makes on each board, and the stories that they begin from.

`python -m twinslot_lab stories` lives them all, two at once. Tests do it for themselves if nobody did; but a story that
is lived while other tests run takes longer, and they wait for it.
"""

from __future__ import annotations

import functools

from twinslot_lab.description import load
from twinslot_lab.powercut import campaign, plan, story
from twinslot_lab.powercut.campaign import Theatre
from twinslot_lab.powercut.plan import Cut
from twinslot_lab.powercut.verdict import System
from twinslot_lab.snapshot import Snapshot

SAMPLE = {"orangepi-pc": (1, 2), "virt-arm64": (1, 20), "virt-armv7": (2, 2)}  # board -> seed, cuts


def cuts(board: str) -> list[Cut]:
    """The cuts of this board."""
    seed, count = SAMPLE[board]
    phases = campaign.phases_of(load(board))
    return [plan.draw(seed, number, phases) for number in range(count)]


@functools.cache
def theatre(board: str) -> Theatre:
    """What they need, from the cache or lived now."""
    return campaign.prepare(board, cuts=cuts(board))


def updated(board: str) -> tuple[Snapshot, System]:
    """The board after the story's good update, off, and what its slots hold."""
    scenes = theatre(board).scenes
    scene = scenes.get("cold") or scenes["good"]
    return Snapshot.load(scene.board, scene.home / story.UPDATED), scene.system


def live_all() -> None:
    """Live and freeze every story of the sample."""
    wanted = [(board, name) for board in SAMPLE for name in campaign.stories_of(cut.phase for cut in cuts(board))]
    longest_first = list(story.STORIES)
    campaign.live(sorted(wanted, key=lambda pair: longest_first.index(pair[1])))
