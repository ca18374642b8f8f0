"""Parts of a file, from servers that misbehave on loopback."""

from __future__ import annotations

import itertools
import random
import threading
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from http_bench import Answer, Asked, Web, say, serving
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from range_bench import QUICK, asked_part, connections, head, parts, ranged, requests, whole
from tls_bench import Certificates

import waits
from twinslot.core.errors import TransportError, TwinslotError
from twinslot.core.span import Span
from twinslot.transport.http.coalesce import RUN_MAX, coalesce
from twinslot.transport.http.download import HttpSource
from twinslot.transport.http.ranges import RangeSource, RangesRefused, open_optional

DATA = random.Random(5).randbytes(700_001)
SPANS = [Span(10, 5000), Span(5010, 100), Span(9206, 4), Span(20_000, 70_000)]  # gaps: 0, 4096, 10790


def fetch(web: Web, spans: list[Span] = SPANS, ahead: int = 0, **settings: Any) -> bytes:
    with ranged(web, ahead=ahead, **settings) as source:
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


@pytest.mark.verifies("REQ-NET-01")
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


@pytest.mark.verifies("REQ-NET-02")
@pytest.mark.parametrize("again", [parts, whole])
def test_nothing_of_a_replaced_file_is_joined_to_its_predecessor(again: Any) -> None:
    with serving(parts(DATA), again(DATA, ETag='"two"')) as web:
        error = failure(web)
    assert isinstance(error, TransportError)
    assert (error.code, error.expected, error.found) == ("transport.changed", '"one"', '"two"')
    assert error.hint is not None
    assert "begin anew" in error.hint


def test_a_file_of_another_length_was_replaced() -> None:
    with serving(parts(DATA, ETag=""), parts(DATA + b"x", ETag="")) as web:
        assert failure(web).code == "transport.changed"


def test_a_file_that_shrank_below_what_it_promised_was_replaced() -> None:
    with serving(parts(DATA), parts(DATA[:15_000])) as web:
        error = failure(web)
    assert (error.code, error.expected, error.found) == ("transport.changed", "700001", "15000")


@pytest.mark.verifies("REQ-NET-02")
def test_a_span_half_read_when_the_file_is_replaced_is_not_given_out() -> None:
    with serving(parts(DATA, breaks=9_000), parts(DATA, ETag='"two"')) as web, ranged(web) as source:
        stream = source.stream(SPANS)
        assert next(stream)[0] == SPANS[0]
        assert next(stream)[0] == SPANS[1]
        with pytest.raises(TransportError, match="replaced"):
            next(stream)


def test_a_server_that_forgets_ranges_later_hands_over_the_whole_of_the_same_file() -> None:
    with serving(parts(DATA), whole(DATA, ETag='"one"', breaks=100_000), parts_to_end(DATA)) as web:
        with ranged(web) as source:
            with pytest.raises(RangesRefused) as refused:
                list(source.stream(SPANS))
            assert b"".join(refused.value.source.chunks()) == DATA
        assert requests(web) == ["10-9209", "20000-89999", "100000-"], "and a broken one goes on by the usual rules"


def parts_to_end(data: bytes) -> Answer:
    """As the source of a whole file asks: from somewhere to the end."""

    def answer(asked: Asked) -> None:
        first = int(asked.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        head(asked, 206, len(data) - first, Content_Range=f"bytes {first}-{len(data) - 1}/{len(data)}", ETag='"one"')
        asked.wfile.write(data[first:])

    return answer


def test_a_whole_file_that_was_handed_over_and_is_replaced_meanwhile_is_not_joined() -> None:
    other = whole(DATA[::-1], ETag='"two"')
    with serving(whole(DATA, ETag='"one"', breaks=100_000), other) as web, ranged(web) as source:
        with pytest.raises(RangesRefused) as refused:
            source.read(0, 1)
        with pytest.raises(TransportError, match="replaced"):
            list(refused.value.source.chunks())


def test_a_whole_file_that_is_not_wanted_is_dropped() -> None:
    with serving(whole(DATA)) as web, ranged(web) as source:
        for _ in range(2):
            with pytest.raises(RangesRefused) as refused:
                source.read(0, 1)
            refused.value.source.close()
    assert connections(web) == 2


WRONG_RANGES = [
    None,
    "bytes 0-99/700001",
    "bytes 99-199/700001",
    "bytes 100-200/700001",
    "bytes 100-99/700001",
    "bytes 100-199/150",
    "bytes 100-199",
    "octets 100-199/700001",
    "bytes 100-150/700001",  # sound, but for the length of the answer
]


@pytest.mark.parametrize(
    ("content_range", "length"), [*((text, 100) for text in WRONG_RANGES), ("bytes 100-200/700001", 101)]
)
def test_another_range_than_the_one_asked_for_is_refused(content_range: str | None, length: int) -> None:
    def other(asked: Asked) -> None:
        headers = {"Content_Range": content_range} if content_range else {}
        head(asked, 206, length, **headers)
        asked.wfile.write(DATA[:length])

    with serving(other) as web:
        error = failure(web, [Span(100, 100)])
        assert len(web.asked) == 1
    assert (error.code, error.expected) == ("transport.range", "bytes 100-199")


def test_a_part_that_is_multipart_is_refused() -> None:
    with serving(lambda asked: head(asked, 206, 0, Content_Type="multipart/byteranges; boundary=x")) as web:
        assert failure(web).found == "no Content-Range"


def test_a_compressed_part_is_refused() -> None:
    with serving(parts(DATA, Content_Encoding="gzip")) as web:
        error = failure(web)
    assert (error.code, error.found) == ("transport.encoding", "gzip")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 412, 451, 304, 204])
def test_an_answer_that_no_retry_mends_is_final(status: int) -> None:
    with serving(say(status)) as web:
        error = failure(web)
        assert isinstance(error, TransportError)
        assert error.code == f"transport.http-{status}"
        assert error.expected == "200 or 206"
        assert len(web.asked) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 408, 429])
def test_a_server_that_is_down_twice_is_asked_a_third_time(status: int) -> None:
    with serving(say(status), say(status), parts(DATA)) as web:
        assert fetch(web) == wanted()
        assert len(web.asked) == 4


def vanish(asked: Asked) -> None:
    """No answer but a RST."""
    asked.reset()


def test_a_server_that_goes_away_between_parts_and_comes_back_is_taken_up() -> None:
    with serving(parts(DATA), vanish, vanish, vanish, parts(DATA)) as web:
        assert fetch(web, retries=2) == wanted()
        assert len(web.asked) == 5, "the first loss of a kept connection is no failure; two more are allowed"


def test_a_server_that_stays_away_is_given_up() -> None:
    with serving(parts(DATA), vanish) as web:
        error = failure(web, retries=2)
        assert len(web.asked) == 5
    assert error.code == "transport.network"
    assert error.hint == "9200 bytes had arrived; try again later"


def test_every_answer_may_break_as_long_as_there_is_progress() -> None:
    with serving(parts(DATA, breaks=2000)) as web:
        assert fetch(web, retries=1) == wanted()
        assert len(web.asked) == 5 + 35


def test_dripping_bytes_is_no_progress() -> None:
    with serving(parts(DATA, breaks=1)) as web:
        assert failure(web, retries=3).code == "transport.network"
        assert len(web.asked) == 4


def test_a_server_that_gives_less_than_asked_is_asked_for_the_rest() -> None:
    with serving(parts(DATA, most=30_000)) as web:
        assert fetch(web, retries=0) == wanted()
        assert requests(web) == ["10-9209", "20000-89999", "50000-89999", "80000-89999"]
        assert connections(web) == 1


def test_a_server_that_gives_hardly_anything_for_each_request_is_given_up() -> None:
    with serving(parts(DATA, most=10)) as web:
        error = failure(web, retries=3)
        assert len(web.asked) == 4
    assert error.found == "the server gave only 10 bytes of 9170"


def test_what_lies_beyond_the_end_is_explained() -> None:
    with serving(parts(DATA)) as web:
        error = failure(web, [Span(800_000, 10)])
        assert (error.code, error.expected, error.found) == ("transport.range", "at least 800010 bytes", "700001")
        error = failure(web, [Span(700_000, 10)])
        assert (error.code, error.expected, error.found) == ("transport.range", "at least 700010 bytes", "700001")
        assert len(web.asked) == 2
    with serving(lambda asked: head(asked, 416, 0)) as web:
        assert failure(web, [Span(0, 10)]).found == "less"


def test_what_lies_beyond_the_known_end_is_not_even_asked_for() -> None:
    with serving(parts(DATA)) as web, ranged(web) as source:
        source.read(0, 1)
        with pytest.raises(TransportError, match="shorter than what is asked for"):
            source.read(700_000, 2)
        assert len(web.asked) == 1


def recorded(web: Web, **settings: Any) -> list[float]:
    """The naps of a source that reads one part."""
    naps: list[float] = []
    source = RangeSource(f"{web.url}/x.twin", replace(QUICK, **settings), sleep=naps.append)
    try:
        assert source.read(0, 10) == DATA[:10]
    finally:
        source.close()
    return naps


@pytest.mark.parametrize("status", [429, 503, 408])
def test_a_server_that_asks_for_time_is_given_it(status: int) -> None:
    with serving(say(status, Retry_After="25"), parts(DATA)) as web:
        assert recorded(web, retry_wait=60.0) == [10.0, 10.0, 5.0]


def test_a_server_of_whole_files_that_asks_for_time_is_given_it() -> None:
    naps: list[float] = []
    with serving(say(503, Retry_After="15"), whole(DATA)) as web:
        source = HttpSource(f"{web.url}/x.twin", replace(QUICK, retry_wait=60.0), naps.append)
        assert b"".join(source.chunks()) == DATA
    assert naps == [10.0, 5.0]


def test_a_server_that_asks_for_a_year_is_given_the_longest_pause() -> None:
    with serving(say(429, Retry_After="31536000"), parts(DATA)) as web:
        assert sum(recorded(web, retry_wait=30.0)) == 30.0


def test_a_date_is_read_against_the_servers_own_clock() -> None:
    dates = {"Date": "Sun, 01 Jan 2006 00:00:00 GMT", "Retry_After": "Sun, 01 Jan 2006 00:00:20 GMT"}

    def later(asked: Asked) -> None:
        asked.send_response_only(429)  # without a Date of its own
        for name, value in dates.items():
            asked.send_header(name.replace("_", "-"), value)
        asked.send_header("Content-Length", "0")
        asked.end_headers()

    with serving(later, parts(DATA)) as web:
        assert sum(recorded(web, retry_wait=300.0)) == 20.0


@pytest.mark.parametrize(
    "text", ["", "soon", "-5", "1.5", "9" * 30, "Sun, 99 Foo 2006 00:00:00 GMT", "Sun, 01 Jan 2006"]
)
def test_a_wish_that_we_do_not_understand_is_an_ordinary_pause(text: str) -> None:
    with serving(say(429, Retry_After=text), parts(DATA)) as web:
        assert sum(recorded(web, retry_wait=300.0)) <= 0.5


def test_pauses_and_bytes_are_heard_as_ticks() -> None:
    heard: list[int] = []
    with serving(say(503, Retry_After="25"), parts(DATA)) as web:
        settings = replace(QUICK, retry_wait=60.0)
        naps: list[float] = []
        source = RangeSource(
            f"{web.url}/x.twin", settings, sleep=naps.append, tick=lambda: heard.append(source.fetched)
        )
        source.read(0, 600_000)
        source.close()
    assert heard[:3] == [0, 0, 0], "before each nap"
    assert heard[-1] == 600_000
    assert len(heard) >= 5, "no more than 256 KiB at once"


def test_a_listener_who_has_left_ends_the_download() -> None:
    def gone() -> None:
        raise BrokenPipeError

    with serving(parts(DATA)) as web:
        source = RangeSource(f"{web.url}/x.twin", QUICK, tick=gone)
        with pytest.raises(BrokenPipeError):
            source.read(0, 600_000)
    assert len(web.asked) == 1, "and the server's end of the connection is free without our closing the source"


@pytest.mark.slow
def test_a_stalled_answer_is_broken_off_and_resumed() -> None:
    def stall(asked: Asked) -> None:
        first, last = asked_part(asked)
        head(asked, 206, last + 1 - first, Content_Range=f"bytes {first}-{last}/{len(DATA)}")
        asked.wfile.write(DATA[first : first + 30_000])
        asked.close_connection = True
        web.ended.wait(waits.HANG)

    with serving(parts(DATA), stall, parts(DATA)) as web:
        assert fetch(web, read_timeout=2.0) == wanted()
        assert requests(web)[2] == "50000-89999"


def test_a_kept_connection_on_which_no_answer_comes_counts_as_a_failure() -> None:
    def mute(asked: Asked) -> None:
        web.ended.wait(waits.HANG)

    with serving(parts(DATA), mute, parts(DATA)) as web:
        assert failure(web, read_timeout=0.3, retries=0).code == "transport.network"


def trickle(web_: Callable[[], Web], step: int) -> Answer:
    """A part, `step` bytes each 50 ms."""

    def answer(asked: Asked) -> None:
        first, last = asked_part(asked)
        head(asked, 206, last + 1 - first, Content_Range=f"bytes {first}-{last}/{len(DATA)}", ETag='"one"')
        for at in range(first, last + 1, step):
            asked.wfile.write(DATA[at : min(at + step, last + 1)])
            if web_().ended.wait(0.05):
                asked.close_connection = True
                return

    return answer


@pytest.mark.slow
def test_a_trickle_below_the_rate_floor_is_too_slow() -> None:
    with serving(trickle(lambda: web, 10)) as web:
        error = failure(web, read_timeout=1.5, rate_floor=10_000, retries=1)
    assert error.code == "transport.too-slow"


def test_a_trickle_cannot_hide_in_many_small_parts() -> None:
    spans = [Span(at, 60) for at in range(0, 600_000, 10_000)]  # 0.3 s each, below the read timeout
    with serving(trickle(lambda: web, 10)) as web:
        error = failure(web, spans, read_timeout=0.8, rate_floor=10_000, retries=1)
        assert len(web.asked) < 20
    assert error.code == "transport.too-slow"


def test_the_deadline_holds_over_all_parts() -> None:
    with serving(trickle(lambda: web, 500)) as web:
        spans = [Span(at, 1000) for at in range(0, 600_000, 10_000)]
        assert failure(web, spans, deadline=0.4).code == "transport.deadline"
        assert 2 <= len(web.asked) < 20


def test_the_deadline_goes_on_over_the_whole_file() -> None:
    now = [0.0]
    with serving(whole(DATA)) as web:
        source = RangeSource(f"{web.url}/x.twin", replace(QUICK, deadline=10.0), clock=lambda: now[0])
        with pytest.raises(RangesRefused) as refused:
            source.read(0, 10)
        now[0] = 11.0
        with pytest.raises(TransportError) as error:
            list(refused.value.source.chunks())
        assert error.value.code == "transport.deadline"


def test_redirects_are_followed_once_and_their_target_is_kept() -> None:
    chain = [say(302, Location=f"/{step}") for step in "abcde"]
    with serving(*chain, parts(DATA)) as web:
        assert fetch(web) == wanted()
        assert [request["path"] for request in web.asked] == ["/x.twin", "/a", "/b", "/c", "/d", "/e", "/e"]
        assert all("range" in request for request in web.asked)


def test_a_lost_connection_asks_the_first_address_again() -> None:
    moved = say(302, Location="/there")
    with serving(moved, parts(DATA, breaks=5000), moved, parts(DATA)) as web:
        assert fetch(web) == wanted()
        assert [request["path"] for request in web.asked] == ["/x.twin", "/there", "/x.twin", "/there", "/there"]


@pytest.mark.parametrize("status", [401, 403, 404, 410, 302])
def test_a_signed_address_whose_time_is_over_is_asked_for_anew(status: int) -> None:
    def over(asked: Asked) -> None:
        head(asked, status, 0, Location="/elsewhere")

    with serving(say(302, Location="/s?1"), parts(DATA), over, say(302, Location="/s?2"), parts(DATA)) as web:
        assert fetch(web, retries=0) == wanted()
        assert [request["path"] for request in web.asked] == ["/x.twin", "/s?1", "/s?1", "/x.twin", "/s?2"]


def test_a_file_that_is_gone_behind_its_redirect_is_gone() -> None:
    def over(asked: Asked) -> None:
        head(asked, 410, 0)

    with serving(say(302, Location="/s"), parts(DATA), over, say(302, Location="/s"), over) as web:
        assert failure(web).code == "transport.http-410"


def test_a_redirect_loop_ends_after_five() -> None:
    with serving(say(301, Location="/x.twin")) as web:
        assert failure(web).code == "transport.redirect"
        assert len(web.asked) == 6


def test_a_chunked_part_is_read_and_its_connection_kept() -> None:
    def chunked(asked: Asked) -> None:
        first, last = asked_part(asked)
        content_range = f"bytes {first}-{last}/{len(DATA)}"
        head(asked, 206, None, Content_Range=content_range, Transfer_Encoding="chunked")
        for at in range(first, last + 1, 1000):
            piece = DATA[at : min(at + 1000, last + 1)]
            asked.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        asked.wfile.write(b"0\r\n\r\n")

    with serving(chunked) as web:
        assert fetch(web) == wanted()
        assert connections(web) == 1


def test_bytes_beyond_a_chunked_part_cost_the_connection_and_nothing_else() -> None:
    def too_long(asked: Asked) -> None:
        first, last = asked_part(asked)
        head(asked, 206, None, Content_Range=f"bytes {first}-{last}/{len(DATA)}", Transfer_Encoding="chunked")
        piece = DATA[first : last + 1] + b"HTTP/1.1 206 OK\r\n\r\n"
        asked.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(piece), piece))

    with serving(too_long) as web:
        assert fetch(web) == wanted()
        assert connections(web) == 2


def test_a_chunk_of_negative_length_gives_no_more_than_was_asked_for() -> None:
    def negative(asked: Asked) -> None:
        first, last = asked_part(asked)
        head(asked, 206, None, Content_Range=f"bytes {first}-{last}/{len(DATA)}", Transfer_Encoding="chunked")
        asked.wfile.write(b"-5\r\n" + DATA[first : last + 100])

    with serving(negative, parts(DATA)) as web, ranged(web) as source:
        assert source.read(10, 20) == DATA[10:30]


def test_bytes_behind_an_answer_are_not_taken_for_the_next_one() -> None:
    def smuggles(asked: Asked) -> None:
        parts(DATA)(asked)
        asked.wfile.write(b"nonsense\r\n\r\n")

    with serving(smuggles) as web:
        assert fetch(web) == wanted()


def test_a_read_between_two_spans_of_a_stream_disturbs_neither() -> None:
    with serving(parts(DATA)) as web, ranged(web) as source:
        got = b""
        for _, data in source.stream(SPANS):
            got += data
            assert source.read(600_000, 5) == DATA[600_000:600_005]
        assert got == wanted()


def test_a_stream_that_is_left_early_leaves_a_source_that_works() -> None:
    with serving(parts(DATA)) as web, ranged(web) as source:
        stream = source.stream(SPANS)
        next(stream)
        stream.close()
        assert source.read(300_000, 50_000) == DATA[300_000:350_000]


def test_a_closed_source_opens_again_when_asked() -> None:
    with serving(parts(DATA)) as web, ranged(web) as source:
        assert source.read(0, 5) == DATA[:5]
        source.close()
        source.close()
        assert source.read(5, 5) == DATA[5:10]


def test_empty_spans_come_back_in_their_place_and_cost_nothing() -> None:
    spans = [Span(5, 0), Span(100, 10), Span(110, 0), Span(9, 0), Span(110, 10), Span(0, 0)]
    with serving(parts(DATA)) as web, ranged(web) as source:
        assert list(source.stream(spans)) == [(s, DATA[s.offset : s.end]) for s in spans]
        assert requests(web) == ["100-119"]
        assert list(source.stream([Span(7, 0)])) == [(Span(7, 0), b"")]
        assert len(web.asked) == 1


def test_spans_without_end_are_read_ahead_by_two_runs_only() -> None:
    taken = itertools.count()
    endless = (Span(number * 10, 10) for number in taken)
    with serving(parts(DATA)) as web, ranged(web) as source:
        stream = source.stream(endless)
        assert [next(stream)[0].offset for _ in range(5)] == [0, 10, 20, 30, 40]
        assert next(taken) <= 2 * RUN_MAX + 1
        stream.close()


def model(spans: list[Span], gap: int) -> list[tuple[int, int]]:
    """First and last byte of each request that the rule asks for, said another way."""
    full = [(s.offset, s.end) for s in spans if s.length]
    cuts = [i for i in range(1, len(full)) if full[i][0] < full[i - 1][1] or full[i][0] > full[i - 1][1] + gap]
    edges = [0, *cuts, len(full)]
    return [(full[a][0], full[b - 1][1] - 1) for a, b in itertools.pairwise(edges) if a < b]


span_lists = st.lists(
    st.builds(Span, st.integers(0, 3000), st.one_of(st.just(0), st.integers(0, 600))), max_size=12
).flatmap(lambda spans: st.sampled_from([spans, sorted(spans, key=lambda s: s.offset)]))


@given(span_lists, st.sampled_from([0, 1, 50, 400, 4000]))
def test_runs_are_what_the_rule_says(spans: list[Span], gap: int) -> None:
    runs = list(coalesce(iter(spans), gap))
    assert list(itertools.chain.from_iterable(runs)) == spans
    bounds = [[s for s in run if s.length] for run in runs]
    assert [(run[0].offset, run[-1].end - 1) for run in bounds if run] == model(spans, gap)


@pytest.mark.slow
@hypothesis_settings(max_examples=60, deadline=None)
@given(
    span_lists,
    st.sampled_from([0, 50, 4000]),
    st.sampled_from([{}, {"hangs_up": True}]),
    st.sampled_from([0, 100, 5000]),
)
def test_any_spans_give_the_files_bytes_in_as_many_requests_as_the_rule_says(
    spans: list[Span], gap: int, behaviour: dict[str, Any], ahead: int
) -> None:
    with serving(parts(DATA, **behaviour)) as web, ranged(web, gap=gap, ahead=ahead, retries=0) as source:
        assert list(source.stream(spans)) == [(s, DATA[s.offset : s.end]) for s in spans]
        asked = model(spans, gap)
        assert sorted(requests(web)) == sorted(f"{first}-{last}" for first, last in asked)
        assert connections(web) <= (2 if ahead else 1) or behaviour
        assert source.fetched == sum(last + 1 - first for first, last in asked)


@pytest.mark.slow
@hypothesis_settings(max_examples=30, deadline=None)
@given(
    span_lists,
    st.lists(st.sampled_from(["whole", "break", "reset", "less", "down", "gone"]), max_size=8),
    st.sampled_from([0, 100, 5000]),
)
def test_any_spans_give_the_files_bytes_whatever_goes_wrong(spans: list[Span], troubles: list[str], ahead: int) -> None:
    kinds = {
        "whole": parts(DATA),
        "break": parts(DATA, breaks=100),
        "reset": parts(DATA, breaks=300, resets=True),
        "less": parts(DATA, most=200),
        "down": say(503),
        "gone": vanish,
    }
    with serving(*(kinds[trouble] for trouble in troubles), parts(DATA)) as web:
        with ranged(web, gap=50, ahead=ahead, retries=20, retry_wait=0.0) as source:
            assert list(source.stream(spans)) == [(s, DATA[s.offset : s.end]) for s in spans]


FAR = [Span(at, 30_000) for at in range(0, 600_000, 50_000)]


def test_many_parts_come_over_two_connections_that_are_both_kept() -> None:
    with serving(parts(DATA)) as web:
        assert fetch(web, FAR, ahead=1 << 20) == wanted(FAR)
        assert sorted(requests(web)) == sorted(f"{span.offset}-{span.end - 1}" for span in FAR)
        assert connections(web) == 2


def test_the_next_part_is_asked_for_while_this_one_is_still_coming() -> None:
    """Each answer waits in its middle until the next request is there; only the first ones and the last do not."""
    asked_for: dict[int, threading.Event] = {span.offset: threading.Event() for span in FAR}

    def patient(asked: Asked) -> None:
        first, last = asked_part(asked)
        asked_for[first].set()
        head(asked, 206, last + 1 - first, Content_Range=f"bytes {first}-{last}/{len(DATA)}", ETag='"one"')
        asked.wfile.write(DATA[first : first + 10_000])
        if first >= FAR[2].offset and first != FAR[-1].offset:
            asked.close_connection |= not asked_for[first + 50_000].wait(waits.HANG)
        asked.wfile.write(DATA[first + 10_000 : last + 1])

    with serving(patient) as web:
        assert fetch(web, FAR, ahead=1 << 20, read_timeout=waits.HANG) == wanted(FAR)
        assert len(web.asked) == len(FAR)


def test_a_server_that_allows_one_connection_only_is_asked_over_one() -> None:
    def only_one(asked: Asked) -> None:
        if str(asked.client_address[1]) == web.asked[0]["from"]:
            parts(DATA)(asked)
        else:
            head(asked, 429, 0)

    with serving(only_one) as web:
        assert fetch(web, FAR, ahead=1 << 20, retries=1) == wanted(FAR)
        assert len(web.asked) == len(FAR) + 1


def test_both_connections_follow_redirects() -> None:
    def moved(asked: Asked) -> None:
        (say(302, Location="/there") if asked.path == "/x.twin" else parts(DATA))(asked)

    with serving(moved) as web:
        assert fetch(web, FAR, ahead=1 << 20, retries=0) == wanted(FAR)
        asked = [request["path"] for request in web.asked]
        assert asked.count("/there") == len(FAR)
        assert asked.count("/x.twin") <= 3, "once for each connection, and once more for what was asked ahead"


def test_a_large_answer_is_nearly_read_before_the_next_is_asked_for() -> None:
    small = [Span(at, 10_000) for at in range(0, 200_000, 50_000)]
    large, after = Span(200_000, 300_000), threading.Event()

    def patient(asked: Asked) -> None:
        first, last = asked_part(asked)
        if first != large.offset:
            after.set() if first > large.offset else None
            parts(DATA)(asked)
            return
        head(asked, 206, large.length, Content_Range=f"bytes {first}-{last}/{len(DATA)}", ETag='"one"')
        asked.wfile.write(DATA[first : first + 200_000])
        early = after.wait(0.3)
        asked.wfile.write(DATA[first + 200_000 : first + 260_000])
        asked.close_connection = early or not after.wait(waits.HANG)
        asked.wfile.write(b"" if asked.close_connection else DATA[first + 260_000 : last + 1])

    with serving(patient) as web:
        spans = [*small, large, Span(600_000, 10)]
        assert fetch(web, spans, ahead=50_000, retries=0) == wanted(spans)


def test_a_stream_left_early_forgets_what_it_asked_ahead() -> None:
    with serving(parts(DATA)) as web, ranged(web, ahead=1 << 20) as source:
        stream = source.stream(FAR)
        for _ in range(6):
            next(stream)
        stream.close()
        assert source.read(600_000, 50) == DATA[600_000:600_050]
        assert b"".join(data for _, data in source.stream(FAR)) == wanted(FAR)


def test_two_streams_at_once_get_their_bytes() -> None:
    with serving(parts(DATA)) as web, ranged(web, ahead=1 << 20) as source:
        pairs = zip(source.stream(FAR), source.stream(reversed(FAR)), strict=True)
        for (one, data), (other, more) in pairs:
            assert data == DATA[one.offset : one.end]
            assert more == DATA[other.offset : other.end]


def test_memory_does_not_grow_with_a_run() -> None:
    size, block = 48 << 20, bytes(1 << 20)

    def zeros(asked: Asked) -> None:
        first, last = asked_part(asked)
        head(asked, 206, last + 1 - first, Content_Range=f"bytes {first}-{last}/{size}")
        for _ in range((last + 1 - first) >> 20):
            asked.wfile.write(block)

    with serving(zeros) as web, ranged(web) as source:
        stream = source.stream([Span(at, 65_536) for at in range(0, size, 65_536)])
        next(stream)
        tracemalloc.start()
        try:
            for _, data in stream:
                assert len(data) == 65_536
            assert tracemalloc.get_traced_memory()[1] < 512 * 1024
        finally:
            tracemalloc.stop()
        assert len(web.asked) == 1


class Time:
    """A clock that only sleep moves."""

    def __init__(self) -> None:
        self.now, self.naps = 1000.0, 0

    def sleep(self, seconds: float) -> None:
        """Move on."""
        assert 0 < seconds <= 10
        self.now += seconds
        self.naps += 1

    def clock(self) -> float:
        """What time it is."""
        return self.now


LIMITED = replace(QUICK, rate_limit=20_000)


def test_parts_come_no_faster_than_the_limit() -> None:
    time = Time()
    with serving(parts(DATA)) as web:
        source = RangeSource(f"{web.url}/x.twin", LIMITED, sleep=time.sleep, clock=time.clock)
        list(source.stream([Span(at, 10_000) for at in range(0, 700_000, 100_000)]))
        assert time.now - 1000 == pytest.approx(70_000 / 20_000 - 1, abs=0.01), "one second's worth is free"
        assert time.naps >= 10, "in small steps"
        time.now += 500
        before = time.now
        source.read(0, 70_000)
        assert time.now - before == pytest.approx(2.5, abs=0.01), "and a long silence saves up no more"
        source.close()


def test_two_files_side_by_side_come_no_faster_than_one_and_keep_to_one_deadline() -> None:
    time = Time()
    settings = replace(LIMITED, deadline=10.0)
    with serving(parts(DATA)) as web:
        image = RangeSource(f"{web.url}/x.twin", settings, sleep=time.sleep, clock=time.clock)
        patch = RangeSource(f"{web.url}/x.twinpatch", settings, beside=image, sleep=time.sleep, clock=time.clock)
        for at in range(0, 70_000, 10_000):
            image.read(at, 5000)
            patch.read(at, 5000)
        assert time.now - 1000 == pytest.approx(70_000 / 20_000 - 1, abs=0.01)
        image.read(0, 100_000)
        with pytest.raises(TransportError) as error:
            patch.read(0, 100_000)
        assert error.value.code == "transport.deadline"
        image.close()
        patch.close()


def test_a_whole_file_comes_no_faster_than_the_limit() -> None:
    time = Time()
    with serving(whole(DATA)) as web:
        source = HttpSource(f"{web.url}/x.twin", LIMITED, time.sleep, time.clock)
        assert b"".join(source.chunks()) == DATA
    assert time.now - 1000 == pytest.approx(700_001 / 20_000 - 1, abs=0.01)


def test_the_lowest_limit_still_gives_signs_of_life() -> None:
    time = Time()
    with serving(whole(DATA[:5000])) as web:
        source = HttpSource(f"{web.url}/x.twin", replace(QUICK, rate_limit=20), time.sleep, time.clock)
        chunks = list(source.chunks())
    assert b"".join(chunks) == DATA[:5000]
    assert chunks.count(b"") >= 5000 / 20 / 10 - 10


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_sidecar_that_is_not_there_is_nothing_special(status: int) -> None:
    with serving(say(status)) as web:
        assert open_optional(f"{web.url}/x.twinpatch", QUICK) is None
        assert len(web.asked) == 1


def test_a_sidecar_whose_server_refuses_us_is_an_error() -> None:
    with serving(say(401)) as web, pytest.raises(TransportError, match="401"):
        open_optional(f"{web.url}/x.twinpatch", QUICK)


def test_the_first_bytes_of_a_sidecar_are_fetched_once() -> None:
    with serving(say(503), parts(DATA)) as web:
        source = open_optional(f"{web.url}/x.twinpatch", QUICK, first=1000)
        assert source is not None
        assert source.size == len(DATA)
        assert source.read(0, 100) == DATA[:100]
        spans = [Span(0, 500), Span(500, 500), Span(1000, 1000)]
        assert [data for _, data in source.stream(spans)] == [DATA[s.offset : s.end] for s in spans]
        source.close()
        assert requests(web) == ["0-999", "0-999", "1000-1999"]


@pytest.mark.parametrize("size", [0, 1, 999, 1000])
def test_a_sidecar_shorter_than_its_first_bytes_is_read_whole_in_one_request(size: int) -> None:
    with serving(parts(DATA[:size])) as web:
        source = open_optional(f"{web.url}/x.twinpatch", QUICK, first=1000)
        assert source is not None
        assert source.size == size
        assert source.read(0, size) == DATA[:size]
        with pytest.raises(TransportError) as error:
            source.read(0, size + 1)
        source.close()
        assert error.value.code == "transport.range"
        assert len(web.asked) == 1


def test_a_sidecar_from_a_server_without_ranges_comes_whole() -> None:
    with serving(whole(DATA)) as web:
        with pytest.raises(RangesRefused) as refused:
            open_optional(f"{web.url}/x.twinpatch", QUICK)
        assert b"".join(refused.value.source.chunks()) == DATA


def test_what_is_not_an_address_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(TransportError) as error:
        RangeSource("file:///x.twin")
    assert error.value.code == "transport.url"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize("behaviour", [{}, {"hangs_up": True}, {"breaks": 20_000}])
def test_parts_over_tls_with_both_certificates(certificates: Certificates, behaviour: dict[str, Any]) -> None:
    ours: dict[str, Any] = {
        "ca_file": str(certificates.authority),
        "client_cert": str(certificates.device),
        "client_key": str(certificates.directory / "device.key"),
    }
    with serving(parts(DATA, **behaviour), tls=certificates.context(asks=True)) as web:
        assert fetch(web, **ours) == wanted()
        assert connections(web) == (len(web.asked) if behaviour else 1)
        assert fetch(web, FAR, ahead=1 << 20, **ours) == wanted(FAR)


def test_parts_are_not_fetched_from_a_stranger_nor_without_encryption(certificates: Certificates) -> None:
    ours: dict[str, Any] = {"ca_file": str(certificates.authority)}
    with serving(parts(DATA)) as plain:
        moved = say(302, Location=f"{plain.url}/x.twin")
        with serving(moved, tls=certificates.context()) as web:
            assert failure(web).code == "transport.tls"
            assert failure(web, **ours).code == "transport.redirect"
        assert not plain.asked


def test_nothing_stays_open() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with serving(parts(DATA), say(302, Location="/y"), parts(DATA, breaks=9), say(500), whole(DATA)) as web:
        with pytest.raises(RangesRefused) as refused:
            fetch(web)
        assert b"".join(refused.value.source.chunks()) == DATA
    assert len(list(Path("/proc/self/fd").iterdir())) == before
