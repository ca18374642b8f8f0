"""Signals become one exception, at a moment that tears nothing apart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from twinslot_image.stop import LEFTOVERS, SIGNALS, Stopped, stopping_by_signals, undisturbed


@pytest.fixture(autouse=True)
def _as_in_a_terminal() -> Iterator[None]:
    """Nothing is ignored, whatever nohup or a shell in the background had this process ignore."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_raised_with_the_status_of_a_shell(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as caught, stopping_by_signals():
        send(number)
    assert caught.value.exit_status == 128 + number
    assert signal.getsignal(number) is before


def test_a_step_that_is_done_whole_is_not_torn_apart() -> None:
    done = []

    def step() -> None:
        with stopping_by_signals(), undisturbed():
            send(signal.SIGTERM)
            done.append("whole")

    with pytest.raises(Stopped):
        step()
    assert done == ["whole"]


def test_tidying_is_not_disturbed_by_a_second_signal() -> None:
    tidied = []

    def work() -> None:
        with stopping_by_signals():
            try:
                send(signal.SIGINT)
            finally:
                send(signal.SIGTERM)
                with undisturbed():
                    tidied.append("tidy")

    with pytest.raises(Stopped) as caught:
        work()
    assert tidied == ["tidy"]
    assert caught.value.number == signal.SIGINT


@pytest.mark.parametrize("made", [None, ImportError])
def test_a_signal_that_a_library_dropped_or_renamed_still_counts(made: type[Exception] | None) -> None:
    def library() -> None:
        try:
            send(signal.SIGHUP)
        except Stopped:
            if made:
                raise made("the library failed to load") from None

    with pytest.raises(Stopped), stopping_by_signals():
        library()


def test_what_is_left_between_two_steps_of_tidying_is_removed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").touch()
    (tmp_path / "file").touch()
    with stopping_by_signals():
        LEFTOVERS.update({tmp_path / "folder", tmp_path / "file", tmp_path / "gone"})
    assert list(tmp_path.iterdir()) == []
    assert not LEFTOVERS


def test_what_was_ignored_stays_ignored() -> None:
    code = (
        "import os, signal; from twinslot_image.stop import *\n"
        "with stopping_by_signals(): os.kill(os.getpid(), signal.SIGHUP); print('alive')"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(["nohup", sys.executable, "-c", code], env=environment, capture_output=True, check=False)
    assert done.stdout == b"alive\n"


def test_outside_of_the_main_thread_nothing_is_touched() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    seen = list[object]()

    def work() -> None:
        with stopping_by_signals(), undisturbed():
            seen.extend(signal.getsignal(number) for number in SIGNALS)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == before
