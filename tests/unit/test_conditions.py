"""Power, network, room and the way back: what is asked for and not told stands against a step."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from simulation.updater import NOWHERE
from twinslot.config.options import Config
from twinslot.config.policy import DAY, InUseConfig, NetworkConfig, PolicyConfig, PowerConfig
from twinslot.core.policy import Gate, Question, Wish
from twinslot.policy.conditions import supplies, ways_out
from twinslot.policy.local import LocalPolicy

NOW = datetime(2026, 5, 5, 12, tzinfo=UTC)
HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT"
ETHERNET = "eth0\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0"
CELLULAR = "wwan0\t00000000\t0100000A\t0003\t0\t0\t700\t00000000\t0\t0\t0"
LOCAL = "wwan1\t0002A8C0\t00000000\t0001\t0\t0\t50\t00FFFFFF\t0\t0\t0"
DOWN = "wwan2\t00000000\t0100000A\t0002\t0\t0\t10\t00000000\t0\t0\t0"
ZERO = "0" * 32
IPV6 = f"{ZERO} 00 {ZERO} 00 fe80{'0' * 27}1 00000064 00000001 00000000 00000003    wwan0"
NO_WAY = f"{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 00000001 00000000 00200200       lo"


def supply(root: Path, name: str, **files: str) -> None:
    place = root / "sys/class/power_supply" / name
    place.mkdir(parents=True, exist_ok=True)
    for key, text in files.items():
        (place / key).write_text(f"{text}\n")


def routes(root: Path, *lines: str, ipv6: str = "") -> None:
    place = root / "proc/1/net"
    place.mkdir(parents=True, exist_ok=True)
    (place / "route").write_text("\n".join([HEAD, *lines]) + "\n")
    (place / "ipv6_route").write_text(ipv6)


def config(root: Path, **policy: Any) -> Config:
    record = dataclasses.replace(NOWHERE.record, directory=root)
    nobody = InUseConfig(directories=(), logind=False)
    return dataclasses.replace(NOWHERE, record=record, policy=PolicyConfig(in_use=nobody, **policy))


def told(root: Path, gate: Gate, *, remote: bool = True, proven: str = "", **policy: Any) -> list[str]:
    here = LocalPolicy(config(root, **policy), lambda: NOW, root=root)
    found = here.obstacles(Question(gate, Wish(remote=remote), proven=proven))
    return [f"{each.why.code} {each.why.found}" for each in found]


@pytest.mark.verifies("REQ-POL-03")
def test_an_update_waits_for_power_from_outside_and_for_a_full_battery(tmp_path: Path) -> None:
    both = PowerConfig(mains=True, battery=40)
    assert told(tmp_path, Gate.ACTIVATE, power=both) == ["power None"]
    supply(tmp_path, "AC", type="Mains", online="0")
    supply(tmp_path, "BAT0", type="Battery", capacity="39")
    supply(tmp_path, "mouse", type="Battery", capacity="3", scope="Device")
    assert told(tmp_path, Gate.ACTIVATE, power=both) == ["power None"]
    supply(tmp_path, "AC", online="1")
    for gate in (Gate.WRITE, Gate.ACTIVATE, Gate.RESTART):
        assert told(tmp_path, gate, power=both) == ["battery BAT0 39 %"]
    assert told(tmp_path, Gate.FETCH, power=both) == []
    supply(tmp_path, "BAT0", capacity="40")
    assert told(tmp_path, Gate.RESTART, power=both) == []
    supply(tmp_path, "BAT1", type="Battery", capacity="none")
    assert told(tmp_path, Gate.RESTART, power=both) == ["battery BAT1 not known"]
    assert told(tmp_path, Gate.RESTART) == [], "nothing is asked for"


def test_a_battery_that_is_asked_for_and_is_none_is_not_full(tmp_path: Path) -> None:
    assert told(tmp_path, Gate.WRITE, power=PowerConfig(battery=1)) == ["battery no battery"]
    assert supplies(tmp_path) == ()


@pytest.mark.verifies("REQ-POL-03")
def test_a_metered_network_is_the_one_that_the_preferred_route_leads_to(tmp_path: Path) -> None:
    wait = NetworkConfig(metered=("wwan*",), on_metered="wait")
    assert told(tmp_path, Gate.FETCH, network=wait) == []
    routes(tmp_path, CELLULAR, ETHERNET, LOCAL, DOWN, "nonsense", ipv6=NO_WAY)
    assert ways_out(tmp_path) == ("eth0",)
    assert told(tmp_path, Gate.FETCH, network=wait) == []
    routes(tmp_path, CELLULAR, LOCAL)
    assert told(tmp_path, Gate.FETCH, network=wait) == ["metered wwan0"]
    assert told(tmp_path, Gate.FETCH, network=wait, remote=False) == [], "a file costs nothing"
    assert told(tmp_path, Gate.WRITE, network=wait) == []
    routes(tmp_path, ETHERNET, ipv6=f"{IPV6}\n{NO_WAY}\n")
    assert ways_out(tmp_path) == ("eth0", "wwan0")
    assert told(tmp_path, Gate.FETCH, network=wait) == ["metered eth0, wwan0"]


@pytest.mark.verifies("REQ-POL-03")
def test_on_a_metered_network_an_update_has_a_budget_of_its_own(tmp_path: Path) -> None:
    network = NetworkConfig(metered=("wwan*",), on_metered="budget", budget=1000)

    def budget(delta: int) -> int:
        found = config(tmp_path, network=network)
        found = dataclasses.replace(found, delta=dataclasses.replace(found.delta, budget=delta))
        return LocalPolicy(found, lambda: NOW, root=tmp_path).budget()

    routes(tmp_path, ETHERNET)
    assert (budget(0), budget(500), budget(5000)) == (0, 500, 5000)
    routes(tmp_path, CELLULAR)
    assert (budget(0), budget(500), budget(5000)) == (1000, 500, 1000)
    assert told(tmp_path, Gate.FETCH, network=network) == []


@pytest.mark.verifies("REQ-POL-03")
def test_an_update_is_not_begun_without_room_on_the_data_partition(tmp_path: Path) -> None:
    for gate in (Gate.FETCH, Gate.WRITE):
        assert told(tmp_path, gate, free_space=1) == []
        (found,) = told(tmp_path, gate, free_space=1 << 44)
        assert found.startswith("no-room ")
    assert told(tmp_path, Gate.ACTIVATE, free_space=1 << 44) == []
    assert told(tmp_path / "none", Gate.FETCH, free_space=1) == ["no-room not known"]


@pytest.mark.verifies("REQ-POL-03")
def test_an_update_is_not_begun_while_the_way_back_was_not_proven_lately(tmp_path: Path) -> None:
    def date(days: float) -> str:
        return f"{NOW - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"

    for gate in (Gate.FETCH, Gate.WRITE):
        assert told(tmp_path, gate, proven=date(6), fallback_proven=7 * DAY) == []
        assert told(tmp_path, gate, fallback_proven=7 * DAY) == ["fallback-unproven not proven"]
        assert told(tmp_path, gate, proven=date(8), fallback_proven=7 * DAY) == [f"fallback-unproven {date(8)}"]
        assert told(tmp_path, gate, proven=date(-1), fallback_proven=7 * DAY) == [f"fallback-unproven {date(-1)}"]
    assert told(tmp_path, Gate.ACTIVATE, fallback_proven=7 * DAY) == []
