"""Long work of the lab says where it stands: which step of how many, how far, and what is left where that is known."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

import waits
from twinslot_lab import cache, progress
from twinslot_lab.command import cause
from twinslot_lab.errors import BuildError


@pytest.fixture(autouse=True)
def nothing_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_REMEMBERED", tmp_path / "seconds.json")
    monkeypatch.setattr(progress, "_seconds", {})
    monkeypatch.setattr(progress, "_IN_LOG", 0.01)


class Seen(threading.Event):
    """A counter that has been asked."""

    def __call__(self) -> tuple[str, int, int]:
        self.set()
        return "configure", 41, 149


def test_a_long_step_tells_its_number_and_how_far_it_is_until_it_ends(capsys: pytest.CaptureFixture[str]) -> None:
    seen = Seen()
    with progress.shown(3), progress.step("base"), progress.part("packages", seen):
        assert seen.wait(waits.HANG)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "[lab] step 1 of 3: base ..."
    assert lines[1].startswith("[lab] step 1 of 3: base: packages: configure 41 of 149, ")
    assert lines[-1].startswith("[lab] step 1 of 3: base: ")
    assert lines[-1].endswith(" s")


def test_time_left_is_told_once_a_step_has_been_timed(capsys: pytest.CaptureFixture[str]) -> None:
    for known in (False, True):
        if known:
            progress._REMEMBERED.write_text('{"base": 130.0}')
        seen = Seen()
        with progress.shown(1), progress.step("base"), progress.part("x", seen):
            assert seen.wait(waits.HANG)
        assert ("about 2 min left" in capsys.readouterr().err) is known


def test_what_ends_the_work_is_told_also_where_the_times_cannot_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_REMEMBERED", Path("/dev/full/seconds.json"))
    with pytest.raises(BuildError, match="the cause"), progress.shown(1), progress.step("base"):
        raise BuildError("the cause")


def test_what_is_cached_counts_as_a_step_and_what_it_is_made_of_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def outer(work: Path) -> None:
        cache.cached("inner", "0" * 16, lambda inner: (inner / "x").touch(), base=tmp_path)

    (tmp_path / ("there-" + "0" * 16)).mkdir()
    with progress.shown(3):
        cache.cached("there", "0" * 16, outer, base=tmp_path)
        cache.cached("outer", "0" * 16, outer, base=tmp_path)
        with progress.step("last"):
            pass
    titles = [line for line in capsys.readouterr().err.splitlines() if line.endswith("...")]
    assert titles == [
        "[lab] step 2 of 3: build outer ...",
        "[lab] step 2 of 3: build outer: build inner ...",
        "[lab] step 3 of 3: last ...",
    ]


def test_a_wait_for_another_process_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key, told = "0" * 16, threading.Event()
    builds = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", builds, str(tmp_path / f".slow-{key}.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()
        waiting = threading.Thread(
            target=cache.cached, args=("slow", key, lambda _: told.set()), kwargs={"base": tmp_path}
        )
        waiting.start()
        while waiting.is_alive() and not progress._open:
            waiting.join(0.01)
        assert [now.name for now in progress._open] == ["wait for another process that builds slow"]
        assert not told.is_set()
        other.stdin.write("\n")
        other.stdin.close()
        waiting.join(waits.HANG)
    assert told.is_set()
    assert "wait for another process that builds slow ..." in capsys.readouterr().err


def test_steps_that_run_side_by_side_are_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    both, told = threading.Barrier(2), threading.Event()

    def count() -> tuple[str, int, int]:
        if both.broken or len(progress._open) == 2:
            told.set()
        return "", 0, 0

    def one(name: str) -> None:
        with progress.step(name), progress.part("x", count):
            both.wait(waits.HANG)
            assert told.wait(waits.HANG)

    with progress.shown(2):
        threads = [threading.Thread(target=one, args=(name,)) for name in ("left", "right")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = capsys.readouterr().err.splitlines()
    assert any("left: x" in line and " | " in line and "right: x" in line for line in lines)


def test_a_step_without_a_command_line_only_tells_its_begin_and_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    progress.plan(0)
    with progress.step("base"):
        pass
    begin, end = capsys.readouterr().err.splitlines()
    assert begin == "[lab] base ..."
    assert end.startswith("[lab] base: ")


@pytest.mark.parametrize(
    ("output", "why"),
    [
        ("Reading lists\nE: Unable to locate package nonsense\nE: done\n", "E: Unable to locate package nonsense"),
        ("  CC a.o\na.c:3:1: error: expected ';'\nmake: *** [a.o] Error 1\n", "a.c:3:1: error: expected ';'"),
        ("one\ntwo\n\n", "two"),
        ("", "it said nothing"),
    ],
)
def test_the_cause_is_the_first_line_that_speaks_of_an_error_else_the_last(output: str, why: str) -> None:
    assert cause(output) == why


def test_the_last_line_of_a_build_that_fails_is_its_cause(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from twinslot_lab import __main__, command

    def build(name: str, debs: list[Path]) -> None:
        command.run("sh", "-c", "echo begun; echo E: no such package >&2; echo cleaning up; exit 100")

    monkeypatch.setattr(__main__, "build_board", build)
    monkeypatch.setattr("sys.argv", ["twinslot_lab", "build"])
    assert __main__.main() == 1
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("[lab] failed: 'sh -c ")
    assert last.endswith("ended with status 100: E: no such package")
