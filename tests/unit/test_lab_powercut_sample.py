"""Which power cuts `make test` makes: drawn by the commit, few, and no two alike."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from twinslot_lab.command import ROOT, run
from twinslot_lab.description import load
from twinslot_lab.powercut import campaign, plan, sample, starting_point, story
from twinslot_lab.qemu_board import QemuBoard
from twinslot_lab.snapshot import Snapshot


def seeded(monkeypatch: pytest.MonkeyPatch, seed: int) -> dict[str, list[plan.Cut]]:
    monkeypatch.setenv(sample.SEED, str(seed))
    sample.seed.cache_clear()
    drawn = {board: sample.cuts(board) for board in sample.COUNT}
    sample.seed.cache_clear()
    return drawn


def test_every_board_has_its_number_of_cuts_each_in_a_phase_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(40):
        for board, cuts in seeded(monkeypatch, seed).items():
            assert len(cuts) == sample.COUNT[board]
            assert len({cut.phase.name for cut in cuts}) == len(cuts)


def test_two_stories_are_lived_on_the_first_board_and_one_on_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    others = set()
    for seed in range(40):
        stories = {b: campaign.stories_of(c.phase for c in cuts) for b, cuts in seeded(monkeypatch, seed).items()}
        assert list(stories["orangepi-pc"]) == ["cold"]
        assert list(stories["virt-armv7"]) == ["good"]
        assert "good" in stories["virt-arm64"]
        others |= set(stories["virt-arm64"])
    assert others == {"good", "bad", "tries"}


def test_only_the_parts_that_a_cut_begins_with_are_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    for board, cuts in seeded(monkeypatch, 7).items():
        frozen = campaign.stories_of(cut.phase for cut in cuts)
        assert {point for points in frozen.values() for point in points} == {cut.phase.starting_point for cut in cuts}
        assert sum(map(len, frozen.values())) <= sample.COUNT[board]


def test_a_moment_that_no_cut_begins_with_is_passed_without_being_frozen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen, begun = list[str](), list[str]()
    monkeypatch.setattr(Snapshot, "take", lambda _board, folder, **_: frozen.append(folder.name))
    monkeypatch.setattr(starting_point, "act", lambda _board, action: begun.append(action))
    driver = story.StoryDriver(cast(QemuBoard, None), "good", tmp_path, frozenset({"write"}))
    for name, action in (("verify", "install"), ("write", ""), ("reboot", "reboot")):
        driver.freeze(name, action)
    driver.finish()
    assert frozen == ["write"] == [point.name for point in driver.starting_points]
    assert begun == ["install", "", "reboot"]


def test_some_tens_of_commits_cut_in_every_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {cut.phase.name for seed in range(60) for cut in seeded(monkeypatch, seed)["virt-arm64"]}
    assert seen == {phase.name for phase in plan.WARM}


def test_a_cut_of_the_sample_is_the_one_that_its_seed_and_number_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    for board, cuts in seeded(monkeypatch, 7).items():
        for cut in cuts:
            assert plan.draw(7, cut.number, campaign.phases_of(load(board))) == cut


def test_without_a_seed_the_commit_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    monkeypatch.delenv(sample.SEED, raising=False)
    sample.seed.cache_clear()
    head = run("git", "-C", ROOT, "-c", f"safe.directory={ROOT}", "rev-parse", "HEAD")
    assert sample.seed() == int(head[:8], 16)
    sample.seed.cache_clear()
