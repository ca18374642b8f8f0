"""Power cuts are drawn so that any one can be repeated, and each phase has its turn."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from twinslot_lab.powercut.plan import COLD, WARM, draw

NUMBERS = st.integers(0, 10_000)


@given(st.integers(), NUMBERS)
def test_a_cut_follows_from_seed_and_number_alone(seed: int, number: int) -> None:
    cut = draw(seed, number)
    assert cut == draw(seed, number)
    assert 0 <= cut.share <= 1
    assert 0 <= cut.delay <= 2
    assert cut.twice is None or 0 <= cut.twice <= 1
    assert not cut.aimed or cut.phase.card != "never"
    assert not cut.asked or cut.phase.answers


@given(st.integers(), st.integers(0, 500))
def test_each_block_of_cuts_has_every_phase_once(seed: int, block: int) -> None:
    names = [draw(seed, block * len(WARM) + n).phase.name for n in range(len(WARM))]
    assert sorted(names) == sorted(phase.name for phase in WARM)


def test_the_first_cuts_reach_every_phase_and_the_cuts_differ() -> None:
    drawn = [draw(1, number) for number in range(20)]
    assert {cut.phase for cut in drawn} == set(WARM)
    assert len({cut.share for cut in drawn}) == 20
    assert {draw(1, number, COLD).phase for number in range(2)} == set(COLD)


def test_some_cuts_come_twice_some_are_aimed_and_some_are_followed_by_an_install() -> None:
    drawn = [draw(7, number) for number in range(400)]
    assert 120 < sum(cut.twice is not None for cut in drawn) < 200
    assert 20 < sum(cut.again for cut in drawn) < 70
    assert Counter(cut.aimed for cut in drawn)[True] > 60
