"""`twinslot log`: what was done, by whom, and what was refused."""

from __future__ import annotations

import argparse
import re
import sqlite3
from pathlib import Path

import pytest

from fakes.command_line import NEW, OLD, SICK, BoardWorld, Shell, write_config
from simulation.board import SimulatedBoard
from twinslot.cli import arguments as cli_arguments
from twinslot.cli.verbs import log as cli_log
from twinslot.storage.record.record import FILE_NAME


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    board = SimulatedBoard(tmp_path, OLD, NEW, SICK)
    board.start()
    return Shell(BoardWorld(board, OLD, NEW, SICK), write_config(tmp_path), capsys)


def update(shell: Shell) -> None:
    """A refusal, and an update to its commit: rows 1 to 8."""
    shell("--no-service", "install", shell.image("1.0"))
    shell("--no-service", "install", shell.image("2.0"))
    shell.reboot()
    for verb in (("boot",), ("check",), ("commit", "--if-trial")):
        shell(*verb)


def numbers(shell: Shell, *options: str) -> list[int]:
    return [line["number"] for line in shell.json("log", *options)]


def test_the_log_shows_each_row_oldest_first_with_a_sentence(shell: Shell) -> None:
    update(shell)
    assert shell("log") == 0
    lines = shell.out.splitlines()
    assert [line.split()[2] for line in lines] == [
        *("refused", "accepted", "verified", "activate"),
        *("booted-new", "checked", "healthy", "committed"),
    ]
    assert re.match(r"2026-01-01T00:00:00Z +1  refused +a request was refused; nothing changed: ", lines[0])


def test_json_is_one_object_for_each_row(shell: Shell) -> None:
    update(shell)
    first, *_, last = shell.json("log")
    assert first.keys() == {"type", "number", "at", "boot", "event", "level", "message", "fields", "hash"}
    assert (first["type"], first["event"], first["level"]) == ("event", "refused", "error")
    assert last["fields"]["outcome"] == "committed"
    assert "origin" in last["fields"]


def test_rows_are_chosen_by_number_time_and_count(shell: Shell) -> None:
    update(shell)
    assert numbers(shell, "-n", "2") == [7, 8]
    assert numbers(shell, "--since", "6") == [6, 7, 8]
    assert numbers(shell, "--since", "2026-01-01") == list(range(1, 9))
    assert numbers(shell, "--since", "2026-01-01T02:00:01+02:00", "-n", "5") == []
    assert numbers(shell, "--since", "3d") == []


@pytest.mark.parametrize("text", ["", "yesterday", "-1", "1.5", "2026-13-01", "9999999w", "10y"])
def test_what_is_no_number_and_no_time_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected"):
        cli_arguments.since(text)


def test_a_changed_row_is_shown_and_the_command_ends_as_a_fault(shell: Shell) -> None:
    update(shell)
    with sqlite3.connect(shell.world.board.data / FILE_NAME) as database:
        database.execute("UPDATE audit SET body = replace(body, '2.0', '6.6') WHERE number = 8")
        database.execute("UPDATE audit SET event = 'healthy' WHERE number = 6")
    database.close()
    assert shell("log") == 6
    assert len(shell.out.splitlines()) == 8
    assert "the chain of the audit rows is broken: expected" in shell.err
    assert "found 'row 6 does not'" in shell.err


def test_follow_goes_on_with_new_rows_until_it_is_interrupted(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    update(shell)
    monkeypatch.setattr(cli_log, "EVERY", 0)
    looks = 0

    def before(verb: str) -> None:
        nonlocal looks
        looks += verb == "log"
        if looks == 3:
            with shell.world.board.open_record() as record:
                record.audit("environment-repaired")
        if looks == 5:
            raise KeyboardInterrupt

    shell.world.before = before
    assert shell("log", "-n", "1", "--follow") == 130
    assert [line.split()[2] for line in shell.out.splitlines()] == ["committed", "environment-repaired"]


def test_who_is_not_root_asks_the_service(shell: Shell) -> None:
    update(shell)
    shell.world.root = False
    assert shell("log") == 0
    assert shell.world.by_service == ["log"]
    assert shell("log", "--no-service") == 4
    assert "only root may read the audit" in shell.err


def test_what_stands_in_a_row_does_not_steer_the_terminal(shell: Shell) -> None:
    with shell.world.board.open_record() as record:
        record.audit("refused", message="\x1b[2Jgone\r\n", release="\u202e2.0")
        record.audit("of a newer client", note="\x1b[31m")
    assert shell("log") == 0
    assert all(line.isprintable() for line in shell.out.splitlines())
    assert len(shell.out.splitlines()) == 2
