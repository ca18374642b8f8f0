"""Programs that say whether the device may be restarted, and who blocks logind."""

from __future__ import annotations

import dataclasses
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from simulation.updater import NOWHERE
from twinslot.config.options import Config
from twinslot.config.policy import InUseConfig, PolicyConfig, WindowConfig
from twinslot.core.policy import Gate, Obstacle, Question, Wish
from twinslot.policy import logind
from twinslot.policy.local import LocalPolicy
from twinslot.policy.logind import logind_inhibitors

NOW = datetime(2026, 1, 1, tzinfo=UTC)
INHIBITORS = """{"type":"a(ssssuu)","data":[[
["shutdown:sleep","apt","packages are being installed","block",0,812],
["sleep","lid","it is open","block",0,813],
["shutdown","NetworkManager","wants to know","delay",0,700],
["handle-power-key:shutdown","pump","alarm","block-weak",0,701]]]}"""


def config(directory: Path, timeout: float = 60) -> Config:
    in_use = InUseConfig(directories=(directory / "ready.d",), timeout=timeout)
    return dataclasses.replace(NOWHERE, policy=PolicyConfig(in_use=in_use))


def program(directory: Path, name: str, text: str) -> None:
    (directory / "ready.d").mkdir(exist_ok=True)
    path = directory / "ready.d" / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def obstacles(directory: Path, gate: Gate = Gate.ACTIVATE, *, may_ask: bool = True) -> tuple[Obstacle, ...]:
    policy = LocalPolicy(config(directory), lambda: NOW, may_ask=may_ask, root=directory)
    return policy.obstacles(Question(gate, Wish()))


def told(directory: Path, gate: Gate = Gate.ACTIVATE) -> list[tuple[str, str | None]]:
    return [(each.why.message, each.why.found) for each in obstacles(directory, gate)]


@pytest.mark.verifies("S20")
def test_a_program_that_fails_or_is_none_means_in_use_and_its_last_words_say_why(tmp_path: Path) -> None:
    assert told(tmp_path) == []
    program(tmp_path, "10-free", "exit 0")
    assert told(tmp_path) == []
    program(tmp_path, "20-pump", "echo 'a line is primed'; exit 3")
    program(tmp_path, "30-silent", "exit 1")
    program(tmp_path, "40-killed", "kill -9 $$")
    program(tmp_path, "50-no-interpreter", "")
    (tmp_path / "ready.d/50-no-interpreter").write_text("#!/nonexistent/sh\n")
    (tmp_path / "ready.d/60-gone").symlink_to("/nonexistent/program")
    (tmp_path / "ready.d/70-old.dpkg-old").write_text("#!/bin/sh\nexit 1\n")
    for gate in (Gate.ACTIVATE, Gate.RESTART):
        assert told(tmp_path, gate) == [
            ("'20-pump' uses the device", "a line is primed (exit status 3)"),
            ("'30-silent' uses the device", "exit status 1"),
            ("'40-killed' uses the device", "killed by signal 9"),
            ("'50-no-interpreter' uses the device", "cannot be started: No such file or directory"),
            ("'60-gone' uses the device", "not asked: the file cannot be looked at (No such file or directory)"),
        ]
    for gate in (Gate.FETCH, Gate.WRITE):
        assert told(tmp_path, gate) == [], "they say whether it may be restarted"


@pytest.mark.verifies("S20")
def test_a_program_that_hangs_means_in_use(tmp_path: Path) -> None:
    program(tmp_path, "pump", "echo waiting; sleep 1000")
    policy = LocalPolicy(config(tmp_path, timeout=0.5), lambda: NOW, root=tmp_path)
    (found,) = policy.obstacles(Question(Gate.RESTART, Wish()))
    assert found.why.found
    assert found.why.found.startswith("did not end within 0.5 s")


@pytest.mark.verifies("S20")
def test_the_service_runs_no_program_of_the_product_and_waits_until_it_was_asked_elsewhere(tmp_path: Path) -> None:
    assert obstacles(tmp_path, may_ask=False) == ()
    program(tmp_path, "pump", f"touch {tmp_path}/ran; exit 0")
    (found,) = obstacles(tmp_path, may_ask=False)
    assert found.why.code == "not-asked"
    assert not (tmp_path / "ran").exists()
    assert obstacles(tmp_path) == ()
    assert (tmp_path / "ran").exists()


def test_programs_are_asked_only_when_nothing_else_stands_against_the_step(tmp_path: Path) -> None:
    program(tmp_path, "pump", f"touch {tmp_path}/ran; exit 1")
    (tmp_path / "run/twinslot/inhibit.d").mkdir(parents=True)
    (tmp_path / "run/twinslot/inhibit.d/therapy").write_text("an infusion runs\n")
    assert told(tmp_path) == [("'therapy' uses the device", "an infusion runs")]
    assert not (tmp_path / "ran").exists()


@pytest.mark.verifies("S20")
@pytest.mark.verifies("REQ-POL-06")
def test_who_goes_outside_of_a_window_has_the_programs_asked(tmp_path: Path) -> None:
    program(tmp_path, "pump", "echo an infusion runs; exit 1")
    closed = WindowConfig(calendar="2020-01-01 00:00", duration=3600.0, timezone="UTC")
    policy = dataclasses.replace(config(tmp_path).policy, restart_window=(closed,), fetch_window=(closed,))
    device = LocalPolicy(dataclasses.replace(NOWHERE, policy=policy), lambda: NOW, root=tmp_path)

    def against(gate: Gate, **wish: bool) -> list[str]:
        return [
            each.why.code for each in device.obstacles(Question(gate, Wish(**wish), verified="2025-01-01T00:00:00Z"))
        ]

    assert against(Gate.ACTIVATE) == ["window-closed"]
    for gate in (Gate.ACTIVATE, Gate.RESTART):
        assert against(gate, outside_window=True) == ["in-use"]
    assert against(Gate.FETCH, remote=True) == ["window-closed"]
    assert against(Gate.FETCH, remote=True, outside_window=True) == []


def busctl(directory: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A logind that has run, and a busctl that says this."""
    (directory / "run/systemd/inhibit").mkdir(parents=True)
    (directory / "run/systemd/inhibit/1").write_text("WHAT=shutdown:sleep\nMODE=block\nUID=0\nPID=812\nWHO=apt\n")
    os.utime(directory / "run/systemd/inhibit/1", (1_700_000_000, 1_700_000_000))
    (directory / "bin").mkdir()
    (directory / "bin/busctl").write_text(f"#!/bin/sh\n{text}\n")
    (directory / "bin/busctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}/bin:/usr/bin:/bin")


@pytest.mark.verifies("S20")
def test_who_blocks_a_shutdown_by_logind_uses_the_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    busctl(tmp_path, monkeypatch, f"cat << END\n{INHIBITORS}\nEND")
    assert [(each.who, each.why, each.source) for each in logind_inhibitors(tmp_path)] == [
        ("apt", "packages are being installed", "logind"),
        ("pump", "alarm", "logind"),
    ]
    assert [each.since for each in logind_inhibitors(tmp_path)] == [1_700_000_000.0, None]
    assert [message for message, _ in told(tmp_path)] == ["'apt' uses the device", "'pump' uses the device"]
    assert told(tmp_path, Gate.WRITE) == []
    deaf = dataclasses.replace(NOWHERE, policy=PolicyConfig(in_use=InUseConfig(directories=(), logind=False)))
    assert LocalPolicy(deaf, lambda: NOW, root=tmp_path).obstacles(Question(Gate.ACTIVATE, Wish())) == ()


SILENT = ("exit 1", "echo '{}'", """echo '{"data":[[["shutdown"]]]}'""", "echo x", "sleep 1000", "yes [ | head -5000")


@pytest.mark.verifies("S20")
@pytest.mark.parametrize("text", SILENT)
def test_a_logind_that_does_not_say_who_blocks_it_counts_as_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(logind, "TIMEOUT", 0.5 if "sleep" in text else 60)
    busctl(tmp_path, monkeypatch, text)
    (found,) = logind_inhibitors(tmp_path)
    assert found.why.startswith("who keeps it from shutting down cannot be told: ")


def test_without_logind_it_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    busctl(tmp_path, monkeypatch, "exit 1")
    (tmp_path / "run/systemd/inhibit/1").unlink()
    assert logind_inhibitors(tmp_path) == ()
    (tmp_path / "run/systemd/inhibit").rmdir()
    assert logind_inhibitors(tmp_path) == ()
