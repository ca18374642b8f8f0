"""What a server hears of a refusal: what the device's own policy only puts off ends no action."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from twinslot.core import conditions
from twinslot.core.consent import Consent, ConsentBounds, ConsentMode, missing
from twinslot.core.errors import Refusal, RefusedError
from twinslot.core.inhibitors import NOT_ASKED, Inhibitor, obstacles
from twinslot.core.model import Reason
from twinslot.core.policy import Gate, Obstacle
from twinslot.core.windows import WindowState, closed
from twinslot.fleet.reports import ServerAction, passes, report_of

NOW = datetime(2026, 5, 5, tzinfo=UTC)
BOUNDS = ConsentBounds(notice=60, limit=600)
WAITING = Consent(release="2.0")


def _why(found: Obstacle | None) -> Refusal:
    assert found is not None
    return found.why


def _people(consent: Consent, mode: ConsentMode) -> Refusal:
    found = missing(consent, mode, BOUNDS)
    assert found is not None
    return found[0]


PUT_OFF = [
    *(_why(each) for each in obstacles([Inhibitor("pump", "an infusion runs")], Gate.RESTART)),
    NOT_ASKED.why,
    *(_why(closed("fetch", WindowState(open=False), known=known)) for known in (True, False)),
    _why(conditions.power([], mains=True, battery=0)),
    _why(conditions.power([], mains=False, battery=40)),
    _why(conditions.room(0, 1)),
    _why(conditions.unproven(None, NOW, 60)),
    _why(conditions.metered(["wwan0"])),
    _people(Consent(release="2.0", held=60), ConsentMode.REQUIRED),
    _people(WAITING, ConsentMode.REQUIRED),
    _people(WAITING, ConsentMode.NOTIFY),
]


@pytest.mark.verifies("S21")
@pytest.mark.parametrize("why", PUT_OFF, ids=lambda why: why.code)
def test_what_policy_puts_off_ends_no_order_and_is_no_try(why: Refusal) -> None:
    error = RefusedError(why)
    row: dict[str, Any] = {"number": 7, "event": "refused", "message": str(error), "fields": error.as_dict()}
    assert passes(error)
    assert report_of(ServerAction("1", "1", "link", first=7), row, tries_max=3) is None


@pytest.mark.parametrize("reason", [Reason.INTERRUPTED, Reason.STOPPED])
def test_an_install_that_ended_with_the_power_is_tried_again_until_no_try_is_left(reason: Reason) -> None:
    fields = {"transaction": "t", "reason": str(reason)}
    row: dict[str, Any] = {"number": 7, "event": "abandoned", "message": "it ended", "fields": fields}
    for tries, told in ((1, ("proceeding", "none")), (2, ("proceeding", "none")), (3, ("closed", "failure"))):
        report = report_of(ServerAction("1", "1", "link", ("t",), tries, first=7), row, tries_max=3)
        assert report is not None
        assert (report.execution, report.finished) == told
    row["fields"] = fields | {"reason": "cancelled"}
    report = report_of(ServerAction("1", "1", "link", ("t",), 1, first=7), row, tries_max=3)
    assert report is not None
    assert report.finished == "failure", "somebody at the device has dropped it"


@pytest.mark.verifies("S23")
@pytest.mark.parametrize(
    ("origin", "tries", "told"),
    [
        ({"kind": "server", "action": "2"}, 1, ("proceeding", "none")),
        ({"kind": "server", "action": "2"}, 3, ("closed", "failure")),
        ({"kind": "server", "action": "1"}, 1, ("closed", "failure")),
        ({"kind": "user"}, 1, ("closed", "failure")),
    ],
    ids=["another order", "another order, after the last try", "itself", "somebody at the device"],
)
def test_an_update_that_was_replaced_has_failed_unless_its_turn_comes_again(
    origin: dict[str, str], tries: int, told: tuple[str, str]
) -> None:
    fields = {"transaction": "t", "reason": "replaced", "origin": origin}
    row: dict[str, Any] = {"number": 7, "event": "abandoned", "message": "it ended", "fields": fields}
    report = report_of(ServerAction("1", "1", "link", ("t",), tries, first=7), row, tries_max=3)
    assert report is not None
    assert (report.execution, report.finished) == told


@pytest.mark.verifies("S23")
@pytest.mark.parametrize("code", ["downgrade", "signatures", "failed-before"])
def test_what_no_wait_ends_is_a_failure(code: str) -> None:
    error = RefusedError(Refusal(code, "the image is not taken"))
    row: dict[str, Any] = {"number": 7, "event": "refused", "message": str(error), "fields": error.as_dict()}
    assert not passes(error)
    report = report_of(ServerAction("1", "1", "link", first=7), row, tries_max=3)
    assert report is not None
    assert (report.execution, report.finished) == ("closed", "failure")


def test_beside_a_reason_that_stays_one_that_passes_does_not_count() -> None:
    error = RefusedError((PUT_OFF[0], Refusal("downgrade", "the image is older")))
    row: dict[str, Any] = {"number": 7, "event": "refused", "message": str(error), "fields": error.as_dict()}
    assert not passes(error)
    report = report_of(ServerAction("1", "1", "link", first=7), row, tries_max=3)
    assert report is not None
    assert report.finished == "failure"
