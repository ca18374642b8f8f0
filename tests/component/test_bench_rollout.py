"""A small fleet at the server on paper, by the same story as `make fleet` has it on a real one."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from bench.rollout.__main__ import main
from bench.rollout.operator import RolloutLook
from bench.rollout.page import page, plots
from bench.rollout.scenario import RolloutScenario
from bench.rollout.story import RolloutStory
from fakes.hawkbit import Deployment, FakeHawkbit, Module, serving

SMALL = RolloutScenario(
    devices=40,
    groups=4,
    success=60,
    bad_network=0.1,
    cut=0.1,
    silent=0.05,
    speed=1000.0,
    workers=6,
    limit=600.0,
    looks=0.05,
)
OVER = ("finished", "error", "canceled")


@dataclass
class PaperRollout:
    """A rollout on paper: one group after the other, as hawkBit has it."""

    release: str
    groups: list[list[str]]
    success: int
    error: int
    orders: list[list[Deployment]] = field(default_factory=list)
    paused: bool = False


class PaperOperator:
    """Groups and thresholds for the server on paper, which has none. Implements `RolloutOperator`."""

    tenant = "DEFAULT"
    authorization = ("GatewayToken", "key")

    def __init__(self, hawkbit: FakeHawkbit) -> None:
        self.url, self.hawkbit = hawkbit.url, hawkbit
        hawkbit.gateway, hawkbit.sleep = "key", "00:05:00"
        self.rollouts: list[PaperRollout] = []

    def prepare(self, names: Sequence[str]) -> None:
        for name in names:
            self.hawkbit.device(name)

    def roll_out(self, release: str, prefix: str, groups: int, success: int, error: int) -> int:
        names = sorted(name for name in self.hawkbit.targets if name.startswith(prefix))
        size = len(names) // groups
        parts = [names[at : at + size] for at in range(0, len(names), size)]
        self.rollouts.append(PaperRollout(release, parts, success, error))
        return len(self.rollouts) - 1

    def look(self, rollout: int) -> RolloutLook:
        found = self.rollouts[rollout]
        with self.hawkbit.guard:
            self._moved(found)
            states = Counter(each.status for group in found.orders for each in group)
            behind = found.groups[len(found.orders) :]
        counts = {"waiting": sum(map(len, behind)), "running": sum(n for word, n in states.items() if word not in OVER)}
        counts |= {word: states[word] for word in ("finished", "error")}
        groups = (*("running" for _ in found.orders), *("scheduled" for _ in behind))
        return RolloutLook("paused" if found.paused else "running", counts, groups)

    def _moved(self, found: PaperRollout) -> None:
        """The next group begins, or nothing does any more."""
        for group in found.orders:
            failed = sum(each.status == "error" for each in group)
            found.paused = found.paused or 100 * failed > found.error * len(group)
        last = found.orders[-1] if found.orders else []
        well = 100 * sum(each.status == "finished" for each in last) >= found.success * len(last)
        if well and not found.paused and len(found.orders) < len(found.groups):
            names = found.groups[len(found.orders)]
            files = {f"{found.release}.twin": b"image"}
            found.orders.append([self.hawkbit.assign(name, Module("pump", found.release, files)) for name in names])

    def orders(self, name: str) -> dict[str, str]:
        return {str(each.number): each.status for each in self.hawkbit.actions if each.controller == name}


@pytest.fixture(scope="module")
def found() -> Iterator[dict[str, Any]]:
    hawkbit = FakeHawkbit()
    with serving(hawkbit):
        yield RolloutStory(SMALL, PaperOperator(hawkbit), "pump").run() | {"server": "on paper"}


@pytest.mark.slow
@pytest.mark.verifies("S23")
def test_no_device_is_lost_and_no_success_is_told_that_was_none(found: dict[str, Any]) -> None:
    assert found["end"]["lost"] == []
    assert found["end"]["false"] == found["books"]["false"] == []
    assert found["end"]["unjust"] == []
    assert found["books"]["faults"] == []


def test_the_fleet_has_devices_of_every_kind(found: dict[str, Any]) -> None:
    assert found["devices"]["never"]
    assert found["books"]["cuts"]
    assert found["books"]["errors"]["transport.network"]


def test_a_good_release_reaches_every_group(found: dict[str, Any]) -> None:
    good = found["rollouts"]["good"]
    assert good["states"]["waiting"] == 0
    assert good["reached"]["committed"] > SMALL.devices * 0.8


def test_a_bad_release_stops_in_its_first_group(found: dict[str, Any]) -> None:
    bad = found["rollouts"]["bad"]
    assert bad["status"] == "paused"
    assert bad["states"]["waiting"] == SMALL.devices - SMALL.devices // SMALL.groups
    assert sum(bad["reached"].values()) <= SMALL.devices // SMALL.groups


def test_the_page_has_the_figures_of_each_server(
    found: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = tmp_path / "build/bench"
    reports.mkdir(parents=True)
    (reports / "rollout-on paper.json").write_text(json.dumps(found))
    monkeypatch.chdir(tmp_path)
    assert main(["--docs", str(tmp_path / "docs")]) == 0
    text = (tmp_path / "docs/fleet-hawkbit.md").read_text()
    assert text == page([json.loads(json.dumps(found))])
    assert "| **devices lost** | **0** |" in text
    for name in plots(found):
        assert f"({name})" in text
        assert (tmp_path / "docs" / name).read_text().startswith("<svg")


@pytest.mark.parametrize(("word", "finding"), [("finished", "false"), ("running", "lost"), ("error", "unjust")])
def test_a_server_that_believes_what_no_device_said_is_found(word: str, finding: str) -> None:
    hawkbit = FakeHawkbit()
    few = replace(SMALL, devices=8, groups=2, silent=0.0, bad_network=0.0, bad=replace(SMALL.bad, fails=1.0))
    with serving(hawkbit):
        operator = PaperOperator(hawkbit)
        story = RolloutStory(few, operator, "pump")
        orders = operator.orders
        operator.orders = lambda name: dict.fromkeys(orders(name), word)  # type: ignore[method-assign]
        end = story.run()["end"]
    assert end[finding]
    assert not end["lost" if finding != "lost" else "false"]
