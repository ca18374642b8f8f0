"""What an update server may say that it should not, over HTTP and a relay, as on a device.

A sentence with a code comes of it, the device stays as it is, and the next poll works.
"""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fleet_sites import FakeSite, fake_site, relayed

from fakes.hawkbit import Reply
from simulation.fleet import CONTROLLER, FleetBoard, fleet_board
from simulation.image import SmallImage
from twinslot.core.errors import TwinslotError

NEW = SmallImage("2.0", 20)
DEEP = 100_000
HOSTS = {
    "another host": "http://other.test/DEFAULT/controller/v1/pump-1/deploymentBase/1",
    "a file": "file:///etc/shadow",
    "the metadata of a cloud": "http://169.254.169.254/latest/meta-data/iam/security-credentials/",
    "the device itself": "http://127.0.0.1:22/DEFAULT/controller/v1/pump-1/deploymentBase/1",
    "another controller": "{url}/DEFAULT/controller/v1/pump-2/deploymentBase/1",
}


@pytest.fixture
def site() -> Iterator[FakeSite]:
    with fake_site(CONTROLLER) as found:
        yield found


@pytest.fixture
def fleet(site: FakeSite, tmp_path: Path) -> Iterator[FleetBoard]:
    with relayed(site, tmp_path) as server:
        yield fleet_board(tmp_path, server, site.url, NEW)


def polled(**links: Any) -> Callable[[str], bytes]:
    """An answer to a poll with these links."""
    named = {name: {"href": href} if isinstance(href, str) else href for name, href in links.items()}
    return lambda url: json.dumps({"_links": named}).replace("{url}", url).encode()


def ordered(number: object = "1", **changes: Any) -> Callable[[str], bytes]:
    """An order that is none."""
    order = {"download": "forced", "update": "forced", "chunks": []} | changes
    return lambda _: json.dumps({"id": number, "deployment": order}).encode()


def plain(data: bytes) -> Callable[[str], bytes]:
    return lambda _: data


def files(count: int) -> list[dict[str, Any]]:
    link = {"download": {"href": "http://169.254.169.254/2.0.twin"}}
    return [{"filename": f"{number}.twin", "hashes": {}, "_links": link} for number in range(count)]


# What is asked; what is answered; the error's code, empty where it is an answer like any other
POLL, ORDER = "poll", "order"
TABLE: dict[str, tuple[str, Callable[[str], bytes], str]] = {
    "100 MB": (POLL, plain(b'{"x": "' + b"y" * 100_000_000 + b'"}'), "transport.ddi"),
    "100 MB for an order": (ORDER, plain(b"[" + b"7," * 50_000_000 + b"7]"), "transport.ddi"),
    "10,000 links": (POLL, polled(**{f"link{each}": "http://other.test/" for each in range(10_000)}), ""),
    "10,000 links below one name": (POLL, polled(deploymentBase=[{"href": "x"}] * 10_000), "transport.ddi"),
    "10,000 software modules": (ORDER, ordered(chunks=[{"artifacts": []}] * 10_000), "transport.ddi"),
    "10,000 files": (ORDER, ordered(chunks=[{"artifacts": files(5_000)}] * 2), "transport.ddi"),
    "JSON nested 100,000 deep": (POLL, plain(b"[" * DEEP + b"]" * DEEP), "transport.ddi"),
    "objects nested 100,000 deep": (ORDER, plain(b'{"deployment":' * DEEP + b"1" + b"}" * DEEP), "transport.ddi"),
    "a number of 100,000 digits": (ORDER, plain(b'{"deployment": {}, "id": ' + b"7" * 100_000 + b"}"), "transport.ddi"),
    "an id that is a path": (ORDER, ordered("../../pump-2/deploymentBase/1"), "transport.ddi"),
    "an id of a thousand letters": (ORDER, ordered("x" * 1000), "transport.ddi"),
    "an order of which nothing is known": (ORDER, ordered(download="perhaps"), "transport.ddi"),
    "compressed, and never asked for": (POLL, plain(gzip.compress(b'{"x": 1}')), "transport.ddi"),
    "numbers that JSON has not": (
        ORDER,
        plain(b'{"id": NaN, "deployment": {"chunks": [], "download": Infinity}}'),
        "transport.ddi",
    ),
    "the same name twice": (POLL, plain(b'{"_links": {}, "_links": 7}'), "transport.ddi"),
    **{f"a link to {name}": (POLL, polled(deploymentBase=href), "transport.ddi-link") for name, href in HOSTS.items()},
    **{
        f"a wish to stop at {name}": (POLL, polled(cancelAction=href), "transport.ddi-link")
        for name, href in HOSTS.items()
    },
    **{f"attributes to {name}": (POLL, polled(configData=href), "transport.ddi-link") for name, href in HOSTS.items()},
}


def answering(
    asked: str, content: bytes, head: dict[str, str] | None = None, status: int = 200
) -> Callable[[str, str], Reply | None]:
    """What the server says instead to one kind of request."""

    def fault(method: str, path: str) -> Reply | None:
        kind = POLL if path.endswith(f"/v1/{CONTROLLER}") else ORDER if "deploymentBase" in path else ""
        return (status, head or {}, content) if (method, kind) == ("GET", asked) else None

    return fault


def code_of(error: TwinslotError | None) -> str:
    return "" if error is None else error.code


@pytest.mark.verifies("REQ-FLT-01", "REQ-FLT-02")
@pytest.mark.parametrize(("asked", "answer", "code"), TABLE.values(), ids=TABLE.keys())
def test_what_no_server_should_say_changes_nothing_and_the_next_poll_works(
    site: FakeSite, fleet: FleetBoard, asked: str, answer: Callable[[str], bytes], code: str
) -> None:
    action = site.order(NEW)
    site.hawkbit.fault = answering(asked, answer(site.url))
    error = fleet.run()
    assert code_of(error) == code
    assert error is None or len(str(error)) < 1000, "what a server says comes into a journal only in part"
    assert fleet.service().status()["state"] == "idle"
    assert site.said(action) == []
    site.hawkbit.fault = lambda _method, _path: None
    assert fleet.live() is None
    assert fleet.board.system() is NEW
    assert site.status(action) == "finished"


@pytest.mark.parametrize("where", HOSTS.values(), ids=HOSTS.keys())
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(site: FakeSite, fleet: FleetBoard, where: str, status: int) -> None:
    site.order(NEW)
    there = where.replace("{url}", site.url)
    site.hawkbit.fault = answering(POLL, b"", {"Location": there}, status)
    assert code_of(fleet.run()) == "transport.ddi-status"
    assert [path for _, path, _ in site.hawkbit.log] == [f"/DEFAULT/controller/v1/{CONTROLLER}"]


def test_a_wish_to_stop_an_action_of_another_controller_stops_nothing_of_ours(
    site: FakeSite, fleet: FleetBoard
) -> None:
    fleet.board.restarts = False
    first = site.order(NEW)
    assert fleet.run() is None
    armed = fleet.service().status()["transaction"]["id"]
    site.hawkbit.device("pump-2")
    other = site.hawkbit.assign("pump-2", site.hawkbit.action(1).modules[0]).number
    site.cancel(first)
    site.hawkbit.shown = lambda what, answer: (
        answer | {"cancelAction": {"stopId": str(other)}} if what == "cancelAction" else answer
    )
    fleet.run()
    status = fleet.service().status()
    assert (status["state"], status["transaction"]["id"]) == ("armed", armed)
    assert site.hawkbit.action(other).entries == []


@pytest.mark.parametrize("date", ["Thu, 01 Jan 1970 00:00:00 GMT", "Sat, 01 Jan 2096 00:00:00 GMT", "yesterday"])
def test_a_server_whose_clock_is_wrong_gives_orders_as_any_other(site: FakeSite, fleet: FleetBoard, date: str) -> None:
    site.hawkbit.date = date
    action = site.order(NEW)
    assert fleet.live() is None
    assert site.status(action) == "finished"


@pytest.mark.verifies("S23")
@pytest.mark.parametrize("status", [500, 503, 429])
def test_under_load_where_half_of_all_requests_fail_one_end_is_told_and_it_is_the_true_one(
    site: FakeSite, fleet: FleetBoard, status: int
) -> None:
    draw = random.Random(status)
    action = site.order(NEW)
    site.hawkbit.fault = lambda _method, _path: (status, {}, b"") if draw.random() < 0.5 else None
    for _ in range(40):
        fleet.live()
        if site.status(action) == "finished":
            break
    site.hawkbit.fault = lambda _method, _path: None
    fleet.run()
    assert fleet.board.system() is NEW
    assert [word for word in site.said(action) if word.startswith("closed")] == ["closed success"]


@pytest.mark.parametrize(("status", "again"), [(503, True), (429, True), (401, True), (400, False)])
def test_attributes_that_a_server_cannot_take_now_leave_with_the_next_poll(
    site: FakeSite, fleet: FleetBoard, status: int, again: bool
) -> None:
    site.hawkbit.fault = lambda method, _path: (status, {}, b"") if method == "PUT" else None
    assert fleet.run() is None
    site.hawkbit.targets[CONTROLLER].wants_attributes = False  # it does not ask a second time
    site.hawkbit.fault = lambda _method, _path: None
    assert fleet.run() is None
    assert site.attributes().get("twinslot.release") == ("1.0" if again else None)
