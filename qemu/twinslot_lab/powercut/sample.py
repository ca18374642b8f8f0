"""The cuts that `make test` makes on each board, and the stories that they begin from.

They are drawn by the commit, so that each commit's run looks elsewhere; `seed` says how to have those of another one.
`python -m twinslot_lab stories` lives the stories, two at once. Tests do it for themselves if nobody did; but a story
that is lived while other tests run takes longer, and they wait for it.
"""

from __future__ import annotations

import functools
import os
import random

from twinslot_lab.command import ROOT, run
from twinslot_lab.description import load
from twinslot_lab.errors import BuildError
from twinslot_lab.powercut import campaign, plan, story
from twinslot_lab.powercut.campaign import CampaignSetup
from twinslot_lab.powercut.plan import Cut
from twinslot_lab.powercut.verdict import SlotContents
from twinslot_lab.snapshot import Snapshot

COUNT = {"orangepi-pc": 1, "virt-arm64": 8, "virt-armv7": 1}  # cuts on each board
SEED = "TWINSLOT_CUT_SEED"
# Each story takes minutes to live. Beside the good update, which other tests begin from as well, one other is lived: by
# the share of phases that are parts of it.
_OTHERS = ("bad", "bad", "bad", "tries")


@functools.cache
def seed() -> int:
    """From TWINSLOT_CUT_SEED; else the first 32 bits of the commit's hash; 1 where there is no commit."""
    if given := os.environ.get(SEED):
        return int(given)
    try:
        return int(run("git", "-C", ROOT, "-c", f"safe.directory={ROOT}", "rev-parse", "HEAD")[:8], 16)
    except BuildError:
        return 1


def cuts(board: str) -> list[Cut]:
    """The cuts of this board: of the first block of numbers, which has each phase once, those of the stories lived."""
    phases = campaign.phases_of(load(board))
    lived = {"cold", "good"}
    if COUNT[board] > 1:
        lived.add(random.Random(seed()).choice(_OTHERS))
    block = (plan.draw(seed(), number, phases) for number in range(len(phases)))
    return [cut for cut in block if cut.phase.story in lived][: COUNT[board]]


@functools.cache
def setup(board: str) -> CampaignSetup:
    """What they need, from the cache or lived now."""
    return campaign.prepare(board, cuts=cuts(board))


def updated(board: str) -> tuple[Snapshot, SlotContents]:
    """The board after the story's good update, off, and what its slots hold."""
    stories = setup(board).stories
    frozen = stories.get("cold") or stories["good"]
    return Snapshot.load(frozen.board, frozen.home / story.UPDATED), frozen.system


def live_all() -> None:
    """Live every story of the sample, and freeze what its cuts begin with."""
    wanted = [
        (board, name, points)
        for board in COUNT
        for name, points in campaign.stories_of(cut.phase for cut in cuts(board)).items()
    ]
    longest_first = list(story.STORIES)
    campaign.live(sorted(wanted, key=lambda one: longest_first.index(one[1])))
