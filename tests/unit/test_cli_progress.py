"""Progress on a terminal, in a log, and as JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinslot.cli.output import Output
from twinslot.cli.progress import LABELS, Reporter, as_object, describe, duration_text, size_text
from twinslot.core.progress import Phase, Progress

MIB = 1 << 20
WRITE = Progress(Phase.WRITE, 90 * MIB, 200 * MIB, 12.5 * MIB, 8.8, 40 * MIB)

progresses = st.builds(
    Progress,
    st.sampled_from(Phase),
    st.integers(0, 1 << 50),
    st.integers(0, 1 << 50),
    st.floats(0, 1e15),
    st.none() | st.floats(0, 1e12),
    st.integers(0, 1 << 50),
)


class Watched(Output):
    """As if standard error were a terminal."""

    @property
    def watched(self) -> bool:
        return True


def test_a_line_says_phase_part_size_rate_and_time_left() -> None:
    assert describe(WRITE) == "writing: 45 %, 90.0 MiB of 200.0 MiB, 12.5 MiB/s, 9 s left"
    assert describe(Progress(Phase.PREPARE)) == "preparing the slot ..."
    assert describe(Progress(Phase.CHECK, 2, 5)) == "health checks: 2 of 5"


def test_in_a_log_each_phase_and_each_tenth_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(Output(as_json=False))
    reporter(Progress(Phase.VERIFY))
    for done in range(0, 1001, 5):
        reporter(Progress(Phase.WRITE, done, 1000))
    reporter.end()
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0] == "verifying signatures ..."
    assert [line.split(",")[0] for line in lines[1:]] == [f"writing: {percent} %" for percent in range(0, 101, 10)]


def test_on_a_terminal_one_line_is_redrawn_and_leaves_nothing_behind(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    reporter = Reporter(Watched(as_json=False))
    for done in (0, 1, 2):
        reporter(Progress(Phase.WRITE, done * MIB, 2 * MIB, MIB, 2 - done))
    reporter.end()
    err = capsys.readouterr().err
    assert "\n" not in err
    drawn = err.split("\r\x1b[K")
    assert drawn[0] == drawn[-1] == ""
    assert drawn[1:-1] == [
        "writing: 0 %, 0 B of 2.0 MiB, 1.0 MiB/s",
        "writing: 50 %, 1.0 MiB of 2.0 MiB, 1.0 ",
        "writing: 100 %, 2.0 MiB of 2.0 MiB, 1.0",
    ]


def test_as_json_each_report_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    Reporter(Output(as_json=True))(WRITE)
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out) == {
        "type": "progress",
        "phase": "write",
        "done": 90 * MIB,
        "total": 200 * MIB,
        "percent": 45,
        "rate": 12.5 * MIB,
        "left": 8.8,
        "fetched": 40 * MIB,
        "note": "",
    }


def test_every_phase_has_words() -> None:
    assert set(LABELS) == set(Phase)


@given(progresses)
def test_any_report_can_be_told(progress: Progress) -> None:
    assert "\n" not in describe(progress)
    percent = json.loads(json.dumps(as_object(progress)))["percent"]
    assert percent is None or 0 <= percent <= 100
    if progress.total and progress.done < progress.total:
        assert percent < 100


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 20, "3.0 MiB"), (5 << 40, "5120.0 GiB")]
)
def test_sizes(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (125, "2 min 5 s"), (3725, "1 h 2 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


WAITS = Progress(Phase.VERIFY, note="connection refused; try 3 of 11 in 8 s")


def test_what_is_waited_for_stands_in_the_line() -> None:
    assert describe(WAITS) == "verifying signatures: connection refused; try 3 of 11 in 8 s"
    assert as_object(WAITS)["note"] == "connection refused; try 3 of 11 in 8 s"


def test_a_log_says_each_wait_once(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(Output(as_json=False))
    for progress in (Progress(Phase.VERIFY), WAITS, WAITS, Progress(Phase.VERIFY)):
        reporter(progress)
    assert capsys.readouterr().err.count("try 3 of 11") == 1
