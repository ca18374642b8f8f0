"""docs/guide-policy.md: its configuration loads, its commands stand against a step, its output is ours."""

from __future__ import annotations

import configparser
import datetime
import re
import subprocess
from pathlib import Path

import pytest

from twinslot.cli.render import GOES_ON, policy_lines
from twinslot.config.options import load
from twinslot.core.policy import Gate, ObstacleKind, Question, Wish
from twinslot.engine.assemble import NO_TRIAL
from twinslot.policy.local import LocalPolicy

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/guide-policy.md").read_text()
DEVICE = """
[device]
compatible = "acme,pump-3"
[slots.a]
rootfs = "/dev/disk/by-partlabel/slot_a"
[slots.b]
rootfs = "/dev/disk/by-partlabel/slot_b"
[boot]
default_env = "/etc/u-boot-initial-env"
[trust]
roles = ["engineering"]
"""
BLOCK = re.compile(r"^```(\w*) ?\S*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOW = datetime.datetime(2026, 11, 30, 12, tzinfo=datetime.UTC)


def examples(language: str) -> list[str]:
    return [text for found, text in BLOCK.findall(PAGE) if found == language]


def configured(directory: Path, *more: str) -> None:
    """A device, with more in files of their own."""
    folder = directory / "usr/lib/twinslot/config.d"
    folder.mkdir(parents=True)
    (folder.parent / "config.toml").write_text(DEVICE)
    for number, text in enumerate(more):
        (folder / f"{number}.toml").write_text(text)


def test_the_configuration_of_the_guide_loads(tmp_path: Path) -> None:
    configured(tmp_path, *examples("toml"))
    loaded = load(tmp_path)
    policy = loaded.policy
    assert [window.calendar for window in policy.fetch_window] == ["*-*-* 20:00"]
    assert [window.timezone for window in policy.restart_window] == ["Europe/Berlin"]
    assert (policy.consent.mode, policy.consent.limit, policy.consent.limit_security) == ("required", 1209600, 259200)
    assert (policy.free_space, policy.fallback_proven) == (20_000_000, 2_592_000)
    assert (policy.power.mains, policy.power.battery) == (True, 40)
    assert (policy.network.metered, policy.network.on_metered) == (("wwan*", "ppp*"), "budget")
    watch = loaded.watch
    assert (watch.action, watch.units, watch.program[0].high) == ("rollback", ("pump.service",), 0.4)


def test_what_a_product_writes_is_what_status_shows(tmp_path: Path) -> None:
    (script,) = examples("sh")
    say, gone = script.strip().splitlines()
    run = tmp_path / "run/twinslot/inhibit.d"
    run.mkdir(parents=True)
    configured(tmp_path)
    policy = LocalPolicy(load(tmp_path), lambda: NOW, root=tmp_path)
    subprocess.run(["sh", "-eu", "-c", say.replace("/run/", f"{tmp_path}/run/")], check=True)
    reasons = [each.why.as_dict() for each in policy.obstacles(Question(Gate.ACTIVATE, Wish()))]
    inhibitors = [each.as_dict() for each in policy.inhibitors()]
    shown = {"waits": {"until": None, "reasons": reasons}, "inhibitors": inhibitors, "windows": {}, "clock_known": True}
    (printed,) = examples("text")
    waits = GOES_ON.format(target="b")
    assert printed.splitlines() == [f"update    2026.11 (sequence 20) {waits}", *policy_lines(shown)]
    subprocess.run(["sh", "-eu", "-c", gone.replace("/run/", f"{tmp_path}/run/")], check=True)
    assert policy.obstacles(Question(Gate.ACTIVATE, Wish())) == ()


@pytest.mark.slow
def test_the_unit_of_the_guide_is_one_and_names_what_there_is(tmp_path: Path) -> None:
    (text,) = examples("ini")
    unit = configparser.ConfigParser()
    unit.read_string(text)
    assert unit["Unit"]["ConditionPathExists"] == str(NO_TRIAL)
    named = [unit["Unit"]["After"], unit["Install"]["WantedBy"].split()[1]]
    assert all((ROOT / "systemd" / name).exists() for name in named)
    service = tmp_path / "ward.service"
    service.write_text(f"{text}\n[Service]\nExecStart=/bin/true\n")
    said = subprocess.run(["systemd-analyze", "verify", "--man=no", str(service)], capture_output=True, text=True)
    assert "ward.service" not in said.stdout + said.stderr


@pytest.mark.verifies("REQ-POL-01")
def test_outside_of_the_window_of_the_guide_nothing_is_fetched(tmp_path: Path) -> None:
    configured(tmp_path, *examples("toml"))
    policy = LocalPolicy(load(tmp_path), lambda: NOW, root=tmp_path)
    assert ObstacleKind.WINDOW in {each.kind for each in policy.obstacles(Question(Gate.FETCH, Wish(remote=True)))}
    assert ObstacleKind.WINDOW not in {each.kind for each in policy.obstacles(Question(Gate.WRITE, Wish(remote=True)))}
