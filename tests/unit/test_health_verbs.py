"""What `check` and `commit` do with the files in health.d: the real selection and the real runner."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.command_line import NEW, OLD, BoardWorld, Shell, write_config
from simulation.board import SimulatedBoard
from twinslot.config.options import load
from twinslot.core.errors import DeviceError
from twinslot.core.health import judged
from twinslot.core.model import SlotName
from twinslot.engine.edges import Device
from twinslot.health.run import ConfiguredChecks


class CheckedBoard(SimulatedBoard):
    """A simulated board that asks the checks that its configuration names."""

    root = Path()
    reboots = True

    def device(self) -> Device:
        return replace(super().device(), run_checks=ConfiguredChecks(load(self.root)), reboot=self.ask_for_reboot)

    def ask_for_reboot(self) -> None:
        if not self.reboots:
            raise DeviceError("the reboot was refused", code="reboot", hint="reboot by hand")
        self.wants_reboot = True


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    (tmp_path / "health.d").mkdir()
    root = write_config(tmp_path, f'[health]\ndirectories = ["{tmp_path}/health.d"]\n')
    board = CheckedBoard(tmp_path, OLD, NEW)
    board.root = root
    board.start()
    return Shell(BoardWorld(board, OLD, NEW), root, capsys)


def put(shell: Shell, name: str, text: str = "echo stuck; exit 1", mode: int = 0o755) -> None:
    """A check of this name."""
    path = shell.directory / "health.d" / os.fsdecode(name)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)


def on_trial(shell: Shell) -> None:
    """Install the new release and boot it."""
    assert shell("--no-service", "install", shell.image(NEW.name)) == 0
    shell.reboot()
    assert shell("boot") == 0


@pytest.mark.verifies("S6", "REQ-OPS-04")
@pytest.mark.parametrize(
    "name", ["10-motor", "10-motor@left", "10 motor", "10-motor+2", "_10-motor", ".10-motor", "10-pr\u00fcfung", "-"]
)
def test_a_sick_release_is_left_whatever_the_name_of_the_check_that_finds_it(shell: Shell, name: str) -> None:
    put(shell, name)
    on_trial(shell)
    assert shell("check", "--if-trial") == 4
    assert f"  {name}: FAILED" in shell.out
    assert shell.err.splitlines()[-2] == (
        f"twinslot: a required health check failed: found '{name}: stuck (exit status 1)'"
    )
    assert shell("commit", "--if-trial") == 0
    assert shell.out == "nothing is on trial\n"
    assert shell.world.board.environment()["slot_b"] == "bad"


def test_commit_by_itself_asks_every_check_too_and_names_the_one_that_failed(shell: Shell) -> None:
    put(shell, "10 motor")
    on_trial(shell)
    assert shell("--no-service", "commit") == 4
    assert "found '10 motor: stuck (exit status 1)'" in shell.err
    assert shell.world.board.environment()["slot_b"] == "bad"


def test_files_that_are_not_asked_are_told_by_check_in_the_log_and_by_the_commit(
    shell: Shell, caplog: pytest.LogCaptureFixture
) -> None:
    put(shell, "10-motor", mode=0o644)
    put(shell, "20-pump.bak")
    on_trial(shell)
    assert shell("check", "--if-trial") == 0
    assert "  10-motor: failed, not required (0.0 s): not asked: the file is not executable\n" in shell.out
    assert "  20-pump.bak: failed, not required (0.0 s): not asked: the name is that of a leftover" in shell.out
    assert [record.getMessage().split("'")[1] for record in caplog.records] == ["10-motor", "20-pump.bak"]
    assert shell("commit", "--if-trial") == 0
    assert "  10-motor: failed, not required" in shell.out
    assert shell.world.board.environment()["slot_b"] == "good"


@pytest.mark.parametrize("required", [("10-motor",), ("20-pump",)])
def test_a_check_that_the_release_asks_for_by_name_must_be_asked(shell: Shell, required: tuple[str, ...]) -> None:
    put(shell, "10-motor", "exit 0", mode=0o644)
    results = {each.name: each for each in judged(ConfiguredChecks(load(shell.directory))(lambda _: None), required)}
    assert results[required[0]].required
    assert not results[required[0]].passed


@pytest.mark.verifies("REQ-OPS-04")
def test_after_a_rollback_every_text_names_the_check_that_failed(shell: Shell) -> None:
    put(shell, "10-motor")
    on_trial(shell)
    shell("check", "--if-trial")
    shell.reboot()
    assert shell.world.board.running is SlotName.A
    assert shell("boot") == 0
    assert shell.out.splitlines()[0] == "the new system was left; the old one runs"
    assert "  10-motor: FAILED" in shell.out
    assert shell("status") == 0
    assert "  10-motor: FAILED" in shell.out.split("last ")[1]
    assert shell("history") == 0
    assert shell.out.rstrip().endswith("a required health check failed: 10-motor: stuck (exit status 1)")
    assert "(unhealthy)" not in shell.out


def test_when_the_reboot_is_refused_the_checks_are_told_all_the_same(shell: Shell) -> None:
    put(shell, "10-motor")
    on_trial(shell)
    assert isinstance(shell.world.board, CheckedBoard)
    shell.world.board.reboots = False
    assert shell("check", "--if-trial") == 6
    assert "  10-motor: FAILED" in shell.out
    assert shell.err.splitlines()[-2] == "twinslot: the reboot was refused"


def test_outside_of_a_trial_check_runs_them_and_nothing_follows(shell: Shell) -> None:
    put(shell, "10-motor", "echo turns")
    before = (bytes(shell.world.board.card.data), shell.json("status"))
    assert shell("check") == 0
    assert shell.out.splitlines()[0] == "nothing is on trial; the health checks say:"
    assert shell.out.splitlines()[1].startswith("  10-motor: ok (")
    put(shell, "20-pump")
    assert shell("check") == 4
    assert "  20-pump: FAILED" in shell.out
    assert shell.err.splitlines()[-2:] == [
        "twinslot: a required health check failed: found '20-pump: stuck (exit status 1)'",
        "  hint: on trial, this would end the trial",
    ]
    assert not shell.world.board.wants_reboot
    assert (bytes(shell.world.board.card.data), shell.json("status")) == before
    *_, result, error = shell.json("check")
    assert [(check["name"], check["passed"]) for check in result["checks"]] == [("10-motor", True), ("20-pump", False)]
    assert result["checks"][0].keys() == {"name", "required", "passed", "detail", "seconds", "tries"}
    assert (result["transaction"], error["code"], error["exit_status"]) == (None, "refused.unhealthy", 4)


def test_outside_of_a_trial_the_unit_runs_no_check(shell: Shell) -> None:
    put(shell, "10-motor", f"touch {shell.directory}/asked")
    assert shell("check", "--if-trial") == 0
    assert shell.out == "nothing is on trial\n"
    assert not (shell.directory / "asked").exists()


def test_without_any_check_this_is_said(shell: Shell) -> None:
    assert shell("check") == 0
    assert shell.out == "no health check is configured\n"
