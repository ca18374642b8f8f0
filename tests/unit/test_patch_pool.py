"""The processes that make a patch: in order, with their errors, and never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from twinslot.core.errors import DeviceError
from twinslot_image.patch_pool import process_pool


def test_results_come_in_the_order_of_the_tasks() -> None:
    with process_pool(2) as run:
        assert list(run(abs, list(range(-20, 0)))) == list(range(20, 0, -1))
        assert list(run(len, [b"x" * 3_000_000] * 5)) == [3_000_000] * 5, "larger than any buffer between them"
        assert list(run(abs, [])) == []


def test_an_error_of_a_task_is_raised_here() -> None:
    with process_pool(2) as run, pytest.raises(ValueError, match="invalid literal"):
        list(run(int, ["1", "x"]))


def test_a_process_that_ends_by_itself_is_an_error() -> None:
    with process_pool(1) as run, pytest.raises(DeviceError) as caught:
        list(run(os._exit, [3]))
    assert caught.value.code == "device.patch-worker"


def children_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(number) for number in text.split()]


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_processes_end_with_the_one_that_started_them_even_if_it_is_killed() -> None:
    code = (
        "import sys, time; from twinslot_image.patch_pool import process_pool\n"
        "with process_pool(2) as run: list(run(abs, [1, 2])); print('ready', flush=True); time.sleep(600)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    job = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    assert job.stdout
    assert job.stdout.readline() == b"ready\n"
    workers = children_of(job.pid)
    assert len(workers) == 2
    for worker in workers:
        os.kill(worker, signal.SIGINT)  # ^C reaches the whole group: it is for the one that started them
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    job.stdout.close()
    for _ in range(1000):
        if not any(map(runs, workers)):
            return
        time.sleep(0.05)
    raise AssertionError("they stay")


class Watched(list[float]):
    """Tasks that know the last one that was asked for."""

    last = 0

    def __getitem__(self, number: Any) -> Any:
        self.last = max(self.last, number)
        return super().__getitem__(number)


def test_results_that_wait_for_a_slow_task_are_few() -> None:
    tasks = Watched([0.3, *[0.0] * 100])
    with process_pool(2) as run:
        results = run(time.sleep, tasks)
        next(results)
        assert tasks.last < 20
        assert len(list(results)) == 100
