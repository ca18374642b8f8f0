"""Processes that start before they are needed: asked once, and never left behind."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from twinslot.app.local import LocalUpdater
from twinslot.config.options import Config
from twinslot.core.errors import DeviceError, TransportError
from twinslot.core.requests import InstallOptions
from twinslot.core.stream import ImageStream
from twinslot.engine.engine import Engine
from twinslot.engine.verifier import Verifier
from twinslot.worker import launch
from twinslot.worker.launch import Worker


class Started:
    """Counts how often it is closed."""

    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def started() -> list[Started]:
    return []


@pytest.fixture
def verifier(started: list[Started]) -> Verifier:
    def start(kind: str) -> Worker:
        assert kind == "verify"
        started.append(Started())
        return cast("Worker", started[-1])

    return Verifier(cast("Config", None), start)


def test_the_first_question_goes_to_the_process_that_is_there_and_the_next_to_a_fresh_one(
    verifier: Verifier, started: list[Started]
) -> None:
    with verifier.expecting():
        assert len(started) == 1
        taken = [verifier._take_worker(), verifier._take_worker()]
    assert taken == [cast("Worker", each) for each in started]
    assert [worker.closed for worker in started] == [0, 0], "whoever asks ends it"


def test_a_head_that_never_comes_leaves_no_process_behind(verifier: Verifier, started: list[Started]) -> None:
    with pytest.raises(TransportError), verifier.expecting():
        raise TransportError("no such host", code="network")
    assert [worker.closed for worker in started] == [1]


def test_a_question_that_was_not_expected_starts_its_own(verifier: Verifier, started: list[Started]) -> None:
    assert verifier._take_worker() is cast("Worker", started[0])


def test_a_device_that_refuses_ends_both_workers_that_started_first(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    trust = Started()
    monkeypatch.setattr(launch, "_started", lambda _: trust)

    class Refusing(LocalUpdater):
        def stream(self, source: str | int) -> ImageStream:
            launch.start_ahead("verify")
            order.append(f"worker for {source}")
            stream = SimpleNamespace(close=lambda: order.append("worker ended"))
            return cast("ImageStream", stream)

        def engine(self) -> Engine:
            order.append("engine")
            raise DeviceError("it is not known which slot runs", code="running-slot")

    config = cast("Config", SimpleNamespace(install=SimpleNamespace(nice=0, io_priority="normal")))
    with pytest.raises(DeviceError, match="which slot runs"):
        Refusing(config).install("x.twin", InstallOptions(), lambda _: None)
    assert order == ["worker for x.twin", "engine", "worker ended"]
    assert trust.closed == 1
