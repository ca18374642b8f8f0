"""What a device does with an update server's orders: the same list of situations on servers of every kind.

The device is the simulated board: real engine, record and audit, real fleet process and relay; its restarts take no
time.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fleet_sites import Site, fake_site, relayed
from goosebit_server import GoosebitError
from goosebit_server import started as goosebit_started
from goosebit_site import GoosebitOperator, GoosebitSite, goosebit_site
from hawkbit_server import HawkbitError, started
from hawkbit_site import Management, hawkbit_site

import waits
from simulation.fleet import CONTROLLER, FleetBoard, fleet_board
from simulation.image import SmallImage
from twinslot.core.backoff import Moment
from twinslot.fleet.reports import Closing
from twinslot.system.cancellation import Cancellation

NEW = SmallImage("2.0", 20)
NEWER = SmallImage("2.1", 21)
SICK = SmallImage("3.0", 30, well=False)


GIVEN = os.environ.get("HAWKBIT", "")  # address of a hawkBit that somebody started; `start`: one of our own
GOOSEBIT = os.environ.get("GOOSEBIT", "")  # `start`: beside them another server, of our own
# A server that was told to give several orders at once can never be told otherwise: only one that nobody needs is.
DISPOSABLE = GIVEN == "start" or bool(os.environ.get("HAWKBIT_DISPOSABLE"))
REAL = [*(["hawkbit"] if GIVEN else []), *(["goosebit"] if GOOSEBIT else [])]
NUMBERS = itertools.count(int.from_bytes(os.urandom(4), "big"))


@pytest.fixture(scope="module")
def management(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Management]:
    """A real hawkBit, once for all tests."""
    if GIVEN == "start" and "PYTEST_XDIST_WORKER" in os.environ:
        pytest.fail("each worker of xdist would start a hawkBit of its own: run this file without -n")
    try:
        with contextlib.ExitStack() as stack:
            start = stack.enter_context
            url = start(started(tmp_path_factory.mktemp("hawkbit"))) if GIVEN == "start" else GIVEN
            found = Management(url)
            found.call("GET", "targets?limit=1")
            yield found
    except (HawkbitError, OSError) as e:
        pytest.fail(f"no hawkBit at HAWKBIT={GIVEN}: {e}", pytrace=False)


@pytest.fixture(scope="module")
def goosebit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoosebitOperator]:
    """A real gooseBit, once for all tests."""
    try:
        with goosebit_started(tmp_path_factory.mktemp("goosebit")) as url:
            yield GoosebitOperator(url)
    except (GoosebitError, OSError) as e:
        pytest.fail(f"no gooseBit: {e}", pytrace=False)


@pytest.fixture(params=["fake", *REAL])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    if request.param == "fake":
        with fake_site(CONTROLLER) as found:
            yield found
        return
    if request.param == "goosebit":
        with goosebit_site(request.getfixturevalue("goosebit"), f"pump-{next(NUMBERS)}") as other:
            yield other
        return
    with hawkbit_site(request.getfixturevalue("management"), f"pump-{next(NUMBERS)}", disposable=DISPOSABLE) as real:
        yield real


@pytest.fixture
def fleet(site: Site, tmp_path: Path) -> Iterator[FleetBoard]:
    with relayed(site, tmp_path) as server:
        found = fleet_board(tmp_path, server, site.url, NEW, NEWER, SICK)
        found.tenant, found.controller = site.tenant, site.controller
        if isinstance(site, GoosebitSite):
            found.named = site.named
            assert found.run() is None  # it gives no order to a device that it has not seen
        yield found


def needs(site: Site, *words: str) -> None:
    """Skip what this kind of server does not have."""
    if missing := set(words) - site.can:
        pytest.skip(f"{site.name} has no {', '.join(sorted(missing))}")


def closings(site: Site, action: str) -> list[str]:
    return [word for word in site.said(action) if word.startswith("closed")]


# An order is carried out


@pytest.mark.verifies("S10", "S23")
def test_success_is_told_after_the_commit_and_once(site: Site, fleet: FleetBoard) -> None:
    action = site.order(NEW)
    assert fleet.run() is None
    assert fleet.board.wants_reboot
    assert list(dict.fromkeys(site.said(action))) == ["download", "downloaded", "proceeding"]
    fleet.board.start()  # on trial, and nobody has judged it yet
    fleet.board.verb("boot", undecided=True)
    assert fleet.run() is None
    assert closings(site, action) == []
    fleet.board.run_units()
    for _ in range(3):
        assert fleet.run() is None
    assert site.status(action) == "finished"
    # gooseBit forgets what it was told of the version when it gets attributes, and asks again, once
    assert closings(site, action) == ["closed success"] * (2 if site.name == "goosebit" else 1)


@pytest.mark.verifies("S23")
def test_failure_is_told_from_the_old_slot_with_the_checks(site: Site, fleet: FleetBoard) -> None:
    action = site.order(SICK)
    assert fleet.live() is None
    assert fleet.board.system() is not SICK
    assert site.status(action) == "error"
    assert closings(site, action) == ["closed failure"]


@pytest.mark.verifies("S21")
def test_a_forced_order_retries_no_release_that_failed_here(site: Site, fleet: FleetBoard) -> None:
    site.order(SICK)
    fleet.live()
    again = site.order(SICK, kind="forced")
    assert fleet.live() is None
    assert site.status(again) == "error"
    assert closings(site, again) == ["closed failure"]
    events = [row["event"] for row in fleet.service().log(0, "", 200)["rows"]]
    assert events.count("accepted") == 1


def test_an_order_for_what_runs_already_is_a_success(site: Site, fleet: FleetBoard) -> None:
    site.order(NEW)
    fleet.live()
    again = site.order(NEW)
    assert fleet.run() is None
    assert not fleet.board.wants_reboot
    assert site.status(again) == "finished"


def test_an_order_without_an_image_fails_and_leaves_a_row(site: Site, fleet: FleetBoard) -> None:
    action = site.order()
    assert fleet.run() is None
    assert site.status(action) == "error"
    (row,) = [row for row in fleet.service().log(0, "", 100)["rows"] if row["event"] == "refused"]
    assert row["fields"]["code"] == "refused.order"
    assert row["fields"]["origin"]["kind"] == "server"


def test_an_order_with_two_images_fails(site: Site, fleet: FleetBoard) -> None:
    needs(site, "several files")
    action = site.order(NEW, NEWER)
    assert fleet.run() is None
    assert site.status(action) == "error"
    assert not fleet.board.wants_reboot


def test_a_network_that_stays_away_ends_the_action_after_the_last_try(site: Site, fleet: FleetBoard) -> None:
    action = site.order(NEW)
    fleet.releases = {}
    assert fleet.run() is None
    assert fleet.run() is None
    assert site.status(action) == "running"
    assert fleet.run() is None
    assert site.status(action) == "error"
    assert closings(site, action) == ["closed failure"]


# Download, windows, wishes


def test_an_order_to_download_only_is_over_when_it_is_written(site: Site, fleet: FleetBoard) -> None:
    needs(site, "download-only")
    action = site.order(NEW, kind="downloadonly")
    assert fleet.run() is None
    assert fleet.run() is None
    assert not fleet.board.wants_reboot
    assert fleet.service().status()["state"] == "written"
    assert site.status(action) == "finished"


def test_what_was_downloaded_before_is_installed_by_a_later_order(site: Site, fleet: FleetBoard) -> None:
    needs(site, "download-only")
    site.order(NEW, kind="downloadonly")
    fleet.run()
    action = site.order(NEW)
    assert fleet.live() is None
    assert fleet.board.system() is NEW
    assert site.status(action) == "finished"


def test_outside_of_the_maintenance_window_it_is_written_and_waits(site: Site, fleet: FleetBoard) -> None:
    needs(site, "windows")
    action = site.order(NEW, window=False)
    assert fleet.run() is None
    assert fleet.run() is None
    assert not fleet.board.wants_reboot
    assert fleet.service().status()["state"] == "written"
    assert site.status(action) == "running"
    assert "downloaded" in site.said(action)
    assert closings(site, action) == []


def test_in_the_maintenance_window_it_is_installed(site: Site, fleet: FleetBoard) -> None:
    needs(site, "windows")
    action = site.order(NEW, window=True)
    assert fleet.live() is None
    assert fleet.board.system() is NEW
    assert site.status(action) == "finished"


def test_a_soft_order_is_taken_as_the_configuration_says(site: Site, fleet: FleetBoard) -> None:
    needs(site, "soft")
    action = site.order(NEW, kind="soft")
    fleet.soft = "write"
    assert fleet.run() is None
    assert fleet.run() is None
    assert not fleet.board.wants_reboot
    assert site.status(action) == "running"
    fleet.soft = "install"
    assert fleet.live() is None
    assert fleet.board.system() is NEW
    assert site.status(action) == "finished"


# Stopping


def test_an_order_is_stopped_before_the_device_has_seen_it(site: Site, fleet: FleetBoard) -> None:
    needs(site, "cancel")
    action = site.order(NEW)
    site.cancel(action)
    assert fleet.run() is None
    assert site.status(action) == "canceled"
    assert fleet.run() is None
    assert not fleet.board.wants_reboot
    assert fleet.service().status()["state"] == "idle"


def test_an_order_is_stopped_while_it_is_fetched(site: Site, fleet: FleetBoard) -> None:
    needs(site, "cancel")
    action = site.order(NEW)
    fleet.during = cancelling(site, action)
    fleet.changes = {"clock": itertools.count(0.0, 1000.0).__next__}
    assert fleet.run() is None
    assert fleet.run() is None
    assert site.status(action) == "canceled"
    assert not fleet.board.wants_reboot
    assert fleet.service().status()["state"] == "idle"


def cancelling(site: Site, action: str) -> Callable[[Cancellation], None]:
    """The server thinks better of it when the install has begun; it goes on when it is to stop."""

    def during(cancelled: Cancellation) -> None:
        site.cancel(action)
        assert cancelled.wait(waits.HANG)

    return during


@pytest.mark.verifies("REQ-FLT-04")
def test_an_order_is_stopped_when_it_is_written_and_waits(site: Site, fleet: FleetBoard) -> None:
    needs(site, "cancel", "windows")
    action = site.order(NEW, window=False)
    fleet.run()
    site.cancel(action)
    assert fleet.run() is None
    assert site.status(action) == "canceled"
    assert fleet.service().status()["state"] == "idle"


@pytest.mark.verifies("REQ-FLT-04")
def test_an_armed_order_is_stopped_as_long_as_it_was_not_started(site: Site, fleet: FleetBoard) -> None:
    needs(site, "cancel")
    fleet.board.restarts = False
    action = site.order(NEW)
    fleet.run()
    assert fleet.service().status()["state"] == "armed"
    site.cancel(action)
    assert fleet.run() is None
    assert site.status(action) == "canceled"
    fleet.board.live()
    assert fleet.board.system() is not NEW


@pytest.mark.verifies("S21", "S23", "REQ-FLT-04")
def test_a_wish_to_stop_comes_too_late_for_a_trial(site: Site, fleet: FleetBoard) -> None:
    needs(site, "cancel")
    action = site.order(NEW)
    fleet.run()
    fleet.board.start()
    fleet.board.verb("boot", undecided=True)
    site.cancel(action)
    assert fleet.run() is None
    assert site.status(action) == "running"
    fleet.board.run_units()
    assert fleet.run() is None
    assert site.status(action) == "finished"


def test_a_second_order_takes_the_place_of_the_first(site: Site, fleet: FleetBoard) -> None:
    needs(site, "supersede")
    first = site.order(NEW)
    second = site.order(NEWER)
    assert fleet.live() is None
    assert fleet.board.system() is NEWER
    assert site.status(first) == "canceled"
    assert site.status(second) == "finished"


def test_a_second_order_while_the_first_waits_for_its_restart(site: Site, fleet: FleetBoard) -> None:
    needs(site, "supersede")
    fleet.board.restarts = False
    first = site.order(NEW)
    fleet.run()
    second = site.order(NEWER)
    assert fleet.run() is None
    fleet.board.live()
    assert fleet.run() is None
    assert fleet.board.system() is NEWER
    assert (site.status(first), site.status(second)) == ("canceled", "finished")


def test_orders_that_the_device_never_saw_are_confirmed_one_after_the_other(site: Site, fleet: FleetBoard) -> None:
    needs(site, "supersede")
    unseen = [site.order(image) for image in (NEW, NEWER, NEW)]
    last = site.order(NEWER)
    assert fleet.live() is None
    assert fleet.board.system() is NEWER
    assert [site.status(action) for action in unseen] == ["canceled"] * 3
    assert site.status(last) == "finished"


# Consent, attributes, who is who


@pytest.mark.parametrize("word", ["confirm", "deny", "wait"])
def test_an_order_that_waits_for_consent_is_answered_as_configured(site: Site, fleet: FleetBoard, word: str) -> None:
    needs(site, "confirmation")
    site.confirming()
    action = site.order(NEW)
    fleet.changes = {"confirmation": word}
    assert fleet.run() is None
    assert fleet.live() is None
    assert (fleet.board.system() is NEW) == (word == "confirm")
    assert site.status(action) == ("finished" if word == "confirm" else "wait_for_confirmation")
    assert site.said(action).count("denied") == (word == "deny")


def test_the_server_learns_what_runs_before_and_after(site: Site, fleet: FleetBoard) -> None:
    needs(site, "attributes")
    fleet.run()
    assert site.attributes()["twinslot.release"] == "1.0"
    site.order(NEW)
    fleet.live()
    told = site.attributes()
    assert (told["twinslot.release"], told["twinslot.sequence"], told["twinslot.running"]) == ("2.0", "20", "b")


def test_a_target_that_was_deleted_is_an_error_and_the_device_stays_as_it_is(site: Site, fleet: FleetBoard) -> None:
    site.order(NEW)
    fleet.run()
    site.delete()
    fleet.board.live()
    error = fleet.run()
    assert error is None or error.code in ("transport.ddi-denied", "transport.ddi-target")
    assert fleet.board.system() is NEW


def test_a_server_that_forgot_the_device_gives_orders_as_before(site: Site, fleet: FleetBoard) -> None:
    site.order(NEW)
    fleet.live()
    site.restore()
    assert fleet.run() is None
    assert fleet.board.system() is NEW
    assert "attributes" not in site.can or site.attributes()["twinslot.release"] == "2.0"
    action = site.order(NEWER)
    assert fleet.live() is None
    assert fleet.board.system() is NEWER
    assert closings(site, action) == ["closed success"]


@pytest.mark.parametrize("clock", [0.0, 1e6, 4e9], ids=["of 1970", "behind", "of the year 2096"])
def test_a_clock_that_is_wrong_after_a_restart_delays_no_order(site: Site, fleet: FleetBoard, clock: float) -> None:
    now = 1.8e9  # seconds since 1970
    fleet.changes = {"moment": Moment(now, "a" * 32, 100.0)}
    assert fleet.run() is None
    action = site.order(NEW)
    fleet.changes = {"moment": Moment(clock, "b" * 32, 100.0)}
    assert fleet.run() is None
    fleet.board.live()
    fleet.changes = {"moment": Moment(clock, "c" * 32, 100.0)}
    assert fleet.run() is None
    assert closings(site, action) == ["closed success"]


def test_a_state_that_was_lost_costs_no_report(site: Site, fleet: FleetBoard) -> None:
    action = site.order(NEW)
    fleet.run()
    fleet.board.live()
    fleet.lose_state()
    assert fleet.run() is None
    assert site.status(action) == "finished"
    assert closings(site, action) == ["closed success"]


# The guide


@pytest.mark.parametrize("way", ["assign", "rollout"])
def test_the_commands_of_the_guide_bring_a_release_to_the_device(
    site: Site, fleet: FleetBoard, tmp_path: Path, way: str
) -> None:
    needs(site, "management")
    page = (Path(__file__).parents[2] / "docs/guide-fleet.md").read_text()
    steps = [
        re.search(rf"^```sh {name}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL) for name in ("target", "release", way)
    ]
    script = "set -eu\n" + "".join(step[1] for step in steps if step) + 'printf "%s" "$TOKEN" > secret\n'
    here = {
        "https://hawkbit.example.com": site.url,
        "pump-17": f"{site.controller}-guide",
        "pump-*": f"{site.controller}-guide",
        '"pump"': f'"{site.controller}-{way}"',
        '\\"pump\\"': f'\\"{site.controller}-{way}\\"',
        '"pump-2026.11"': f'"{site.controller}"',
        "pump-2026.11.twin": "2.0.twin",
        '"amountGroups": 10': '"amountGroups": 1',
    }
    for theirs, ours in here.items():
        script = script.replace(theirs, ours)
    place = tmp_path / "guide"
    place.mkdir()
    (place / "2.0.twin").write_bytes(b"image")
    subprocess.run(["bash", "-c", script], cwd=place, env=os.environ | {"OPERATOR": "admin:admin"}, check=True)
    site.controller = fleet.controller = f"{site.controller}-guide"
    site.authorization = ("TargetToken", (place / "secret").read_text())
    with relayed(site, place) as fleet.server:  # a rollout begins when the server's scheduler looks
        waits.until(lambda: fleet.live() is None and fleet.board.system() is NEW)
    assert fleet.state.actions[-1].closed is Closing.SUCCESS


# Several orders at once; last, since a real server cannot be told otherwise any more, and then wants weights


def test_several_orders_are_carried_out_one_after_the_other(site: Site, fleet: FleetBoard) -> None:
    needs(site, "several orders")
    site.several()
    first, second = site.order(NEW), site.order(NEWER)
    assert fleet.live() is None
    assert (fleet.board.system(), site.status(first), site.status(second)) == (NEW, "finished", "running")
    assert fleet.live() is None
    assert fleet.board.system() is NEWER
    assert (site.status(first), site.status(second)) == ("finished", "finished")
    assert closings(site, first) == closings(site, second) == ["closed success"]


def test_one_of_several_orders_that_fails_does_not_hold_up_the_next(site: Site, fleet: FleetBoard) -> None:
    needs(site, "several orders")
    site.several()
    first, second = site.order(SICK), site.order(NEW)
    assert fleet.live() is None
    assert fleet.live() is None
    assert fleet.board.system() is NEW
    assert (site.status(first), site.status(second)) == ("error", "finished")


def test_an_older_release_behind_a_newer_one_fails_and_the_newer_one_stays(site: Site, fleet: FleetBoard) -> None:
    needs(site, "several orders")
    site.several()
    first, second = site.order(NEWER), site.order(NEW)
    assert fleet.live() is None
    assert fleet.live() is None
    assert fleet.board.system() is NEWER
    assert (site.status(first), site.status(second)) == ("finished", "error")


@pytest.mark.verifies("S23")
def test_an_order_that_a_weightier_one_displaces_is_no_failure_and_comes_behind_it(
    site: Site, fleet: FleetBoard
) -> None:
    needs(site, "several orders")
    site.several()
    fleet.board.restarts = False
    first = site.order(NEWER, weight=100)
    assert fleet.run() is None
    second = site.order(NEW, weight=900)
    assert fleet.run() is None
    fleet.board.live()
    assert fleet.board.system() is NEW
    assert closings(site, first) == []
    fleet.board.restarts = True
    assert fleet.live() is None
    assert fleet.board.system() is NEWER
    assert closings(site, first) == closings(site, second) == ["closed success"]
    assert (site.status(first), site.status(second)) == ("finished", "finished")


def test_one_of_several_orders_is_stopped_and_the_other_goes_on(site: Site, fleet: FleetBoard) -> None:
    needs(site, "several orders", "cancel")
    site.several()
    fleet.board.restarts = False
    first, second = site.order(NEW), site.order(NEWER)
    assert fleet.run() is None
    site.cancel(second)
    assert fleet.run() is None
    fleet.board.live()
    assert fleet.run() is None
    assert fleet.run() is None
    assert fleet.board.system() is NEW
    assert (site.status(first), site.status(second)) == ("finished", "canceled")
