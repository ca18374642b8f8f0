"""Waves: who takes a release when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from twinslot.core.waves import PLACES, WHOLE, Wave, bounds, place_of, turn_of

START = datetime(2026, 12, 1, tzinfo=UTC)
RELEASE = "ab" * 32
shares = st.lists(st.integers(1, WHOLE // 12), min_size=1, max_size=12)


def start_of(waves: list[Wave], place: int) -> datetime | None:
    turn = turn_of(waves, place)
    return turn.start if turn else None


def waves_of(parts: list[int], spread: int = 0) -> list[Wave]:
    return [Wave(share, START + timedelta(days=number), spread) for number, share in enumerate(parts)]


@given(shares)
def test_each_wave_has_its_exact_share_of_the_places_and_none_is_in_two(parts: list[int]) -> None:
    found = list(bounds(waves_of(parts)))
    behind = 0
    for number, (wave, low, high) in enumerate(found):
        assert low == behind
        assert abs((high - low) - wave.share * PLACES / WHOLE) < 1
        assert high == sum(parts[: number + 1]) * PLACES // WHOLE
        behind = high
    assert behind <= PLACES


def test_all_shares_together_reach_every_place() -> None:
    waves = waves_of([10_000, 90_000, 900_000])
    assert [start_of(waves, place) for place in (0, PLACES - 1)] == [START, START + timedelta(days=2)]


def test_a_device_that_no_wave_has_reached_waits() -> None:
    assert start_of(waves_of([WHOLE // 2]), PLACES // 2 - 1) == START
    assert start_of(waves_of([WHOLE // 2]), PLACES // 2) is None


@given(st.integers(0, PLACES - 1), st.integers(0, PLACES - 1), st.integers(0, 31_622_400))
def test_inside_a_wave_devices_begin_in_the_order_of_their_places_within_its_spread(
    one: int, other: int, spread: int
) -> None:
    waves = [Wave(WHOLE, START, spread)]
    first, second = (start_of(waves, place) for place in sorted((one, other)))
    assert first is not None
    assert second is not None
    assert START <= first <= second <= START + timedelta(seconds=spread)


@settings(deadline=None)
@given(st.text(max_size=80), st.sampled_from([RELEASE, "cd" * 32]))
def test_a_place_is_one_of_those_there_are_and_stays(device: str, release: str) -> None:
    place = place_of(device, release)
    assert 0 <= place < PLACES
    assert place_of(device, release) == place


def test_ten_thousand_devices_meet_the_plan_and_another_release_has_another_order() -> None:
    waves = waves_of([10_000, 90_000, 900_000])
    devices = [f"device-{number}" for number in range(10_000)]
    places = {release: [place_of(device, release) for device in devices] for release in (RELEASE, "cd" * 32)}
    first = [place for place in places[RELEASE] if start_of(waves, place) == START]
    assert 70 <= len(first) <= 130  # 100 expected, three standard deviations
    early = {
        release: {d for d, place in zip(devices, found, strict=True) if start_of(waves, place) == START}
        for release, found in places.items()
    }
    assert len(early[RELEASE] & early["cd" * 32]) < 10
