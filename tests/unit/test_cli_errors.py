"""Every way to fail becomes a sentence and a status; never a traceback."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import waits
from fakes.command_line import BoardWorld, write_config
from simulation.board import SimulatedBoard
from simulation.image import SmallImage
from twinslot.cli.job import run_job
from twinslot.cli.main import main
from twinslot.cli.source import opened
from twinslot.core.errors import (
    CancelledError,
    DeviceError,
    ImageError,
    LifecycleError,
    Refusal,
    RefusedError,
    TransportError,
    TwinslotError,
    UsageError,
)

ERRORS = [
    (ImageError("the image ends too early", code="truncated", expected="8 bytes", found="7 bytes"), 3),
    (RefusedError(Refusal("epoch", "too old", "2", "1")), 4),
    (UsageError("no such option", code="option"), 2),
    (TransportError("the server does not answer", code="connect"), 5),
    (DeviceError("the medium is gone", code="env-read", hint="look at the card"), 6),
    (LifecycleError("an event that cannot be", code="event"), 1),
    (CancelledError("the install was cancelled"), 8),
]


@pytest.fixture
def world(tmp_path: Path) -> BoardWorld:
    board = SimulatedBoard(tmp_path, SmallImage("1.0", 10))
    board.start()
    return BoardWorld(board)


def raising(error: BaseException) -> object:
    """What a world does before each verb, then."""

    def fail(_: str) -> None:
        raise error

    return fail


def run(world: BoardWorld, tmp_path: Path, *argv: str) -> int:
    """One command with a configuration."""
    if not (tmp_path / "etc").exists():
        write_config(tmp_path)
    return main([*argv, "--config-root", str(tmp_path)], world.host)


@pytest.mark.verifies("REQ-CLI-01")
@pytest.mark.parametrize(("error", "exit_status"), ERRORS, ids=lambda value: getattr(value, "code", ""))
def test_each_family_has_its_status_and_the_same_words_on_both_outputs(
    world: BoardWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str], error: TwinslotError, exit_status: int
) -> None:
    world.before = raising(error)  # type: ignore[assignment]
    assert run(world, tmp_path, "status") == exit_status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"twinslot: {error.message}")
    assert ("  hint: " in err) is (error.hint is not None)
    assert run(world, tmp_path, "status", "--json") == exit_status
    out, err = capsys.readouterr()
    assert err == ""
    told = json.loads(out)
    assert (told.pop("type"), told.pop("exit_status")) == ("error", exit_status)
    assert told == error.as_dict()


def test_every_family_is_tried_above() -> None:
    assert {type(error) for error, _ in ERRORS} == set(TwinslotError.__subclasses__())


def test_several_refusals_stand_one_on_a_line_with_their_hints(
    world: BoardWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reasons = (Refusal("epoch", "below the epoch", "2", "1"), Refusal("failed-before", "it failed", hint="'--retry'"))
    world.before = raising(RefusedError(reasons))  # type: ignore[assignment]
    assert run(world, tmp_path, "status") == 4
    assert capsys.readouterr().err.splitlines() == [
        "twinslot: below the epoch: expected '2', found '1'",
        "twinslot: it failed",
        "  hint: '--retry'",
    ]


@pytest.mark.verifies("REQ-CLI-02")
@pytest.mark.parametrize(
    ("error", "exit_status", "sentence"),
    [
        (KeyError("slot"), 1, "twinslot: a fault in the program: found \"KeyError('slot')\""),
        (PermissionError(13, "Permission denied", "/dev/x"), 6, "twinslot: '/dev/x' cannot be used: found 'Permission"),
        (KeyboardInterrupt(), 130, "twinslot: interrupted"),
        (MemoryError(), 6, "twinslot: there is not enough memory"),
    ],
)
def test_what_was_not_expected_is_a_sentence_too(
    world: BoardWorld,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    exit_status: int,
    sentence: str,
) -> None:
    world.before = raising(error)  # type: ignore[assignment]
    assert run(world, tmp_path, "status") == exit_status
    err = capsys.readouterr().err
    assert err.startswith(sentence)
    assert "Traceback" not in err


def test_a_fault_shows_its_place_only_when_asked(
    world: BoardWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINSLOT_DEBUG", "1")
    world.before = raising(KeyError("slot"))  # type: ignore[assignment]
    assert run(world, tmp_path, "status") == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert "in fail" in err


@pytest.mark.verifies("REQ-CLI-03")
def test_what_others_said_does_not_steer_the_terminal(
    world: BoardWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.before = raising(TransportError("no\x1b[2Jway\n", found="\x07"))  # type: ignore[assignment]
    run(world, tmp_path, "status")
    assert re.search(r"[\x00-\x09\x0b-\x1f]", capsys.readouterr().err) is None


@pytest.mark.parametrize(
    "argv",
    [
        "",
        "instal x",
        "install",
        "status --jso",
        "history -n 0",
        "history -n x",
        "commit --force",
        "install a --reboo",
        "frob\x1b",
    ],
)
def test_a_wrong_command_line_ends_with_2_and_names_help(argv: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv.split()) == 2
    err = capsys.readouterr().err
    assert err.startswith("twinslot: ")
    assert "hint: see 'twinslot" in err
    assert "usage:" not in err


def test_an_empty_reason_to_force_is_no_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["commit", "--force", " "]) == 2
    assert "a reason is expected" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_are_no_errors(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([option]) == 0
    assert "twinslot" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["status", "history", "doctor", "boot", "cancel", "install -", "--no-service commit"])
def test_without_a_configuration_the_places_are_named(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], world: BoardWorld
) -> None:
    assert main([*verb.split(), "--config-root", str(tmp_path)], world.host) == (78 if verb == "boot" else 6)
    err = capsys.readouterr().err
    assert err.startswith("twinslot: there is no configuration: expected '")
    assert str(tmp_path / "etc/twinslot/config.toml") in err


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        ("/nowhere/x.twin", "the image '/nowhere/x.twin' cannot be opened: found 'No such file or directory'"),
        ("/", "the image '/' cannot be read: expected 'a file', found 'a directory'"),
        ("ftp://host/x", "this kind of address is not known: expected 'http or https', found 'ftp'"),
        ("http://nurse:geheim@host/x", "an address with a password is not accepted"),
        (
            "https://nurse:geheim@host:999999/x",
            "this is not an address: expected 'http://HOST/PATH or https://HOST/PATH'",
        ),
        ("", "the image '' cannot be opened: found 'No such file or directory'"),
    ],
)
def test_what_cannot_be_an_image_is_a_mistake_of_the_command_line_and_no_password_is_shown(
    world: BoardWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str], image: str, sentence: str
) -> None:
    assert run(world, tmp_path, "install", image) == 2
    err = capsys.readouterr().err
    assert f"twinslot: {sentence}\n" in err
    assert "geheim" not in err


def test_a_server_that_does_not_answer_is_a_matter_of_the_way_to_it(
    world: BoardWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(world, tmp_path, "install", "http://host/x") == 5
    assert "twinslot: the server does not answer: found 'http://host/x'\n" in capsys.readouterr().err


def test_a_medium_that_fails_is_no_mistake_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(path: str, flags: int) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "open", fails)
    with pytest.raises(TransportError, match="cannot be opened"), opened("/media/stick/x.twin"):
        pass


def test_a_terminal_is_no_image(world: BoardWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    primary, secondary = os.openpty()
    kept = os.dup(0)
    try:
        os.dup2(secondary, 0)
        assert run(world, tmp_path, "install", "-") == 2
    finally:
        os.dup2(kept, 0)
        for descriptor in (primary, secondary, kept):
            os.close(descriptor)
    assert "twinslot: standard input is a terminal" in capsys.readouterr().err


# The job and the signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_the_job_to_stop_and_its_end_is_waited_for(number: signal.Signals) -> None:
    asked = threading.Event()
    told: list[bool] = []

    def job() -> str:
        os.kill(os.getpid(), number)
        assert asked.wait(waits.HANG)
        os.kill(os.getpid(), signal.SIGINT)
        while len(told) < 2:  # the second signal is told, and changes nothing
            threading.Event().wait(0.01)
        return "defined end"

    def stop(first: bool) -> None:
        told.append(first)
        asked.set()

    before = signal.getsignal(signal.SIGINT)
    ended = run_job(job, stop)
    assert (ended.value, ended.error, ended.exit_status) == ("defined end", None, 128 + number)
    assert told == [True, False]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_that_does_not_wake_the_waiting_thread_is_noticed_all_the_same() -> None:
    """One that another thread takes is only noted, as one is that comes right before the wait."""
    asked = threading.Event()

    def job() -> bool:
        threading.Event().wait(0.2)  # by then somebody waits
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        return asked.wait(waits.HANG)

    ended = run_job(job, lambda first: asked.set())
    assert (ended.value, ended.signal) == (True, signal.SIGTERM)


def test_an_error_of_the_job_is_handed_over() -> None:
    def job() -> None:
        raise TransportError("gone")

    ended = run_job(job, lambda _: None)
    assert isinstance(ended.error, TransportError)
    assert ended.signal == 0


# A reader that goes away; in real processes


def command(tmp_path: Path, *argv: str) -> list[str]:
    """`twinslot` with a configuration and no record."""
    if not (tmp_path / "etc").exists():
        write_config(tmp_path)
    return [sys.executable, "-m", "twinslot", "--config-root", str(tmp_path), *argv]


@pytest.mark.parametrize("verb", ["status", "doctor"])
def test_a_closed_pipe_ends_a_looking_verb_quietly(tmp_path: Path, verb: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(command(tmp_path, verb), stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_full_disk_behind_the_output_is_told(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(command(tmp_path, "status"), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 6
    assert done.stderr == "twinslot: the output cannot be written: No space left on device\n"


def test_closed_standard_streams_do_no_harm(tmp_path: Path) -> None:
    shell = shlex.join(command(tmp_path, "status")) + " >&- 2>&-"
    assert subprocess.run(["sh", "-c", shell], check=False).returncode == 0


def test_a_device_without_a_record_says_what_makes_one(tmp_path: Path) -> None:
    done = subprocess.run(command(tmp_path, "history"), capture_output=True, text=True, check=False)
    assert done.returncode == 6
    assert done.stderr.startswith("twinslot: ")
    assert "record" in done.stderr
    done = subprocess.run(command(tmp_path, "status"), capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "nothing is under way" in done.stdout


def test_a_configuration_with_a_mistake_is_named(tmp_path: Path) -> None:
    write_config(tmp_path, "[trail]\ndeadline = 5\n")
    done = subprocess.run(command(tmp_path, "status"), capture_output=True, text=True, check=False)
    assert done.returncode == 6
    assert "trail" in done.stderr
    assert "Traceback" not in done.stderr
