"""The runner against checks that behave, on a clock that only the checks move."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinslot.core.errors import DeviceError
from twinslot.core.health import failed, judged
from twinslot.core.model import CheckResult
from twinslot.health.base import CheckOptions, CheckVerdict, Runner


def names(results: Sequence[CheckResult]) -> tuple[str, ...]:
    """Which checks end a trial."""
    return tuple(result.name for result in failed(results))


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds


@dataclass
class Scripted:
    """Answers from a list; each try takes the seconds given, but never more than it was allowed."""

    name: str
    clock: Clock
    answers: list[bool]
    takes: float = 1.0
    terms: CheckOptions = field(default_factory=CheckOptions)
    allowed: list[float] = field(default_factory=list)

    def probe(self, seconds: float) -> CheckVerdict:
        self.allowed.append(seconds)
        self.clock.now += min(self.takes, seconds)
        if self.takes > seconds:
            return CheckVerdict(False, "too slow")
        return CheckVerdict(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0], "asked")


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_each_check_gives_one_result_in_order(clock: Clock) -> None:
    checks = [Scripted("b", clock, [True]), Scripted("a", clock, [False], terms=CheckOptions(required=False))]
    results = Runner(checks, clock, clock.sleep).run(clock.now + 100)
    assert [(r.name, r.passed, r.required, r.tries, r.seconds) for r in results] == [
        ("b", True, True, 1, 1.0),
        ("a", False, False, 1, 1.0),
    ]
    assert names(results) == (), "a wanted check never decides"


def test_one_failed_required_check_is_unhealthy(clock: Clock) -> None:
    checks = [Scripted("a", clock, [True]), Scripted("b", clock, [False])]
    assert names(Runner(checks, clock, clock.sleep).run(clock.now + 100)) == ("b",)


def test_what_the_manifest_demands_is_required_and_has_failed_where_it_was_not_asked() -> None:
    asked = (CheckResult("pump", required=False, passed=False), CheckResult("light", required=False, passed=False))
    assert names(judged(asked, ())) == ()
    assert names(judged(asked, ("pump",))) == ("pump",)
    assert names(judged(asked, ("motor", "pump"))) == ("pump", "motor")
    assert judged((), ("motor",)) == (CheckResult("motor", required=True, passed=False, detail="not configured here"),)


def test_a_check_is_asked_again_after_its_delay_and_no_more_once_it_passed(clock: Clock) -> None:
    check = Scripted("a", clock, [False, False, True, False], terms=CheckOptions(retries=5, delay=10))
    (result,) = Runner([check], clock, clock.sleep).run(clock.now + 100)
    assert (result.passed, result.tries, result.seconds) == (True, 3, 23.0)


def test_retries_end(clock: Clock) -> None:
    check = Scripted("a", clock, [False], terms=CheckOptions(retries=2, delay=1))
    (result,) = Runner([check], clock, clock.sleep).run(clock.now + 100)
    assert (result.passed, result.tries, result.seconds) == (False, 3, 5.0)


@pytest.mark.verifies("S16")
def test_no_try_gets_more_time_than_the_deadline_leaves(clock: Clock) -> None:
    check = Scripted("a", clock, [True], takes=50, terms=CheckOptions(timeout=30, retries=9, delay=0))
    (result,) = Runner([check], clock, clock.sleep).run(clock.now + 70)
    assert check.allowed == [30, 30, 10]
    assert (result.passed, result.detail, result.seconds) == (False, "too slow", 70.0)


def test_a_check_that_is_never_asked_has_failed(clock: Clock) -> None:
    checks = [Scripted("slow", clock, [False], takes=30), Scripted("late", clock, [True])]
    results = Runner(checks, clock, clock.sleep).run(clock.now + 30)
    assert (results[1].passed, results[1].tries) == (False, 0)
    assert "before the deadline" in results[1].detail
    assert names(results) == ("slow", "late")


@dataclass
class Exploding:
    error: Exception
    name: str = "explodes"
    terms: CheckOptions = field(default_factory=CheckOptions)

    def probe(self, seconds: float) -> CheckVerdict:
        raise self.error


@pytest.mark.parametrize("error", [ZeroDivisionError("oops"), DeviceError("oops"), OSError(5, "oops")])
def test_a_check_that_breaks_has_failed_and_the_others_are_asked(clock: Clock, error: Exception) -> None:
    results = Runner([Exploding(error), Scripted("next", clock, [True])], clock, clock.sleep).run(clock.now + 10)
    assert [result.passed for result in results] == [False, True]
    assert "oops" in results[0].detail


def test_two_checks_of_one_name_are_refused(clock: Clock) -> None:
    with pytest.raises(DeviceError, match="'a'") as caught:
        Runner([Scripted("a", clock, [True]), Scripted("a", clock, [True])])
    assert caught.value.code == "device.health-names"


def _scripts(draw: st.DrawFn) -> Iterator[tuple[list[bool], float, CheckOptions]]:
    for _ in range(draw(st.integers(0, 4))):
        times = st.floats(0, 50)
        terms = CheckOptions(draw(st.floats(0.1, 50)), draw(st.integers(0, 3)), draw(times), draw(st.booleans()))
        yield draw(st.lists(st.booleans(), min_size=1, max_size=4)), draw(times), terms


@given(scripts=st.composite(lambda draw: list(_scripts(draw)))(), budget=st.floats(-1, 120))
def test_the_deadline_always_holds_and_a_pass_was_always_asked_for(
    scripts: list[tuple[list[bool], float, CheckOptions]], budget: float
) -> None:
    clock = Clock()
    checks = [Scripted(str(n), clock, list(a), takes, terms) for n, (a, takes, terms) in enumerate(scripts)]
    results = Runner(checks, clock, clock.sleep).run(1000 + budget)
    assert clock.now <= max(1000, 1000 + budget) + 1e-6
    for check, result in zip(checks, results, strict=True):
        assert result.tries == len(check.allowed) <= check.terms.retries + 1
        assert not result.passed or result.tries
