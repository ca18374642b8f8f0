"""A small fleet, simulated by the devices' own code; and what the page of the big one says."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from bench.fleet.__main__ import main
from bench.fleet.page import plots
from bench.fleet.scenario import BEGIN, DAY, WAVES_A, WAVES_B, FleetScenario, publications
from bench.fleet.simulate import SimulatedFleet, simulated
from twinslot.core.offer import OfferFacts, choose, parse_offers

SMALL = FleetScenario(devices=10_000, days=9)


@pytest.fixture(scope="module")
def found() -> dict[str, object]:
    return simulated(SMALL)


def test_a_release_that_is_halted_in_its_second_wave_hits_a_fraction_of_the_fleet(found: dict[str, object]) -> None:
    hit, halt = found["hit"], found["halt"]
    assert isinstance(hit, dict)
    assert isinstance(halt, dict)
    assert 0 < hit["began"] < SMALL.devices * 0.1
    assert hit["bricked"] <= hit["began"]
    assert halt["began_after"] <= hit["began"]
    assert halt["last"] <= sum(SMALL.poll) + 1, "one pause between two polls"


def test_the_next_release_reaches_all_but_those_who_are_named(found: dict[str, object]) -> None:
    finished = found["finished"]
    assert isinstance(finished, dict)
    bricked = found["hit"]["bricked"]  # type: ignore[index]
    assert finished["began"] + sum(finished["waiting"].values()) + bricked == SMALL.devices


def test_the_same_seed_tells_the_same_story() -> None:
    scenario = FleetScenario(devices=300, days=3)
    one, other = SimulatedFleet(scenario).run(), SimulatedFleet(scenario).run()
    assert (one.requests == other.requests).all()
    assert (one.began["A"] == other.began["A"]).all()
    assert one.decided == other.decided


def test_no_device_begins_before_its_wave_or_after_it_knew_of_the_halt() -> None:
    fleet = SimulatedFleet(FleetScenario(devices=2000, days=3))
    fleet.skew[:] = 0.0
    outcome = fleet.run()
    for device in range(2000):
        began = outcome.began["A"][device]
        if began < 3 * DAY:
            share = place_from_the_page(f"device-{device}", "a" * 64)
            start, spread, low, high = wave_of(share)
            assert began >= start + int(spread * (share - low) / (high - low)) - 1
            assert began <= outcome.saw_halt[device]


def test_a_device_without_a_clock_takes_its_turn_with_the_first_timestamp_after_it_and_never_before() -> None:
    scenario = FleetScenario(devices=600, days=9, dead=1.0, offline=0.0, in_use=0.0, outage=(8 * DAY, 0.0))
    fleet = SimulatedFleet(scenario)
    outcome = fleet.run()
    for device in range(scenario.devices):
        if outcome.bricked[device]:
            continue
        share = place_from_the_page(f"device-{device}", "b" * 64)
        start, spread, low, high = wave_of(share, WAVES_B)
        turn, began = start + int(spread * (share - low) / (high - low)), outcome.began["B"][device]
        signed = -(-turn // scenario.publishes) * scenario.publishes
        if signed + sum(scenario.poll) < scenario.days * DAY:
            assert signed - 1 <= began <= signed + sum(scenario.poll) + scenario.settle
        else:
            assert began >= signed - 1


def place_from_the_page(device: str, manifest: str) -> float:
    """As docs/guide-repository.md says it, written from the page alone."""
    text = f"{len(device)}:{device}:{manifest}".encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:4], "big") / 2**32


def wave_of(share: float, waves: Any = WAVES_A) -> tuple[float, float, float, float]:
    low = 0.0
    for part, start, spread, _ in waves:
        if share < low + part / 1e6:
            return start, spread, low, low + part / 1e6
        low += part / 1e6
    raise AssertionError("the waves leave no gap")


def test_an_independent_reading_of_the_page_puts_ten_thousand_devices_into_the_same_waves() -> None:
    (_, document), *_ = publications(FleetScenario())
    offered = parse_offers(document)
    for number in range(10_000):
        device = f"device-{number}"
        choice = choose(offered, OfferFacts(BEGIN.replace(year=2020), 10, device_id=device))
        assert choice.turn is not None
        start, *_ = wave_of(place_from_the_page(device, "a" * 64))
        assert (choice.turn.wave.start - BEGIN).total_seconds() == start


def test_the_command_writes_figures_page_and_plots(tmp_path: Path) -> None:
    report = tmp_path / "fleet.json"
    assert main(["--devices", "200", "--report", str(report), "--docs", str(tmp_path / "docs")]) == 0
    figures = json.loads(report.read_text())
    text = (tmp_path / "docs/fleet.md").read_text()
    for name in plots(figures):
        assert (tmp_path / f"docs/fleet-{name}.svg").read_text().startswith("<svg")
        assert f"fleet-{name}.svg" in text
    assert f"{figures['requests']['peak']:,}" in text
