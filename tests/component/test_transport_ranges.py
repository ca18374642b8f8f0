"""Parts of a file, from servers that misbehave on loopback."""

from __future__ import annotations

import random
from typing import Any

import pytest
from http_bench import Asked, Web, say, serving
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from range_bench import asked_part, connections, head, parts, ranged, requests, whole

from twinslot.bundle.layout import Span
from twinslot.core.errors import TransportError, TwinslotError
from twinslot.transport.ranges import RangesRefused

DATA = random.Random(5).randbytes(700_001)
SPANS = [Span(10, 5000), Span(5010, 100), Span(9206, 4), Span(20_000, 70_000)]  # gaps: 0, 4096, 10790


def fetch(web: Web, spans: list[Span] = SPANS, **settings: Any) -> bytes:
    with ranged(web, **settings) as source:
        return b"".join(data for _, data in source.stream(spans))


def wanted(spans: list[Span] = SPANS) -> bytes:
    return b"".join(DATA[span.offset : span.end] for span in spans)


def failure(web: Web, spans: list[Span] = SPANS, **settings: Any) -> TwinslotError:
    with pytest.raises(TwinslotError) as error:
        fetch(web, spans, **settings)
    return error.value


def test_near_spans_come_in_one_request_over_one_connection() -> None:
    with serving(parts(DATA)) as web:
        with ranged(web) as source:
            assert [(s, len(d)) for s, d in source.stream(SPANS)] == [(s, s.length) for s in SPANS]
            assert source.size == len(DATA)
            assert source.fetched == 9200 + 70_000, "the gap of 4096 counts as well"
        assert requests(web) == ["10-9209", "20000-89999"]
        assert connections(web) == 1
        assert web.asked[0]["accept-encoding"] == "identity"
        assert "if-range" not in web.asked[0]
        assert web.asked[1]["if-range"] == '"one"'


def test_a_read_gives_exactly_the_bytes_asked_for() -> None:
    with serving(parts(DATA)) as web, ranged(web) as source:
        assert source.size is None
        assert source.read(700_000, 1) == DATA[-1:]
        assert source.read(0, 3) == DATA[:3]
        assert source.read(5, 0) == b""
        assert len(web.asked) == 2


def test_a_server_without_ranges_hands_over_the_whole_file_in_the_same_answer() -> None:
    with serving(whole(DATA)) as web, ranged(web) as source:
        with pytest.raises(RangesRefused) as refused:
            source.read(500_000, 10)
        assert b"".join(refused.value.source.chunks()) == DATA
        assert len(web.asked) == 1


def test_an_answer_that_ends_in_the_middle_of_a_span_goes_on_where_it_stopped() -> None:
    with serving(parts(DATA), parts(DATA, breaks=30_000), parts(DATA)) as web:
        assert fetch(web) == wanted()
        assert requests(web) == ["10-9209", "20000-89999", "50000-89999"]
        assert web.asked[2]["if-range"] == '"one"'


def test_a_reset_in_the_middle_is_taken_up() -> None:
    with serving(parts(DATA), parts(DATA, breaks=30_000, resets=True), parts(DATA)) as web:
        assert fetch(web) == wanted()
        first, last = map(int, requests(web)[2].split("-"))
        assert 20_000 <= first <= 50_000
        assert last == 89_999


def test_a_connection_that_was_closed_while_idle_is_replaced_without_a_pause() -> None:
    with serving(parts(DATA, hangs_up=True)) as web:
        assert fetch(web, retries=0) == wanted()
        assert connections(web) == 2


@pytest.mark.parametrize("again", [parts, whole])
def test_nothing_of_a_replaced_file_is_joined_to_its_predecessor(again: Any) -> None:
    with serving(parts(DATA), again(DATA, ETag='"two"')) as web:
        error = failure(web)
    assert isinstance(error, TransportError)
    assert (error.code, error.expected, error.found) == ("transport.changed", '"one"', '"two"')
    assert error.hint is not None
    assert "begin anew" in error.hint
