"""Whatever a server says is an order, or an error of ours with a code; no link of it leads elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinslot.core.errors import TransportError
from twinslot.fleet.ddi import SLEEP, SLEEP_MAX, SLEEP_MIN, home, parse_cancel, parse_order, parse_poll, sleep_of

AT = home("http://hawkbit.test", "DEFAULT", "pump-1", ("cdn.test",))
LINK = f"{AT.url}/deploymentBase/1"
CODES = {"transport.ddi", "transport.ddi-link"}
PARSERS: list[Callable[[bytes], object]] = [
    lambda data: parse_poll(AT, data),
    lambda data: parse_order(AT, LINK, data),
    lambda data: parse_order(AT, LINK, data, "confirmation"),
    lambda data: parse_cancel(LINK, data),
]
NAMES = st.sampled_from(
    [
        "_links",
        "deploymentBase",
        "cancelAction",
        "configData",
        "href",
        "id",
        "deployment",
        "chunks",
        "artifacts",
        "filename",
        "hashes",
        "download",
        "update",
        "stopId",
        "config",
        "polling",
        "sleep",
        "maintenanceWindow",
    ]
)
HREFS = st.builds(
    "".join,
    st.lists(
        st.sampled_from(
            ["http://", "//", "hawkbit.test", "@", "/DEFAULT/controller/v1/pump-1", "/..", "%2e", "?", ":80"]
        )
    ),
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | HREFS | st.just(LINK)
ANSWERS = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4))


def said(parse: Callable[[bytes], Any], data: bytes) -> Any:
    """What it reads; None: it refuses, as it may."""
    error = None
    try:
        return parse(data)
    except TransportError as e:
        error = e
    assert error.code in CODES
    assert len(str(error)) < 1000
    return None


@given(st.binary() | ANSWERS.map(lambda answer: json.dumps(answer).encode()))
def test_any_answer_is_read_or_refused(data: bytes) -> None:
    for parse in PARSERS:
        said(parse, data)


@pytest.mark.verifies("REQ-FLT-01")
@given(st.dictionaries(st.sampled_from(["deploymentBase", "cancelAction", "configData"]), HREFS | st.text()))
def test_a_link_that_is_followed_stands_below_this_controller(links: dict[str, str]) -> None:
    data = json.dumps({"_links": {name: {"href": href} for name, href in links.items()}}).encode()
    polled = said(lambda data: parse_poll(AT, data), data)
    for link in (polled.deployment, polled.cancel, polled.config_data) if polled else ():
        assert not link or link.startswith((f"{AT.url}/", f"{AT.url.replace('.test', '.test:80')}/"))
        assert not {".", ".."} & set(link.replace("%2e", ".").split("?")[0].split("/"))


@pytest.mark.verifies("REQ-FLT-01")
@given(HREFS | st.text())
def test_an_image_comes_from_the_server_or_from_a_host_that_is_named(href: str) -> None:
    file = {"filename": "2.0.twin", "_links": {"download": {"href": href}}}
    order = {"download": "forced", "update": "forced", "chunks": [{"artifacts": [file]}]}
    found = said(lambda data: parse_order(AT, LINK, data), json.dumps({"id": "1", "deployment": order}).encode())
    url, why = found.image()
    assert bool(url) != bool(why)
    assert not url or url.split("/")[2].partition(":")[0] in ("hawkbit.test", "cdn.test")


@given(st.none() | st.integers() | st.text() | st.from_regex(r"\d{1,3}:\d{1,2}:\d{1,2}", fullmatch=True))
def test_what_a_server_wishes_of_sleep_is_within_bounds(value: object) -> None:
    assert SLEEP_MIN <= sleep_of(value) <= SLEEP_MAX


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("00:05:00", 300), ("23:59:59", SLEEP_MAX), ("00:00:00", SLEEP_MIN), ("99:00:00", SLEEP_MAX)]
    + [(each, SLEEP) for each in ("24h", "", "-1:00:00", "00:60:00", None, 300)],
)
def test_a_sleep_that_is_none_counts_as_the_servers_default(value: object, seconds: float) -> None:
    assert sleep_of(value) == seconds


def test_a_host_for_images_is_the_same_however_it_is_written() -> None:
    file = {"filename": "2.0.twin", "_links": {"download": {"href": "https://cdn.Example/2.0.twin"}}}
    order = {"download": "forced", "update": "forced", "chunks": [{"artifacts": [file]}]}
    told = json.dumps({"id": "1", "deployment": order}).encode()
    for hosts in (("CDN.example",), ("cdn.example",)):
        assert parse_order(replace(AT, downloads=hosts), LINK, told).image() == ("https://cdn.Example/2.0.twin", "")
    assert parse_order(AT, LINK, told).image()[0] == ""
