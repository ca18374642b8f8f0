"""Foreign programs that end, hang, flood, fork and never read."""

from __future__ import annotations

from pathlib import Path

import pytest

import waits
from twinslot.system import process


def sh(script: str, timeout: float = waits.HANG, limit: int = process.OUTPUT_LIMIT) -> process.ProgramResult:
    return process.run(["sh", "-c", script], timeout=timeout, limit=limit)


def test_status_and_both_streams_come_back() -> None:
    done = sh("echo out; echo err >&2; exit 3")
    assert done == process.ProgramResult(3, b"out\n", b"err\n")
    assert done.complaint() == "ended with status 3: err"


def test_input_is_handed_over_even_when_it_is_larger_than_a_pipe() -> None:
    done = process.run(["wc", "-c"], timeout=waits.HANG, stdin=bytes(1 << 20))
    assert done.stdout.strip() == b"1048576"


def test_a_program_that_does_not_read_is_not_waited_for() -> None:
    assert process.run(["true"], timeout=waits.HANG, stdin=bytes(1 << 20)).status == 0


def test_a_hang_is_killed_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = tmp_path / "child"
    monkeypatch.setattr(process, "time", waits.Stopped(lambda: child.exists() and child.read_text()))
    done = sh(f"echo waiting; sleep 1000 & echo $! >{child}; wait", timeout=0.1)
    assert (done.status, done.stdout) == (None, b"waiting\n")
    assert done.complaint() == "did not end in time: waiting"
    waits.until(lambda: waits.is_gone(int(child.read_text())))


def test_a_child_left_behind_neither_delays_nor_survives() -> None:
    done = sh("sleep 1000 & echo $!")
    assert done.status == 0, "it ended in time"
    waits.until(lambda: waits.is_gone(int(done.stdout)))


def test_a_flood_is_read_but_not_kept() -> None:
    done = sh("head -c 3000000 /dev/zero | tr '\\0' x; echo end", limit=1000)
    assert (len(done.stdout), done.cut, done.stdout[-4:]) == (1000, True, b"end\n")


def test_an_endless_flood_ends_at_the_timeout() -> None:
    assert sh("yes", timeout=0.3).status is None


def test_closed_pipes_are_not_mistaken_for_the_end() -> None:
    assert sh("exec >&- 2>&-; sleep 0.2; exit 7").status == 7


def test_a_signal_is_a_negative_status() -> None:
    assert sh("kill -9 $$").status == -9


def test_a_missing_program_is_an_os_error() -> None:
    with pytest.raises(FileNotFoundError):
        process.run(["/nonexistent/program"], timeout=waits.HANG)


def test_nothing_is_left_open() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    sh("true")
    sh("sleep 5", timeout=0.05)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(
    ("data", "line"),
    [(b"", ""), (b"\n \n", ""), (b"a\nb\n\n", "b"), (b"\xff\x1b[31m", "\ufffd?[31m"), (b"x" * 300, "x" * 200)],
)
def test_the_last_line_is_printable_and_short(data: bytes, line: str) -> None:
    assert process.last_line(data) == line
