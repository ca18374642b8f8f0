"""Reports on a simulated board: what the server is told, and when, whatever moment power goes or the server says no."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import waits
from fakes.hawkbit import FakeHawkbit, Module, Reply
from simulation.board import power_may_go
from simulation.fleet import CONTROLLER, BoardService, FleetBoard, ModelServer, fleet_board
from simulation.image import SmallImage
from simulation.power import Power, PowerCut
from twinslot.core.errors import DeviceError, TransportError
from twinslot.core.progress import quiet
from twinslot.core.requests import InstallOptions
from twinslot.system.cancellation import Cancellation

NEW = SmallImage("2.0", 20)
SICK = SmallImage("3.0", 30, well=False)


def module(image: SmallImage) -> Module:
    return Module("pump-os", image.name, {f"{image.name}.twin": b"image"})


@pytest.fixture
def hawkbit() -> FakeHawkbit:
    return FakeHawkbit()


def paired(directory: Path, hawkbit: FakeHawkbit) -> FleetBoard:
    token = hawkbit.device(CONTROLLER)
    return fleet_board(directory, ModelServer(hawkbit, f"TargetToken {token}"), hawkbit.url, NEW, SICK)


@pytest.fixture
def fleet(tmp_path: Path, hawkbit: FakeHawkbit) -> FleetBoard:
    return paired(tmp_path, hawkbit)


def said(hawkbit: FakeHawkbit, number: int = 1) -> list[str]:
    """Closing words of an action."""
    return [finished for word, finished, *_ in hawkbit.action(number).entries if word == "closed"]


def events(fleet: FleetBoard) -> list[str]:
    """Of the audit."""
    return [row["event"] for row in fleet.service().log(0, "", 1000)["rows"]]


class Cutter:
    """Power goes at one step of the fleet process, counted from its plugging in."""

    def __init__(self, at: int) -> None:
        self.at, self.steps = at, 0

    def __call__(self, _: str) -> None:
        self.steps += 1
        if self.steps == self.at:
            raise PowerCut(f"step {self.at}")


def cut_at(directory: Path, image: SmallImage, step: int) -> tuple[FakeHawkbit, FleetBoard, bool]:
    """One story with a power cut at this step, and what comes of it; whether there was one."""
    hawkbit = FakeHawkbit()
    fleet = paired(directory, hawkbit)
    hawkbit.assign(CONTROLLER, module(image))
    fleet.before = cutter = Cutter(step)
    for _ in range(6):
        try:
            error = fleet.run()
        except PowerCut:
            for thread in threading.enumerate():
                if thread.name == "install":  # the service is a process of its own, and was done
                    thread.join()
            fleet.board.lose_power()
            fleet.board.live()
        else:
            assert error is None, f"step {step}"
        if fleet.board.wants_reboot:
            fleet.board.live()
    return hawkbit, fleet, cutter.steps >= step


@pytest.mark.slow
@pytest.mark.verifies("S23")
@pytest.mark.parametrize(("image", "result"), [(NEW, "success"), (SICK, "failure")], ids=["good", "sick"])
def test_a_report_is_neither_lost_nor_early_whichever_step_power_goes_at(
    tmp_path: Path, image: SmallImage, result: str
) -> None:
    for step in itertools.count(1):
        directory = tmp_path / str(step)
        directory.mkdir()
        hawkbit, fleet, cut = cut_at(directory, image, step)
        assert said(hawkbit) == [result], f"power went at step {step}"
        assert (fleet.board.system() is NEW) == (image is NEW)
        assert "refused" not in events(fleet), f"power went at step {step}, and the order was begun a second time"
        if not cut:
            break
    assert step > 20, "there were fewer steps than a story has"


@pytest.mark.verifies("S23")
def test_a_record_that_is_locked_while_an_update_runs_leaves_the_update_to_itself_and_costs_no_report(
    fleet: FleetBoard, hawkbit: FakeHawkbit, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, locked, read = threading.Event(), threading.Event(), BoardService.log

    def log(service: BoardService, after: int, since: str, limit: int) -> dict[str, Any]:
        if begun.is_set() and not locked.is_set():
            locked.set()
            raise DeviceError("the record cannot be read (database is locked)", code="record")
        return read(service, after, since, limit)

    def during(_: Cancellation) -> None:
        begun.set()
        assert locked.wait(waits.HANG)

    hawkbit.assign(CONTROLLER, module(NEW))
    monkeypatch.setattr(BoardService, "log", log)
    fleet.during = during
    assert fleet.run() is None
    assert fleet.board.wants_reboot, "the run ended before the update"
    fleet.board.live()
    assert fleet.run() is None
    assert said(hawkbit) == ["success"]


class BegunError(Exception):
    """The install is about to begin."""


def begun(fleet: FleetBoard) -> str:
    """Let the fleet process come to where the service would begin an install; the order's name."""

    tries = sum(action.tries for action in fleet.state.actions)

    def before(step: str) -> None:
        if step == "saved" and sum(action.tries for action in fleet.state.actions) > tries:
            raise BegunError

    fleet.before = before
    with pytest.raises(BegunError):
        fleet.run()
    fleet.before = lambda _: None
    return fleet.state.actions[-1].name


def interrupted(fleet: FleetBoard, cut: int) -> bool:
    """Install for the order, with a power cut at this storage call, and start again; whether there was one."""
    options = InstallOptions(action=begun(fleet))
    fleet.board.set_power(power := Power(cut))
    with power_may_go(fleet.board):
        fleet.service().install("2.0.twin", options, quiet)
    fleet.board.set_power(Power())
    fleet.board.live()
    return power.off


@pytest.mark.verifies("S23")
def test_an_install_during_which_the_power_goes_is_begun_again_and_no_failure(tmp_path: Path) -> None:
    for cut in itertools.count(1, 7):
        directory = tmp_path / str(cut)
        directory.mkdir()
        hawkbit = FakeHawkbit()
        fleet = paired(directory, hawkbit)
        hawkbit.assign(CONTROLLER, module(NEW))
        was_cut = interrupted(fleet, cut)
        for _ in range(2):
            assert fleet.live() is None
        assert fleet.board.system() is NEW
        assert said(hawkbit) == ["success"], f"power went at call {cut}"
        if not was_cut:
            break
    assert cut > 20, "there were fewer calls than an install has"


def test_an_install_that_power_ends_again_and_again_is_a_failure_after_the_last_try(
    fleet: FleetBoard, hawkbit: FakeHawkbit
) -> None:
    hawkbit.assign(CONTROLLER, module(NEW))
    for number in range(3):
        assert said(hawkbit) == [], f"{number} tries"
        assert interrupted(fleet, 20)
    assert fleet.live() is None
    assert said(hawkbit) == ["failure"]
    assert fleet.board.system() is not NEW


@pytest.mark.verifies("S10", "S23")
def test_nothing_is_closed_before_the_board_has_decided(fleet: FleetBoard, hawkbit: FakeHawkbit) -> None:
    hawkbit.assign(CONTROLLER, module(NEW))
    fleet.run()
    fleet.run()
    assert fleet.board.wants_reboot
    assert said(hawkbit) == []
    fleet.board.start()
    fleet.board.verb("boot", undecided=True)
    fleet.run()
    assert said(hawkbit) == []
    fleet.board.run_units()
    assert fleet.board.environment()["slot_b"] == "good"
    fleet.run()
    assert said(hawkbit) == ["success"]


@pytest.mark.verifies("S23")
def test_progress_is_told_only_of_a_step_that_has_its_row(fleet: FleetBoard, hawkbit: FakeHawkbit) -> None:
    hawkbit.assign(CONTROLLER, module(NEW))
    rows: list[int] = []

    def seen(step: str) -> None:
        if step.startswith("POST") and "feedback" in step:
            rows.append(events(fleet).count("accepted"))

    fleet.before = seen
    fleet.run()
    assert rows
    assert all(rows)


# What the server answers


def failing(hawkbit: FakeHawkbit, reply: Reply, times: int, where: str) -> None:
    """So many answers to requests of this kind are these."""
    left = [times]

    def fault(method: str, path: str) -> Reply | None:
        if where not in f"{method} {path}" or not left[0]:
            return None
        left[0] -= 1
        return reply

    hawkbit.fault = fault


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_a_closing_report_that_the_server_cannot_take_leaves_later(
    fleet: FleetBoard, hawkbit: FakeHawkbit, status: int
) -> None:
    hawkbit.assign(CONTROLLER, module(NEW))
    fleet.run()
    fleet.board.live()
    failing(hawkbit, (status, {}, b""), 1, "feedback")
    first = fleet.run()
    assert said(hawkbit) == [] or first is None  # with 429 what does not close is left out
    fleet.run()
    assert said(hawkbit) == ["success"]


@pytest.mark.verifies("S23")
@pytest.mark.parametrize("status", [408, 429, 503])
def test_the_end_of_an_order_to_download_only_leaves_later_when_the_server_cannot_take_it(
    fleet: FleetBoard, hawkbit: FakeHawkbit, status: int
) -> None:
    action = hawkbit.assign(CONTROLLER, module(NEW), kind="downloadonly")
    failing(hawkbit, (status, {}, b""), 5, "feedback")
    for _ in range(8):
        fleet.run()
    assert [word for word, *_ in action.entries if word == "downloaded"] == ["downloaded"]
    assert action.status == "finished"


def test_an_action_with_a_thousand_entries_is_closed_all_the_same(fleet: FleetBoard, hawkbit: FakeHawkbit) -> None:
    action = hawkbit.assign(CONTROLLER, module(NEW))
    action.entries += [("proceeding", "none", [], None)] * 1000
    assert fleet.live() is None
    assert action.status == "finished"


def test_an_action_that_is_gone_is_reported_no_more(fleet: FleetBoard, hawkbit: FakeHawkbit) -> None:
    action = hawkbit.assign(CONTROLLER, module(NEW))
    fleet.run()
    action.status = "canceled"  # by force, without the device
    assert fleet.live() is None
    before = len(hawkbit.log)
    assert fleet.run() is None
    assert [method for method, _, _ in hawkbit.log[before:]] == ["GET"]


@pytest.mark.verifies("REQ-FLT-03")
def test_what_the_server_asks_to_wait_is_kept_by_every_run(fleet: FleetBoard, hawkbit: FakeHawkbit) -> None:
    failing(hawkbit, (429, {"Retry-After": "3600"}, b""), 1, "GET")
    error = fleet.run()
    assert isinstance(error, TransportError)
    assert error.code == "transport.busy"
    asked = len(hawkbit.log)
    assert fleet.run(later=3000) is None
    assert len(hawkbit.log) == asked
    assert fleet.run(later=3000) is None
    assert len(hawkbit.log) > asked


@pytest.mark.verifies("REQ-FLT-03")
@pytest.mark.parametrize(("asked", "kept"), [("7200", 7200), ("99999999", 86_400)])
def test_a_wait_that_comes_with_a_good_answer_is_kept_whole_and_no_longer_than_a_day(
    fleet: FleetBoard, hawkbit: FakeHawkbit, asked: str, kept: int
) -> None:
    failing(hawkbit, (200, {"Retry-After": asked}, b""), 1, "PUT")
    assert fleet.run() is None
    before = len(hawkbit.log)
    assert fleet.run(later=kept - 10) is None
    assert len(hawkbit.log) == before
    assert fleet.run(later=20) is None
    assert len(hawkbit.log) > before


@pytest.mark.verifies("REQ-FLT-03")
def test_pauses_grow_only_while_the_server_does_nothing_that_it_is_asked(
    fleet: FleetBoard, hawkbit: FakeHawkbit
) -> None:
    hawkbit.assign(CONTROLLER, module(NEW))
    for _ in range(6):  # a bad network: the poll gets through, and what comes after it does not
        failing(hawkbit, (503, {}, b""), 1, "deploymentBase")
        assert fleet.run(later=400) is not None
    hawkbit.fault = lambda _method, _path: (503, {}, b"")
    for later in (400, 700, 1300):
        asked = len(hawkbit.log)
        assert fleet.run(later=later / 4) is None
        assert len(hawkbit.log) == asked
        assert fleet.run(later=later * 3 / 4) is not None
    assert fleet.state.failures == 4


def test_no_poll_comes_before_the_server_wishes(fleet: FleetBoard, hawkbit: FakeHawkbit) -> None:
    hawkbit.sleep = "01:00:00"
    fleet.run()
    polls = hawkbit.targets[CONTROLLER].polls
    fleet.run(later=1800)
    assert hawkbit.targets[CONTROLLER].polls == polls
    fleet.run(later=1800)
    assert hawkbit.targets[CONTROLLER].polls == polls + 1


@pytest.mark.verifies("REQ-FLT-03")
def test_a_commit_is_reported_though_no_poll_is_due(fleet: FleetBoard, hawkbit: FakeHawkbit) -> None:
    hawkbit.sleep = "23:00:00"
    hawkbit.assign(CONTROLLER, module(NEW))
    fleet.run()
    fleet.board.live()
    assert fleet.run(later=60) is None
    assert said(hawkbit) == ["success"]


def test_a_server_that_was_restored_hears_the_end_again(fleet: FleetBoard, hawkbit: FakeHawkbit) -> None:
    action = hawkbit.assign(CONTROLLER, module(NEW))
    fleet.live()
    action.status, action.entries = "running", []
    assert fleet.run() is None
    assert said(hawkbit) == ["success"]
    assert not fleet.board.wants_reboot


def test_an_id_that_a_restored_server_gives_again_is_another_order(fleet: FleetBoard, hawkbit: FakeHawkbit) -> None:
    hawkbit.assign(CONTROLLER, module(SICK))
    fleet.live()
    hawkbit.actions = []
    hawkbit.assign(CONTROLLER, module(NEW))
    assert fleet.live() is None
    assert fleet.board.system() is NEW
    assert said(hawkbit) == ["success"]


@pytest.mark.verifies("S23")
def test_a_record_that_was_begun_anew_costs_no_report(fleet: FleetBoard, hawkbit: FakeHawkbit) -> None:
    for _ in range(3):
        fleet.board.engine().boot()
    hawkbit.assign(CONTROLLER, module(SICK))
    fleet.live()
    state = (fleet.board.data / "fleet/state.json").read_bytes()
    fleet.board.lose_data()
    (fleet.board.data / "fleet").mkdir()
    (fleet.board.data / "fleet/state.json").write_bytes(state)
    fleet.board.live()
    hawkbit.assign(CONTROLLER, module(NEW))
    assert fleet.live() is None
    assert said(hawkbit, 2) == ["success"]
    assert "refused" not in events(fleet)


# Bad input


def link(name: str, href: str) -> Callable[[str, Any], Any]:
    def shown(what: str, answer: Any) -> Any:
        return answer | {"_links": {name: {"href": href}}} if what == "" else answer

    return shown


ELSEWHERE = {
    "another host": "http://other.test/DEFAULT/controller/v1/pump-1/deploymentBase/1",
    "another port": "http://hawkbit.test:81/DEFAULT/controller/v1/pump-1/deploymentBase/1",
    "another scheme": "https://hawkbit.test/DEFAULT/controller/v1/pump-1/deploymentBase/1",
    "a file": "file:///etc/shadow",
    "the metadata of a cloud": "http://169.254.169.254/latest/meta-data/",
    "another controller": "http://hawkbit.test/DEFAULT/controller/v1/pump-10/deploymentBase/1",
    "another tenant": "http://hawkbit.test/OTHER/controller/v1/pump-1/deploymentBase/1",
    "up and away": "http://hawkbit.test/DEFAULT/controller/v1/pump-1/../pump-2/deploymentBase/1",
    "up and away, escaped": "http://hawkbit.test/DEFAULT/controller/v1/pump-1/%2e%2e/pump-2/deploymentBase/1",
    "a password": "http://a:b@hawkbit.test/DEFAULT/controller/v1/pump-1/deploymentBase/1",
    "nothing": "",
}


@pytest.mark.verifies("REQ-FLT-01")
@pytest.mark.parametrize("href", ELSEWHERE.values(), ids=ELSEWHERE.keys())
@pytest.mark.parametrize("name", ["deploymentBase", "cancelAction", "confirmationBase", "configData"])
def test_a_link_that_leads_elsewhere_is_refused_and_the_next_poll_works(
    fleet: FleetBoard, hawkbit: FakeHawkbit, name: str, href: str
) -> None:
    hawkbit.assign(CONTROLLER, module(NEW))
    hawkbit.shown = link(name, href)
    error = fleet.run()
    assert isinstance(error, TransportError)
    assert error.code == "transport.ddi-link"
    assert fleet.service().status()["state"] == "idle"
    hawkbit.shown = lambda _what, answer: answer
    assert fleet.live() is None
    assert fleet.board.system() is NEW


@pytest.mark.parametrize("href", [None, *ELSEWHERE.values()], ids=["the server's own", *ELSEWHERE.keys()])
def test_what_the_server_believes_to_be_installed_is_neither_asked_for_nor_followed(
    fleet: FleetBoard, hawkbit: FakeHawkbit, href: str | None
) -> None:
    hawkbit.assign(CONTROLLER, module(NEW))
    fleet.live()
    assert "installedBase" in json.loads(hawkbit.answer("GET", *asked_by(hawkbit), b"")[2])["_links"]
    hawkbit.shown = hawkbit.shown if href is None else link("installedBase", href)
    hawkbit.assign(CONTROLLER, module(SICK))
    del hawkbit.log[:]
    assert fleet.live() is None
    assert hawkbit.log
    assert not [path for _, path, _ in hawkbit.log if "installedBase" in path]
    assert hawkbit.targets[CONTROLLER].attributes["twinslot.release"] == "2.0"


def asked_by(hawkbit: FakeHawkbit) -> tuple[str, dict[str, str]]:
    """Path and headers of a poll."""
    token = hawkbit.targets[CONTROLLER].token
    return f"/{hawkbit.tenant}/controller/v1/{CONTROLLER}", {"authorization": f"TargetToken {token}"}


@pytest.mark.verifies("REQ-FLT-01", "S19")
@pytest.mark.parametrize("href", [ELSEWHERE[each] for each in ("another host", "a file", "the metadata of a cloud")])
def test_an_image_elsewhere_is_no_image_of_this_order(fleet: FleetBoard, hawkbit: FakeHawkbit, href: str) -> None:
    def shown(what: str, answer: Any) -> Any:
        if what == "deploymentBase":
            answer["deployment"]["chunks"][0]["artifacts"][0]["_links"] = {"download": {"href": href}}
        return answer

    hawkbit.assign(CONTROLLER, module(NEW))
    hawkbit.shown = shown
    assert fleet.live() is None
    assert hawkbit.action(1).status == "error"
    assert fleet.board.system() is not NEW
    (row,) = [each for each in fleet.service().log(0, "", 1000)["rows"] if each["event"] == "refused"]
    assert row["fields"]["code"] == "refused.order"
    assert row["fields"]["origin"]["kind"] == "server"


ANSWERS: dict[str, bytes] = {
    "no JSON": b"<html>",
    "nothing": b"",
    "a list": b"[]",
    "nested a hundred thousand deep": b"[" * 100_000,
    "nested objects": b'{"_links":' * 50_000,
    "links that are none": b'{"_links": 7}',
    "a link without an address": b'{"_links": {"deploymentBase": {}}}',
    "an address that is none": b'{"_links": {"deploymentBase": {"href": 7}}}',
    "too long": b'{"x": "' + b"y" * (1 << 20) + b'"}',
    "not UTF-8": b'{"x": "\xff"}',
}


@pytest.mark.verifies("REQ-FLT-02")
@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
@pytest.mark.parametrize("where", [f"/v1/{CONTROLLER}", "deploymentBase"])
def test_an_answer_that_cannot_be_used_changes_nothing(
    fleet: FleetBoard, hawkbit: FakeHawkbit, where: str, answer: bytes
) -> None:
    hawkbit.assign(CONTROLLER, module(NEW))
    hawkbit.fault = _only(where, answer)
    error = fleet.run()
    assert isinstance(error, TransportError)
    assert error.code in ("transport.ddi", "transport.ddi-link")
    assert fleet.service().status()["state"] == "idle"
    hawkbit.fault = lambda _method, _path: None
    assert fleet.live() is None
    assert fleet.board.system() is NEW


def _only(where: str, answer: bytes) -> Callable[[str, str], Reply | None]:
    def fault(method: str, path: str) -> Reply | None:
        meant = path.endswith(where) if where.startswith("/v1") else where in path and "feedback" not in path
        return (200, {}, answer) if method == "GET" and meant else None

    return fault


def test_ten_thousand_links_are_as_good_as_none(fleet: FleetBoard, hawkbit: FakeHawkbit) -> None:
    links = {f"link{number}": {"href": "http://other.test/"} for number in range(10_000)}
    hawkbit.fault = _only(f"/v1/{CONTROLLER}", json.dumps({"_links": links}).encode())
    assert fleet.run() is None
