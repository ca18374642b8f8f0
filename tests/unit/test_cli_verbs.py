"""The verbs on a simulated board, as units and operators call them; both outputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fakes.command_line import NEW, OLD, SICK, BoardWorld, Shell, write_config
from simulation.board import SimulatedBoard
from twinslot.core.model import SlotName


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    board = SimulatedBoard(tmp_path, OLD, NEW, SICK)
    board.start()
    return Shell(BoardWorld(board, OLD, NEW, SICK), write_config(tmp_path), capsys)


def test_an_update_from_install_to_commit_by_commands(shell: Shell) -> None:
    assert shell("--no-service", "install", shell.image("2.0")) == 0
    assert shell.out.splitlines()[0] == "2.0 (sequence 20) starts on trial from slot b at the next boot"
    assert "writing: 0 %" in shell.err
    shell.reboot()
    assert shell("boot") == 0
    assert shell.out.splitlines() == ["the new system runs on trial", "2.0 (sequence 20) runs on trial in slot b"]
    assert shell("check") == 0
    assert "  system: ok (0.0 s)" in shell.out
    assert shell("commit", "--if-trial") == 0
    assert shell.out.startswith("2.0 (sequence 20) was committed in slot b, 2026-01-01 00:00:00 UTC\n")
    assert shell.world.board.environment()["slot_b"] == "good"
    assert shell.world.by_service == []


def test_what_changes_something_goes_to_the_service(shell: Shell) -> None:
    assert shell("install", shell.image("2.0"), "--no-activate") == 0
    assert shell.out.startswith("2.0 (sequence 20) waits in slot b; 'twinslot activate' makes it start\n")
    assert shell("activate") == 0
    assert shell("cancel") == 0
    assert shell.out.startswith("2.0 (sequence 20) was abandoned in slot b: it was cancelled")
    assert shell("install", shell.image("2.0")) == 0
    shell.reboot()
    assert shell("commit", "--force", "demo") == 0
    assert shell.out.startswith("2.0 (sequence 20) was committed in slot b by force")
    assert shell("rollback", "--reason", "alarm too quiet") == 0
    assert shell.world.board.wants_reboot
    assert shell.world.by_service == ["install", "activate", "cancel", "install", "commit", "rollback"]
    assert shell.world.closed == len(shell.world.by_service)


def test_a_sick_system_makes_check_fail_and_is_told_by_the_old_one(shell: Shell) -> None:
    shell("--no-service", "install", shell.image("3.0"))
    shell.reboot()
    shell("boot")
    assert shell("check") == 4
    assert "  system: FAILED" in shell.out
    assert shell.err.splitlines()[-2:] == [
        "twinslot: a required health check failed: found 'system'",
        "  hint: the system goes back; see 'twinslot history' in the old slot",
    ]
    shell.reboot()
    assert shell("boot") == 0
    assert shell.out.splitlines()[0] == "the new system was left; the old one runs"
    assert shell("history") == 0
    assert "a required health check failed: system\n" in shell.out
    assert shell("status") == 0
    assert "refused   sequence 30 (a required health check failed): rolled back here; '--retry' allows it" in shell.out


def test_checks_and_commit_with_nothing_on_trial(shell: Shell) -> None:
    assert shell("check", "--if-trial") == 0
    assert shell.out == "nothing is on trial\n"
    assert shell("commit", "--if-trial") == 0
    assert shell.json("commit", "--if-trial") == [{"type": "result", "outcome": "nothing", "transaction": None}]
    assert shell("commit") == 4
    assert shell.err == "twinslot: the running system is not on trial\n"


def test_options_of_an_install_reach_the_engine(shell: Shell) -> None:
    shell(
        "install",
        shell.image("2.0"),
        "--no-activate",
        "--retry",
        "--reinstall",
        "--ignore-expiry",
        "--reboot",
        "--outside-window",
    )
    options = shell.world.options
    assert options is not None
    assert (options.activate, options.reboot, options.retry) == (False, True, True)
    assert (options.reinstall, options.ignore_expiry, options.outside_window) == (True, True, True)


@pytest.mark.parametrize(("policy", "reboots"), [("manual", False), ("automatic", True)])
def test_the_configuration_decides_on_the_reboot_unless_the_caller_does(
    shell: Shell, policy: str, reboots: bool
) -> None:
    with (shell.directory / "etc/twinslot/config.toml").open("a") as file:
        file.write(f'[install]\nreboot = "{policy}"\n')
    shell("install", shell.image("2.0"))
    assert shell.world.board.wants_reboot is reboots
    shell("install", shell.image("2.0"), "--no-reboot")
    assert shell.world.options is not None
    assert not shell.world.options.reboot


def test_install_with_json_is_progress_and_then_one_result(shell: Shell) -> None:
    *progress, result = shell.json("install", shell.image("2.0"))
    assert {line["type"] for line in progress} == {"progress"}
    assert list(dict.fromkeys(line["phase"] for line in progress)) == [
        "verify",
        "prepare",
        "write",
        "read-back",
        "finish",
        "arm",
    ]
    write = [line for line in progress if line["phase"] == "write"][-1]
    assert write.keys() == {"type", "phase", "done", "total", "percent", "rate", "left", "fetched", "note"}
    assert (write["done"], write["percent"]) == (len(NEW.content), 100)
    assert result["type"] == "result"
    assert (result["transaction"]["state"], result["transaction"]["target"]) == ("armed", "b")
    assert result["transaction"]["release"]["name"] == "2.0"


def test_json_of_boot_history_and_status(shell: Shell) -> None:
    (boot,) = shell.json("boot")
    assert boot == {"type": "result", "event": "booted-old", "state": "idle", "transaction": None, "notes": []}
    shell("install", shell.image("2.0"))
    (history,) = shell.json("history", "-n", "1")
    assert history["type"] == "history"
    assert [transaction["release"]["name"] for transaction in history["transactions"]] == ["2.0"]
    (status,) = shell.json("status")
    assert (status["type"], status["running"], status["state"]) == ("status", "a", "armed")


def test_a_refusal_is_told_whole_and_nothing_changed(shell: Shell) -> None:
    before = shell.world.board.card.data[:]
    assert shell("install", shell.image("1.0")) == 4
    assert shell.err.splitlines()[-2:] == [
        "twinslot: release '1.0', sequence 10, is installed and running",
        "  hint: use '--reinstall' to write it again",
    ]
    *_, error = shell.json("install", shell.image("1.0"))
    assert (error["type"], error["code"], error["exit_status"]) == ("error", "refused.already-installed", 4)
    assert [reason["code"] for reason in error["reasons"]] == ["refused.already-installed"]
    assert shell.world.board.card.data == before


@pytest.mark.parametrize("verb", ["boot", "check", "service", "commit --if-trial", "--no-service rollback"])
def test_without_root_this_process_changes_nothing(shell: Shell, verb: str) -> None:
    shell.world.root = False
    assert shell(*verb.split()) == 4
    assert shell.err.splitlines() == [
        "twinslot: only root may change the device in this process",
        "  hint: use 'sudo', or leave out '--no-service'",
    ]


def test_without_root_the_service_is_asked_and_anyone_may_look(shell: Shell) -> None:
    shell.world.root = False
    assert shell("install", shell.image("2.0")) == 0
    assert shell.world.by_service == ["install"]
    assert shell("status") == shell("history") == 0


def test_global_options_stand_before_or_after_the_verb(shell: Shell) -> None:
    assert shell.json("status") == [json.loads(line) for line in _run(shell, "--json", "status")]
    assert shell("--no-service", "cancel") == shell("cancel", "--no-service") == 4
    assert shell.world.by_service == []


def _run(shell: Shell, *argv: str) -> list[str]:
    shell(*argv)
    return shell.out.splitlines()


def test_rollback_may_leave_the_reboot_to_the_caller(shell: Shell) -> None:
    shell("install", shell.image("2.0"))
    shell.reboot()
    assert shell("rollback", "--no-reboot") == 0
    assert not shell.world.board.wants_reboot
    assert shell.out.startswith("2.0 (sequence 20) in slot b is being left; the next boot is slot a\n")
    shell.reboot()
    assert shell.world.board.running is SlotName.A


def test_the_service_verb_serves(shell: Shell) -> None:
    asked: list[str] = []
    shell.world.before = asked.append
    assert shell("service") == 0
    assert asked == ["serve"]


FORECAST = {
    "release": "2.0",
    "size": 3 << 20,
    "patch": 0,
    "image": 100 << 10,
    "head": 2048,
    "running": 1 << 20,
    "target": 1 << 20,
    "zero": 512 << 10,
    "write": 1 << 20,
    "fetch": 102 << 10,
    "unused": {"patch": "there is none beside the image"},
}


def test_a_dry_run_says_where_the_bytes_would_come_from_and_changes_nothing(shell: Shell) -> None:
    shell.world.forecasted = FORECAST
    before = shell.json("status")
    assert shell("install", "--dry-run", "http://127.0.0.1:9/x.twin") == 0
    assert shell.out.splitlines() == [
        "release 2.0, 3.0 MiB",
        "  to fetch: 102.0 KiB: 100.0 KiB of the image, 2.0 KiB of heads and lists",
        "  held by the running slot: 1.0 MiB",
        "  held by the target: 1.0 MiB",
        "  all zero: 512.0 KiB",
        "  to write: 1.0 MiB",
        "  patch not used: there is none beside the image",
    ]
    assert shell.json("install", "--dry-run", "http://127.0.0.1:9/x.twin") == [{"type": "result", "forecast": FORECAST}]
    assert shell.json("status") == before
    assert shell.world.by_service == []


def test_a_dry_run_reads_the_slots_and_so_needs_root(shell: Shell) -> None:
    shell.world.root = False
    assert shell("install", "--dry-run", "http://127.0.0.1:9/x.twin") == 4
    assert "only root may read what the slots hold" in shell.err


def test_after_an_install_the_next_step_is_named_and_activate_takes_it(shell: Shell) -> None:
    assert shell("install", shell.image("2.0")) == 0
    assert shell.out.splitlines()[-1] == "reboot to start the trial, or: twinslot activate --reboot"
    assert not shell.world.board.wants_reboot
    assert shell("activate") == 0
    assert not shell.world.board.wants_reboot
    assert shell("activate", "--reboot") == 0
    assert shell.out == "2.0 (sequence 20) starts on trial from slot b at the next boot\n", "no statistics again"
    assert shell.world.board.wants_reboot


def test_an_install_that_reboots_names_no_next_step(shell: Shell) -> None:
    assert shell("install", "--reboot", shell.image("2.0")) == 0
    assert "twinslot activate" not in shell.out
    assert shell.world.board.wants_reboot


@pytest.mark.parametrize("verb", ["cancel", "activate"])
def test_where_nothing_waits_there_is_nothing_to_do(shell: Shell, verb: str) -> None:
    assert shell(verb) == 4
    assert shell.err.splitlines() == [f"twinslot: nothing to {verb}", "  hint: see 'twinslot status'"]
