"""The trust process that starts while an image's head is on its way: asked once, and never left behind."""

from __future__ import annotations

from typing import cast

import pytest

from twinslot.config.options import Config
from twinslot.core.errors import TransportError
from twinslot.engine.verifier import Verifier
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
