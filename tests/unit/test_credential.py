"""The token of an update server: who gets it, and in which requests it stands."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinslot.core.address import parse_address
from twinslot.core.errors import DeviceError
from twinslot.transport.http.credential import FETCHES, HEAD_MAX, HeadEditor, Unfit, editor_for
from twinslot.transport.http.options import HttpSettings

METHODS = frozenset({"GET", "POST", "PUT"})
LINE = b"Authorization: TargetToken secret"
SERVER = "https://hawkbit.example:8443"


def editor(methods: frozenset[str] = METHODS) -> HeadEditor:
    return HeadEditor(LINE.decode(), methods)


def settings(token: Path, server: str = SERVER) -> HttpSettings:
    return HttpSettings(credential_for=server, credential_kind="TargetToken", credential_file=str(token))


@pytest.fixture
def token(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("secret\n")
    path.chmod(0o400)
    return path


REQUEST = st.builds(
    lambda body, name: (
        b"POST /x HTTP/1.1\r\nHost: h\r\n%s: %d\r\n\r\n" % (name, len(body)),
        body,
    ),
    st.binary(max_size=200),
    st.sampled_from([b"Content-Length", b"content-length", b"CONTENT-LENGTH"]),
)
PLAIN = st.just((b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n", b""))


@given(st.lists(st.one_of(REQUEST, PLAIN), max_size=6), st.data())
def test_each_head_gets_the_line_once_however_the_bytes_come(
    requests: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    whole = b"".join(head + body for head, body in requests)
    wanted = b"".join(head.replace(b"\r\n", b"\r\n" + LINE + b"\r\n", 1) + body for head, body in requests)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    it = editor()
    found = b"".join(it.feed(whole[a:b]) for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True))
    assert found == wanted


UNFIT = {
    "another method": b"DELETE / HTTP/1.1\r\nHost: h\r\n\r\n",
    "chunks": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
    "a length with a sign": b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    "a folded length": b"POST / HTTP/1.1\r\nContent-Length:\r\n 5\r\n\r\n",
    "an authorization of its own": b"GET / HTTP/1.1\r\nauthorization: x\r\n\r\n",
    "an upgrade": b"GET / HTTP/1.1\r\nUpgrade: h2c\r\n\r\n",
    "a bare line feed": b"GET / HTTP/1.1\r\nHost: h\nContent-Length: 5\r\n\r\n",
    "a head without end": b"GET / HTTP/1.1\r\nx: " + b"y" * HEAD_MAX,
    "no request": b"\r\n\r\n",
}


@pytest.mark.verifies("S22")
@pytest.mark.parametrize("data", UNFIT.values(), ids=UNFIT.keys())
def test_what_is_no_request_of_ours_gets_no_token(data: bytes) -> None:
    with pytest.raises(Unfit):
        editor().feed(data)


@pytest.mark.verifies("S22")
def test_a_fetching_worker_can_ask_for_files_and_no_more() -> None:
    assert LINE in editor(FETCHES).feed(b"GET /x HTTP/1.1\r\n\r\n")
    with pytest.raises(Unfit):
        editor(FETCHES).feed(b"POST /x/feedback HTTP/1.1\r\nContent-Length: 0\r\n\r\n")


@given(st.binary(max_size=300))
def test_any_bytes_are_passed_on_held_or_refused(data: bytes) -> None:
    try:
        out = editor().feed(data)
    except Unfit:
        return
    assert out == b"" or LINE in out


ELSEWHERE = [
    "https://hawkbit.example",
    "http://hawkbit.example:8443",
    "https://other.example:8443",
    "https://hawkbit.example.evil:8443",
    "https://cdn.hawkbit.example:8443",
]


@pytest.mark.verifies("S22")
@pytest.mark.parametrize("url", ELSEWHERE)
def test_no_other_server_gets_the_token(token: Path, url: str) -> None:
    assert editor_for(parse_address(url + "/x"), settings(token), METHODS) is None
    assert editor_for(parse_address(SERVER + "/x"), settings(token), METHODS) is not None


def test_a_token_that_was_renewed_counts_from_the_next_connection_on(token: Path) -> None:
    token.chmod(0o600)
    token.write_text("another\n")
    made = editor_for(parse_address(SERVER), settings(token), METHODS)
    assert made is not None
    assert b"TargetToken another\r\n" in made.feed(b"GET / HTTP/1.1\r\n\r\n")


@pytest.mark.verifies("S22")
def test_a_token_that_every_user_may_read_is_refused(token: Path) -> None:
    token.chmod(0o444)
    with pytest.raises(DeviceError, match="every user may read"):
        editor_for(parse_address(SERVER), settings(token), METHODS)


@pytest.mark.parametrize("text", ["", "two words", "secr\xe9t", "x" * 600, "\n", "a\rb"])
def test_a_file_without_a_token_is_refused_and_never_shown(token: Path, text: str) -> None:
    token.chmod(0o600)
    token.write_text(text)
    with pytest.raises(DeviceError, match="holds no token") as caught:
        editor_for(parse_address(SERVER), settings(token), METHODS)
    assert text.strip() == "" or text not in str(caught.value)


def test_a_token_that_is_not_there_is_a_device_error(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="cannot be read"):
        editor_for(parse_address(SERVER), settings(tmp_path / "none"), METHODS)
