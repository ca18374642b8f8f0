"""Servers and networks that misbehave, on loopback."""

from __future__ import annotations

import contextlib
import random
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from http_bench import Asked, Web, asked_from, give, give_whole, say, serving
from tls_bench import Certificates

import waits
from twinslot.core.errors import DeviceError, TransportError, TwinslotError
from twinslot.transport.http.download import HttpSettings, HttpSource

DATA = random.Random(3).randbytes(700_001)
QUICK = {"connect_timeout": waits.HANG, "read_timeout": waits.HANG, "retries": 3, "retry_wait": 0.01}


def source(web: Web, **settings: Any) -> HttpSource:
    return HttpSource(f"{web.url}/x.twin", HttpSettings(**(QUICK | settings)))


def download(web: Web, **settings: Any) -> bytes:
    return b"".join(source(web, **settings).chunks())


def failure(web: Web, **settings: Any) -> TwinslotError:
    with pytest.raises(TwinslotError) as error:
        download(web, **settings)
    return error.value


def ranges(web: Web) -> list[str | None]:
    return [request.get("range") for request in web.asked]


def test_a_file_arrives_whole_and_uncompressed_in_one_request() -> None:
    with serving(give(DATA)) as web:
        assert download(web) == DATA
        assert web.asked[0]["accept-encoding"] == "identity"
        assert ranges(web) == [None]


def test_a_reset_in_the_middle_goes_on_where_it_stopped_and_only_with_the_same_file() -> None:
    with serving(give(DATA, breaks=200_000, ETag='"one"'), give(DATA, ETag='"one"')) as web:
        assert download(web) == DATA
        assert web.asked[1]["if-range"] == '"one"'
        first = int(str(ranges(web)[1]).removeprefix("bytes=").removesuffix("-"))
        assert 0 < first <= 200_000


def test_a_connection_that_closes_early_is_resumed_like_a_reset() -> None:
    def short(asked: Asked) -> None:
        asked.start(200, len(DATA))
        asked.wfile.write(DATA[:300_000])

    with serving(short, give(DATA)) as web:
        assert download(web) == DATA
        assert ranges(web) == [None, "bytes=300000-"]


def test_a_server_that_breaks_every_answer_but_lets_us_forward_is_followed_to_the_end() -> None:
    with serving(give(DATA, breaks=50_000)) as web:
        assert download(web, retries=1) == DATA
        assert len(web.asked) >= 14


def test_a_part_that_ends_early_although_sound_is_asked_for_the_rest() -> None:
    def part(asked: Asked) -> None:
        start = asked_from(asked)
        end = min(start + 400_000, len(DATA))
        asked.start(206, end - start, Content_Range=f"bytes {start}-{end - 1}/{len(DATA)}")
        asked.wfile.write(DATA[start:end])

    with serving(give(DATA, breaks=10_000), part, give(DATA)) as web:
        assert download(web) == DATA


def test_a_server_without_ranges_is_skipped_forward() -> None:
    with serving(give_whole(DATA, breaks=200_000), give_whole(DATA)) as web:
        assert download(web) == DATA


def test_what_a_server_without_ranges_sends_again_is_counted() -> None:
    def short(asked: Asked) -> None:
        asked.start(200, len(DATA))
        asked.wfile.write(DATA[:300_000])

    with serving(short, give_whole(DATA)) as web:
        download = source(web)
        assert b"".join(download.chunks()) == DATA
        assert download.fetched == 300_000 + len(DATA)


def test_a_server_that_always_breaks_at_the_same_place_is_given_up() -> None:
    with serving(give_whole(DATA, breaks=200_000)) as web:
        error = failure(web, retries=2)
        assert error.code == "transport.network"
        assert len(web.asked) <= 6, "bytes that were there before are no progress"


def test_dripping_a_byte_for_each_connection_is_no_way_to_hold_us() -> None:
    with serving(give(DATA, breaks=1)) as web:
        assert failure(web, retries=3).code == "transport.network"
        assert len(web.asked) == 4


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 416, 451, 304, 204, 206])
def test_an_answer_that_no_retry_mends_is_final(status: int) -> None:
    with serving(say(status)) as web:
        error = failure(web)
        assert isinstance(error, TransportError)
        assert error.code == f"transport.http-{status}"
        assert len(web.asked) == 1


def test_a_missing_file_is_said_in_words_and_without_the_token_of_its_address() -> None:
    with serving(say(404)) as web, pytest.raises(TransportError) as error:
        list(HttpSource(f"{web.url}/x.twin?token=geheim").chunks())
    assert str(error.value) == (
        f"the server does not give '{web.url}/x.twin': expected '200', found '404 Not Found'"
        " (hint: the file is not on the server)"
    )
    assert web.asked[0]["path"] == "/x.twin?token=geheim"


@pytest.mark.parametrize("status", [500, 502, 503, 408, 429])
def test_a_server_that_is_down_twice_is_asked_a_third_time(status: int) -> None:
    with serving(say(status), say(status), give(DATA)) as web:
        assert download(web) == DATA
        assert len(web.asked) == 3


def test_a_server_that_stays_down_is_given_up_after_the_retries() -> None:
    with serving(say(503)) as web:
        error = failure(web, retries=2)
        assert error.code == "transport.network"
        assert "503" in str(error)
        assert len(web.asked) == 3


def test_pauses_double_up_to_a_bound_are_jittered_and_are_heard() -> None:
    slept: list[float] = []
    with serving(say(503)) as web:
        settings = HttpSettings(retries=8, retry_wait=30.0)
        download = HttpSource(f"{web.url}/x.twin", settings, sleep=slept.append)
        heard = 0
        with contextlib.suppress(TransportError):
            for chunk in download.chunks():
                assert chunk == b""
                heard += 1
    assert heard == len(slept), "a sign of life before each nap"
    assert max(slept) <= 10.0, "no nap is longer than a tick"
    longest = [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert sum(longest) / 2 <= sum(slept) <= sum(longest)
    assert 0.25 <= slept[0] <= 0.5


def test_a_port_without_a_listener_is_a_failure_with_the_systems_words() -> None:
    with serving(give(DATA)) as web:
        pass
    error = failure(web)
    assert error.found == "connection refused"
    assert error.hint == "is the address right, and does the server run?"


@pytest.mark.slow
def test_a_stalled_answer_is_broken_off_and_resumed() -> None:
    def stall(asked: Asked) -> None:
        asked.start(200, len(DATA))
        asked.wfile.write(DATA[:100_000])
        left.append(web.ended.wait(waits.HANG))

    left: list[bool] = []
    with serving(stall, give(DATA)) as web:
        assert download(web, read_timeout=2.0) == DATA
        assert left == [], "the client left, not the server"
        assert ranges(web) == [None, "bytes=100000-"]


@pytest.mark.slow
def test_an_answer_that_never_begins_is_broken_off() -> None:
    def mute(_: Asked) -> None:
        web.ended.wait(waits.HANG)

    with serving(mute, give(DATA)) as web:
        assert download(web, read_timeout=2.0) == DATA


@pytest.mark.slow
def test_a_trickle_below_the_rate_floor_is_too_slow() -> None:
    def trickle(asked: Asked) -> None:
        start = asked_from(asked)
        headers = {"Content_Range": f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"} if start else {}
        asked.start(206 if start else 200, len(DATA) - start, **headers)
        for at in range(start, len(DATA), 10):
            asked.wfile.write(DATA[at : at + 10])
            if web.ended.wait(0.05):
                return

    with serving(trickle) as web:
        error = failure(web, read_timeout=1.5, rate_floor=10_000, retries=1)
    assert error.code == "transport.too-slow"
    assert "bytes in" in str(error)


@pytest.mark.slow
def test_a_trickle_after_a_fast_start_is_too_slow_as_well() -> None:
    def slows_down(asked: Asked) -> None:
        asked.start(200, len(DATA))
        asked.wfile.write(DATA[:500_000])
        for at in range(500_000, len(DATA)):
            asked.wfile.write(DATA[at : at + 1])
            if web.ended.wait(0.02):
                return

    with serving(slows_down, give(DATA)) as web:
        assert download(web, read_timeout=2.0, rate_floor=1000) == DATA
        assert len(web.asked) == 2


def test_our_own_slowness_is_not_the_servers() -> None:
    with serving(give(DATA)) as web:
        got, now = b"", [0.0]
        settings = HttpSettings(read_timeout=waits.HANG, rate_floor=10**9, retries=0)
        for chunk in HttpSource(f"{web.url}/x.twin", settings, clock=lambda: now[0]).chunks():
            got += chunk
            now[0] += 10 * waits.HANG  # which pass while it waits for us
        assert got == DATA
        assert len(web.asked) == 1


def test_the_whole_download_has_a_deadline() -> None:
    def slowly(asked: Asked) -> None:
        asked.start(200, len(DATA))
        for at in range(0, len(DATA), 1000):
            asked.wfile.write(DATA[at : at + 1000])
            if web.ended.wait(0.02):
                return

    with serving(slowly) as web:
        error = failure(web, deadline=0.3)
    assert error.code == "transport.deadline"


def test_a_deadline_ends_pauses_too() -> None:
    with serving(say(503)) as web:
        assert failure(web, deadline=0.3, retries=10_000, retry_wait=0.05).code == "transport.deadline"
        assert len(web.asked) < 100, "ten thousand tries are left"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"ETag": '"one"'}, {"ETag": '"two"'}),
        ({"Last_Modified": "Mon, 02 Nov 2026 10:00:00 GMT"}, {"Last_Modified": "Tue, 03 Nov 2026 10:00:00 GMT"}),
    ],
)
@pytest.mark.parametrize("again", [give, give_whole])
def test_a_file_that_was_replaced_on_the_server_is_never_joined_to_its_predecessor(
    first: dict[str, str], second: dict[str, str], again: Any
) -> None:
    other = DATA[:1000] + bytes(1000) + DATA[2000:]
    with serving(give(DATA, breaks=200_000, **first), again(other, **second)) as web:
        error = failure(web)
    assert isinstance(error, TransportError)
    assert error.code == "transport.changed"
    assert str(error).endswith("(hint: install again)")


@pytest.mark.parametrize("again", [give, give_whole])
def test_a_machine_behind_the_same_name_with_its_own_etag_and_date_has_the_same_file(again: Any) -> None:
    first: dict[str, Any] = {"ETag": '"one"', "Last_Modified": "Mon, 02 Nov 2026 10:00:00 GMT"}
    second: dict[str, Any] = {"ETag": '"two"', "Last_Modified": "Tue, 03 Nov 2026 10:00:00 GMT"}
    answers = [give(DATA, breaks=200_000, **first), again(DATA, breaks=300_000, **second), give(DATA, **first)]
    with serving(*answers) as web:
        assert download(web) == DATA
        assert "if-range" not in web.asked[-1]


def test_a_file_of_another_length_was_replaced() -> None:
    with serving(give(DATA, breaks=200_000), give(DATA + b"x")) as web:
        assert failure(web).code == "transport.changed"


def test_a_file_that_is_shorter_than_what_we_have_was_replaced() -> None:
    with serving(give(DATA, breaks=200_000), say(416, Content_Range="bytes */1000")) as web:
        error = failure(web)
    assert (error.code, error.found) == ("transport.changed", "bytes */1000")


def test_a_weak_etag_promises_nothing_and_is_not_sent() -> None:
    with serving(give(DATA, breaks=200_000, ETag='W/"one"'), give(DATA, ETag='W/"two"')) as web:
        assert download(web) == DATA
        assert "if-range" not in web.asked[1]


def test_a_part_without_its_date_is_no_other_file() -> None:
    first = {"ETag": '"one"', "Last_Modified": "Mon, 02 Nov 2026 10:00:00 GMT"}
    with serving(give(DATA, breaks=200_000, **first), give(DATA, ETag='"one"')) as web:
        assert download(web) == DATA  # RFC 9110, section 15.3.7: a 206 to If-Range need not repeat it


WRONG_RANGES = [
    None,
    "bytes 0-700000/700001",
    "bytes 199999-700000/700001",
    "bytes 200000-199999/700001",
    "bytes 200000-700001/700001",
    "bytes 200000-700000",
    "octets 200000-700000/700001",
]


@pytest.mark.parametrize(
    ("content_range", "length"),
    [(text, length) for text in WRONG_RANGES for length in (None, 500_001)]
    + [("bytes 200000-299999/700001", 500_001)],  # sound, but for the length of the answer
)
def test_another_range_than_the_one_asked_for_is_refused(content_range: str | None, length: int | None) -> None:
    def short(asked: Asked) -> None:
        asked.start(200, len(DATA))
        asked.wfile.write(DATA[:200_000])

    def other(asked: Asked) -> None:
        headers = {"Content_Range": content_range} if content_range else {}
        asked.start(206, length, **headers)
        asked.wfile.write(DATA[200_000:])

    with serving(short, other) as web:
        error = failure(web)
    assert (error.code, error.expected) == ("transport.range", "bytes 200000-")


def test_a_compressed_answer_is_refused() -> None:
    with serving(give(DATA, Content_Encoding="gzip")) as web:
        error = failure(web)
    assert (error.code, error.found) == ("transport.encoding", "gzip")


def test_a_chunked_answer_without_a_length_is_read() -> None:
    def chunked(asked: Asked) -> None:
        asked.start(200, Transfer_Encoding="chunked")
        for at in range(0, len(DATA), 100_000):
            piece = DATA[at : at + 100_000]
            asked.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        asked.wfile.write(b"0\r\n\r\n")

    with serving(chunked) as web:
        assert download(web) == DATA


@pytest.mark.parametrize("ending", [b"", b"ffff\r\nabc", b"nonsense\r\n"])
def test_a_chunked_answer_that_breaks_is_resumed(ending: bytes) -> None:
    def chunked(asked: Asked) -> None:
        asked.start(200, Transfer_Encoding="chunked")
        asked.wfile.write(b"%x\r\n%b\r\n%b" % (100_000, DATA[:100_000], ending.replace(b"abc", DATA[100_000:100_003])))

    with serving(chunked, give(DATA)) as web:
        assert download(web) == DATA


def test_redirects_are_followed_with_the_range() -> None:
    moved = say(302, Location="/there%20it/is?a=b#part")
    with serving(moved, give(DATA, breaks=200_000, ETag='"one"'), moved, give(DATA, ETag='"one"')) as web:
        assert download(web) == DATA
        assert [request["path"] for request in web.asked] == ["/x.twin", "/there%20it/is?a=b"] * 2
        assert web.asked[3]["range"].startswith("bytes=")


def test_a_redirect_loop_ends_after_five() -> None:
    with serving(say(301, Location="/x.twin")) as web:
        error = failure(web)
        assert error.code == "transport.redirect"
        assert len(web.asked) == 6


@pytest.mark.parametrize("location", ["", "file:///etc/shadow", "ftp://127.0.0.1/x", "http://[::1", "//a..b/"])
def test_a_redirect_to_nowhere_is_final(location: str) -> None:
    with serving(say(302, Location=location)) as web:
        assert failure(web).code in ("transport.redirect", "transport.url")
        assert len(web.asked) == 1


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x.twin",
        "/srv/x.twin",
        "file:///x.twin",
        "http://",
        "http://:80/",
        "http://host:0/",
        "http://host:99999/",
        "http://host:x/",
        "http://[::1/",
        "http://a..b/",
        f"http://{'a' * 64}/",
        "http://host/a b",
        "http://host/a\r\nHost: other",
        "http://us\x00er/",
    ],
)
def test_what_is_not_an_address_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(TransportError, match="not an address") as error:
        HttpSource(url)
    assert error.value.code == "transport.url"


def test_a_password_in_an_address_is_neither_used_nor_shown() -> None:
    with pytest.raises(TransportError) as error:
        HttpSource("https://nurse:geheim@host/x.twin")
    assert "geheim" not in str(error.value)


def test_a_name_beyond_ascii_is_escaped() -> None:
    with serving(give(DATA)) as web:
        assert b"".join(HttpSource(f"{web.url}/höher/ä%20.twin?ü=1").chunks()) == DATA
        assert web.asked[0]["path"] == "/h%C3%B6her/%C3%A4%20.twin?%C3%BC=1"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\r\n",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200,
        b"\xff" * 70_000,
    ],
)
def test_what_does_not_speak_http_is_retried_and_given_up(raw: bytes) -> None:
    def answer(asked: Asked) -> None:
        asked.wfile.write(raw)

    with serving(answer) as web:
        assert failure(web, retries=1).code == "transport.network"
        assert len(web.asked) == 2


def test_an_environment_with_a_proxy_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serving(give(DATA)) as web:
        assert download(web) == DATA


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


def test_https_with_the_configured_authority(certificates: Certificates) -> None:
    with serving(give(DATA, breaks=200_000), give(DATA), tls=certificates.context()) as web:
        assert download(web, ca_file=str(certificates.authority)) == DATA


def test_a_server_of_another_authority_is_refused_at_once(certificates: Certificates) -> None:
    with serving(give(DATA), tls=certificates.context()) as web:
        error = failure(web, retry_wait=60.0)
        assert error.code == "transport.tls"
        assert not web.asked


def test_a_server_that_asks_for_our_certificate_gets_it(certificates: Certificates) -> None:
    ours = {
        "ca_file": str(certificates.authority),
        "client_cert": str(certificates.device),
        "client_key": str(certificates.directory / "device.key"),
    }
    with serving(give(DATA), tls=certificates.context(asks=True)) as web:
        assert download(web, **ours) == DATA
        assert failure(web, ca_file=ours["ca_file"], retries=1).code == "transport.network"


@pytest.mark.parametrize("which", ["ca_file", "client_cert"])
def test_certificate_files_that_cannot_be_read_are_the_devices_fault(tmp_path: Path, which: str) -> None:
    for path in (tmp_path / "missing.pem", tmp_path / "empty.pem"):
        (tmp_path / "empty.pem").write_bytes(b"")
        with pytest.raises(DeviceError, match=path.name) as error:
            list(HttpSource("https://127.0.0.1:9/x", replace(HttpSettings(), **cast(Any, {which: str(path)}))).chunks())
        assert error.value.code == "device.tls-files"


def test_https_never_leads_to_http(certificates: Certificates) -> None:
    with serving(give(DATA)) as plain:
        moved = say(302, Location=f"{plain.url}/x.twin")
        with serving(moved, tls=certificates.context()) as web:
            error = failure(web, ca_file=str(certificates.authority))
        assert (error.code, plain.asked) == ("transport.redirect", [])


def test_nothing_stays_open() -> None:
    before, threads = len(list(Path("/proc/self/fd").iterdir())), threading.active_count()
    with serving(give(DATA, breaks=200_000), say(302, Location="/y"), say(500), give(DATA)) as web:
        assert download(web) == DATA
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert threading.active_count() == threads
