"""An update gives way to the device's own work, and nothing else of the process does."""

from __future__ import annotations

import logging
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import waits
from image_samples import make_sample
from twinslot.system import process
from twinslot.system.priority import IO_CLASSES, lower_priority
from twinslot.worker import launch
from twinslot.worker.stream import WorkerStream

SAMPLE = make_sample()
NICE = min(19, os.getpriority(os.PRIO_PROCESS, 0) + 7)  # whoever runs the tests may be nice already


def of(thread: int) -> tuple[int, str]:
    """The kernel's word for CPU and I/O priority of a thread or process."""
    told = subprocess.run(["ionice", "-p", str(thread)], capture_output=True, text=True, check=True).stdout
    return os.getpriority(os.PRIO_PROCESS, thread), told.strip()


def in_thread(do: Callable[[], object]) -> None:
    raised: list[BaseException] = []

    def run() -> None:
        try:
            do()
        except BaseException as e:  # noqa: BLE001 - raised again by who waits
            raised.append(e)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(waits.HANG)
    assert not thread.is_alive()
    if raised:
        raise raised[0]


@pytest.mark.parametrize(("io", "told"), [("low", "best-effort: prio 7"), ("idle", "idle")])
def test_a_thread_gives_way_with_all_that_it_starts_and_the_others_stay(io: str, told: str) -> None:
    before = of(threading.get_native_id())

    def lower() -> None:
        lower_priority(0)
        assert of(threading.get_native_id()) == (NICE, told), "inherited; and 0 raises nothing"

    def update() -> None:
        lower_priority(NICE, io)
        assert of(threading.get_native_id()) == (NICE, told)
        in_thread(lower)
        child = subprocess.run(["sh", "-c", "nice; ionice"], capture_output=True, text=True, check=True)
        assert child.stdout.split("\n")[:2] == [str(NICE), told]

    in_thread(update)
    assert of(threading.get_native_id()) == before


def test_the_default_changes_nothing() -> None:
    before = of(threading.get_native_id())
    lower_priority(0, "normal")
    assert of(threading.get_native_id()) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="a priority above the usual one needs a privilege")
def test_the_default_leaves_an_update_that_was_started_with_more_than_the_usual_priority() -> None:
    def update() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -5)
        before = of(threading.get_native_id())
        lower_priority(0)
        assert of(threading.get_native_id()) == before
        assert before[0] == -5

    in_thread(update)


def test_an_update_goes_on_where_ionice_is_missing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def missing(*_: object, **__: object) -> process.ProgramResult:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(process, "run", missing)
    with caplog.at_level(logging.WARNING):
        in_thread(lambda: lower_priority(0, "idle"))
    assert "the priority cannot be lowered" in caplog.text
    assert set(IO_CLASSES) == {"normal", "low", "idle"}


def test_the_fetching_worker_gives_way_as_it_is_told(tmp_path: Path) -> None:
    image = tmp_path / "x.twin"
    image.write_bytes(SAMPLE.data)
    worker = launch.start("fetch")
    with image.open("rb") as file:
        stream = WorkerStream(worker, {"limits": {}, "nice": NICE}, file.fileno())
        try:
            stream.head()  # it has read its request
            assert worker._process is not None
            assert os.getpriority(os.PRIO_PROCESS, worker._process.pid) == NICE
        finally:
            stream.close()
