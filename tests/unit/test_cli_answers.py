"""A command that is called for what it prints has failed when that was lost."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.command_line import NEW, OLD, BoardWorld, write_config
from simulation.board import SimulatedBoard
from simulation.updater import BoardUpdater
from twinslot.app.updater import JsonObject
from twinslot.cli.host import Host
from twinslot.cli.main import main
from twinslot.cli.parser import make_parser, parse
from twinslot.core.lifecycle import State
from twinslot.core.replay import UpdateAccount
from twinslot.core.requests import InstallOptions
from twinslot_image.cli_parser import parse as image_parse

SAMPLES = Path(__file__).parents[1] / "data/0.1.0"
KEY = {"made": False, "algorithm": "ed25519", "kind": "x25519", "fingerprint": "0f", "key": "0f", "public": "PEM\n"}
FORECAST: JsonObject = dict.fromkeys(
    ("size", "patch", "image", "head", "running", "target", "zero", "write", "fetch"), 0
)
FORECAST |= {"release": "2.0", "unused": {}}
ROW = {"number": 1, "at": "2026-11-21T08:00:00Z", "boot": "1", "event": "committed", "fields": {}, "message": "kept"}
ANSWERING = [
    "attest",
    "audit export",
    "audit verify pump.audit --key pump.pem",
    "decryption-key show",
    "decryption-key init",
    "device-key show",
    "device-key init",
    "doctor",
    "explain last",
    "history",
    "info pump-2026.11.twin --attachment release-notes.md",
    "install --dry-run 2.0.twin",
    "log",
    "metrics",
    "retire --reason sold --yes",
    "status",
]
FOUND = {"doctor": 6, ANSWERING[10]: 4}  # faults of a board of files; the image is for another device
WORKING = [
    "activate",
    "approve",
    "audit seal",
    "boot",
    "cancel",
    "check",
    "commit",
    "continue",
    "hold",
    "install",
    "poll",
]
WORKING += ["report", "rollback", "scrub", "service", "watch"]


class Answers(BoardUpdater):
    """A device with what its board does not have: keys, and an audit to give away."""

    def attest(self, nonce: str) -> JsonObject:
        return {"payload": "x"}

    def export_audit(self, path: Path | None) -> bytes:
        return b"rows\n"

    def decryption_key(self, *, make: bool) -> JsonObject:
        return KEY

    def device_key(self, *, make: bool) -> JsonObject:
        return KEY

    def explain(self, transaction: str) -> UpdateAccount:
        return UpdateAccount("0f" * 16, (), "", State.IDLE)

    def retire(self, reason: str) -> JsonObject:
        return {"payload": "x"}

    def log(self, after: int, since: str, limit: int) -> JsonObject:
        return {"rows": [ROW], "broken": None}

    def metrics(self) -> str:
        return "# EOF\n"

    def forecast(self, source: str | int, options: InstallOptions) -> JsonObject:
        return FORECAST


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    board = SimulatedBoard(tmp_path, OLD)
    board.start()
    config = write_config(tmp_path) / "etc/twinslot/config.toml"
    config.write_text(config.read_text().replace("[trust]", f"[trust]\nroot = '{tmp_path}/root.json'"))
    (tmp_path / "2.0.twin").write_text("2.0")
    for sample in ("audit/pump.audit", "audit/pump.pem", "pump-2026.11.twin", "root.json"):
        shutil.copy(SAMPLES / sample, tmp_path)
    monkeypatch.chdir(tmp_path)
    return replace(BoardWorld(board).host, local=lambda config: Answers(board, config, {"2.0": NEW}))


def commands(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Of a parser and those below it: `install`, `audit export` and so on."""
    for action in parser._actions:
        for name in action.choices or () if action.dest in ("verb", "action") else ():
            below = [] if isinstance(action.choices, tuple) else list(commands(dict(action.choices or {})[name]))
            yield from [f"{name} {each}" for each in below] or [name]


def test_each_command_is_called_for_what_it_prints_or_for_what_it_does() -> None:
    known = set(commands(make_parser()))
    assert known == {name for name in known for line in ANSWERING if f"{line} ".startswith(f"{name} ")} | set(WORKING)


@pytest.mark.parametrize("line", ANSWERING)
def test_an_answer_that_is_printed_is_a_success(line: str, host: Host) -> None:
    assert main([*line.split(), "--config-root", "."], host) == FOUND.get(line, 0)


@pytest.mark.parametrize("line", ANSWERING)
def test_an_answer_as_json_is_objects_with_a_type_and_nothing_else(
    line: str, host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    main([*line.split(), "--json", "--config-root", "."], host)
    printed = capsys.readouterr()
    assert all(json.loads(each)["type"] for each in printed.out.splitlines())
    assert (printed.out != "", printed.err) == (True, "")


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
@pytest.mark.parametrize("line", ANSWERING)
def test_an_answer_for_which_the_disk_has_no_room_is_no_success(
    line: str, form: list[str], host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert main([*line.split(), *form, "--config-root", "."], host) == 6
    assert "the output cannot be written: No space left on device" in capsys.readouterr().err


@pytest.mark.parametrize("line", ANSWERING)
def test_a_closed_standard_output_is_no_fault_of_the_program(
    line: str, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert main([*line.split(), "--config-root", "."], host) == FOUND.get(line, 0)


PARSERS = {"twinslot": parse, "twinslot-image": image_parse}


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["help"], []], ids=" ".join)
@pytest.mark.parametrize("program", PARSERS)
def test_help_for_which_there_is_no_reader_or_no_room_is_no_success(
    program: str, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    for where, status, told in (("/dev/full", 6, "No space left"), (writer, 141, "")):
        with open(where, "w") as stream:
            monkeypatch.setattr(sys, "stdout", stream)
            with pytest.raises(SystemExit) as ended:
                PARSERS[program](words)
            monkeypatch.undo()
        assert ended.value.code == status
        assert told in capsys.readouterr().err


def test_help_may_be_asked_for_behind_options(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--no-service", "--json", "help", "install"], host) == 0
    assert capsys.readouterr().out.startswith("usage: twinslot install ")
