"""Requests to an update server, through the relay: what comes of servers that are slow, wrong, hostile or choosy."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tls_bench import Certificates

from fakes.hawkbit import FakeHawkbit, serving
from twinslot.core.errors import TransportError, TwinslotError
from twinslot.fleet.ddi import ANSWER_MAX, home, parse_poll
from twinslot.fleet.relay import METHODS
from twinslot.fleet.server import RelayedServer
from twinslot.transport.http.options import HttpSettings
from twinslot.worker.relay import Relay
from twinslot.worker.relayed import RelayClient

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
Play = Callable[[socket.socket, int], None]


class RawServer:
    """Takes connections one by one; what it does with each is told.

    Attributes:
        heads: What was asked.
    """

    def __init__(self, play: Play) -> None:
        self._play, self.heads = play, list[bytes]()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listening.accept()
                with sock, contextlib.suppress(OSError):
                    self.heads.append(sock.recv(65536))
                    self._play(sock, len(self.heads))

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


@contextlib.contextmanager
def raw(play: Play) -> Iterator[RawServer]:
    server = RawServer(play)
    try:
        yield server
    finally:
        server.close()


@contextlib.contextmanager
def asking(url: str, deadline: float = 60.0, **settings: Any) -> Iterator[RelayedServer]:
    """Through a relay with these settings."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    plain = {"schemes": ("http", "https"), "read_timeout": 20.0}
    relay = Relay(theirs, url, HttpSettings.from_dict(plain | settings), METHODS)

    def serve() -> None:
        with contextlib.suppress(TwinslotError):
            relay.run()
        relay.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with ours:
            yield RelayedServer(RelayClient(ours), 0.0, deadline)
    finally:
        thread.join()
        theirs.close()


def said(data: bytes) -> Play:
    return lambda sock, _: sock.sendall(data)


def test_an_answer_without_end_is_cut(tmp_path: Path) -> None:
    def endless(sock: socket.socket, _: int) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n")
        while True:
            sock.sendall(b"x" * 65536)

    with raw(endless) as server, asking(server.url) as it:
        answer = it.ask("GET", server.url)
    assert len(answer.body) == ANSWER_MAX + 1
    with pytest.raises(TransportError, match="cannot be used"):
        parse_poll(home(server.url, "T", "c"), answer.body)


DRIPS = {
    "before the head": b"",
    "in the head": b"HTTP/1.1 200 OK\r\nX: ",
    "in the body": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n",
}


@pytest.mark.verifies("S28")
@pytest.mark.parametrize("begin", DRIPS.values(), ids=DRIPS.keys())
def test_a_server_that_drips_is_given_up_however_it_drips(begin: bytes) -> None:
    def drip(sock: socket.socket, _: int) -> None:
        sock.sendall(begin)
        while True:
            sock.sendall(b"y")
            threading.Event().wait(0.02)

    with raw(drip) as server, asking(server.url, deadline=0.3) as it, pytest.raises(TransportError) as caught:
        it.ask("GET", server.url)
    assert caught.value.code == "transport.network"


WRONG = {
    "nothing": b"",
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a head that breaks off": b"HTTP/1.1 200",
    "a body that breaks off": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}",
    "chunks that are none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a thousand headers": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1000 + b"\r\n",
}


@pytest.mark.verifies("REQ-FLT-02")
@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG.keys())
def test_what_is_no_answer_is_an_error_of_the_network(data: bytes) -> None:
    with raw(said(data)) as server, asking(server.url) as it, pytest.raises(TransportError) as caught:
        it.ask("GET", server.url)
    assert caught.value.code == "transport.network"
    assert len(server.heads) == 3


def test_a_connection_that_breaks_and_a_server_that_fails_are_asked_again() -> None:
    def third_time(sock: socket.socket, number: int) -> None:
        sock.sendall({1: b"", 2: b"HTTP/1.1 502 X\r\nContent-Length: 0\r\n\r\n"}.get(number, OK))

    with raw(third_time) as server, asking(server.url) as it:
        assert it.ask("POST", server.url, {"status": 1}).good
    assert [head.split()[0] for head in server.heads] == [b"POST"] * 3


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    with raw(said(b"HTTP/1.1 302 X\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n")) as server:
        with asking(server.url) as it:
            assert it.ask("GET", server.url).status == 302
    assert len(server.heads) == 1


@pytest.mark.verifies("REQ-FLT-03")
def test_what_it_asks_to_wait_is_kept() -> None:
    busy = b"HTTP/1.1 429 X\r\nRetry-After: 120\r\nContent-Length: 0\r\n\r\n"
    with raw(said(busy)) as server, asking(server.url) as it:
        assert it.ask("GET", server.url).wait == 120
        assert it.wait == 120
    assert len(server.heads) == 1


def test_a_date_until_which_it_asks_to_wait_counts_as_none_since_its_clock_may_be_wrong() -> None:
    busy = b"HTTP/1.1 429 X\r\nRetry-After: Fri, 31 Dec 2099 23:59:59 GMT\r\nContent-Length: 0\r\n\r\n"
    with raw(said(busy)) as server, asking(server.url) as it:
        assert it.ask("GET", server.url).status == 429
        assert it.wait == 0


@pytest.mark.verifies("S22")
def test_the_token_is_added_by_the_relay_for_this_server_alone(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    token.chmod(0o400)
    with raw(said(OK)) as server, raw(said(OK)) as other:
        settings: dict[str, Any] = {
            "credential_for": server.url,
            "credential_kind": "GatewayToken",
            "credential_file": str(token),
        }
        with asking(server.url, **settings) as it:
            it.ask("PUT", f"{server.url}/x", {"a": 1})
            it.ask("GET", f"{other.url}/x")
    assert b"\r\nAuthorization: GatewayToken secret\r\n" in server.heads[0]
    assert b"Authorization" not in other.heads[0]


def test_a_server_that_wants_a_certificate_gets_ours_and_no_token(tmp_path: Path) -> None:
    made = Certificates(tmp_path)
    hawkbit = FakeHawkbit()
    hawkbit.gateway = "unused"
    hawkbit.device("dev-1")
    with serving(hawkbit) as web:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(made.authority))
        tls.load_cert_chain(made.server, tmp_path / "server.key")
        tls.verify_mode = ssl.CERT_REQUIRED
        web.socket = tls.wrap_socket(web.socket, server_side=True)
        url = hawkbit.url.replace("http:", "https:")
        files: dict[str, Any] = {"ca_file": str(made.authority), "client_cert": str(made.device)}
        with asking(url, client_key=str(tmp_path / "device.key"), **files) as it:
            assert it.ask("GET", f"{url}/DEFAULT/controller/v1/dev-1").status == 401  # let in by TLS, no token sent
        with asking(url, ca_file=str(made.authority)) as it, pytest.raises(TransportError):
            it.ask("GET", f"{url}/DEFAULT/controller/v1/dev-1")
    assert [head.get("authorization") for head in web.heads] == [None]
