"""How often a job on the bus tells, and how long the service stays without one, on a clock of their own."""

from __future__ import annotations

import asyncio
import itertools
from types import SimpleNamespace
from typing import Any, cast

import virtual_time
from twinslot.bus.server.interface import UpdaterOf
from twinslot.bus.server.job import Job
from twinslot.bus.server.objects import Exporter
from twinslot.bus.server.server import _Server
from twinslot.core.origin import Origin
from twinslot.core.progress import Phase, Progress


class Heard:
    """Implements what a job needs of `Exporter`."""

    def __init__(self) -> None:
        self.told: list[tuple[float, str, int]] = []

    def changed(self, path: str, interface: str, values: dict[str, Any]) -> None:
        phase, done, *_ = values["Progress"]
        self.told.append((round(asyncio.get_running_loop().time(), 2), phase, done))


async def told_of(*reports: tuple[float, Phase, int]) -> list[tuple[float, str, int]]:
    """What is told of reports that come at these seconds, and when."""
    heard = Heard()
    job = Job("/job", "install", lambda _: None, cast("Exporter", heard), cast("Origin", None))
    for when, phase, done in reports:
        await asyncio.sleep(when - asyncio.get_running_loop().time())
        job._take(Progress(phase, done, 1000))
    await asyncio.sleep(10)
    return heard.told


def test_progress_is_told_at_most_four_times_a_second() -> None:
    reports = [(number / 100, Phase.WRITE, number) for number in range(1000)]  # for ten seconds
    told = virtual_time.run(told_of(*reports))
    times = [when for when, _, _ in told]
    assert len(told) == 41
    assert all(later - earlier >= 0.25 for earlier, later in itertools.pairwise(times))
    assert told[-1] == (10.0, "write", 999), "the last report is told, when its quarter of a second is over"


def test_the_begin_of_a_phase_is_told_at_once() -> None:
    told = virtual_time.run(
        told_of((0.0, Phase.WRITE, 1), (0.1, Phase.WRITE, 2), (0.2, Phase.READ_BACK, 0), (0.3, Phase.READ_BACK, 5))
    )
    assert told == [(0.0, "write", 1), (0.2, "read-back", 0), (0.45, "read-back", 5)]


async def left_after(*calls: float, job_ends: float = 0.0) -> float:
    """When a service that stays for 60 seconds leaves, with calls at these seconds and a job up to then."""
    server = _Server(cast("UpdaterOf", None), idle=60, grace=5)
    loop = asyncio.get_running_loop()
    jobs = SimpleNamespace(current="job" if job_ends else None)
    for when in calls:
        loop.call_at(when, server._touch)
    if job_ends:
        loop.call_at(job_ends, setattr, jobs, "current", None)
        loop.call_at(job_ends, server._touch)
    assert not await server._told_to_stop(cast("Any", SimpleNamespace(jobs=jobs)))
    return loop.time()


def test_the_service_stays_for_its_idle_time_after_the_last_call() -> None:
    assert virtual_time.run(left_after()) == 60
    assert virtual_time.run(left_after(30, 60, 119, 178)) == 178 + 60


def test_the_service_stays_as_long_as_a_job_runs_and_its_idle_time_after_it() -> None:
    assert 1000 + 60 <= virtual_time.run(left_after(job_ends=1000)) <= 1000 + 120, "a look at the job lasts as long"
