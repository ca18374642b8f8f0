"""Servers that drip: no byte that comes now and then holds a worker, nor the device behind it."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from http_bench import Answer, Asked, Web, give, serving
from range_bench import asked_part, parts
from tls_bench import Certificates

import waits
from image_samples import make_sample
from twinslot.config.options import Config, DeviceConfig, SlotsConfig, TrustConfig
from twinslot.core.errors import TransportError
from twinslot.engine import streams
from twinslot.transport.http import lookup
from twinslot.transport.http.options import HttpSettings
from twinslot.transport.http.ranges import RangeSource
from twinslot.transport.http.timed_socket import TimedSocket
from twinslot.worker import launch
from twinslot.worker.launch import Worker
from twinslot.worker.protocol import Kind
from twinslot.worker.stream import WorkerStream, open_remote

DATA = make_sample().data
QUICK = HttpSettings(connect_timeout=waits.HANG, read_timeout=0.2, retries=0, retry_wait=0.01)


def drips(front: bytes, drop: bytes) -> Answer:
    """Begins, and goes on with a drop every now and then."""

    def answer(asked: Asked) -> None:
        asked.wfile.write(front)
        while not asked.server.ended.wait(0.02):
            asked.wfile.write(drop)

    return answer


def chunked(front: bytes, drop: bytes, *, whole: bool = False) -> Answer:
    """A part of the file in chunks: all of it or nothing, and then something without end."""

    def answer(asked: Asked) -> None:
        first, last = asked_part(asked)
        last = min(last, len(DATA) - 1)
        piece = DATA[first : last + 1]
        head = (
            f"HTTP/1.1 206 OK\r\nContent-Range: bytes {first}-{last}/{len(DATA)}\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        body = b"%x\r\n%b\r\n" % (len(piece), piece) if whole else b""
        drips(head.encode() + body + front, drop)(asked)

    return answer


@contextlib.contextmanager
def dripping(count: int, left: float = waits.HANG) -> Iterator[TimedSocket]:
    """The near end of a connection over which so many bytes come, one each hundredth of a second, and then the end.

    Args:
        count: How many.
        left: Seconds of the deadline.
    """
    near, far = socket.socketpair()
    ended = threading.Event()

    def drip() -> None:
        with far, contextlib.suppress(OSError):
            for _ in range(count):
                far.sendall(b"x")
                if ended.wait(0.01):
                    return

    thread = threading.Thread(target=drip)
    thread.start()
    timed = TimedSocket(near, lambda: left, lambda: None)
    try:
        yield timed
    finally:
        ended.set()
        thread.join()
        timed.close()


@pytest.mark.verifies("S28")
def test_a_byte_now_and_then_does_not_stretch_a_wait() -> None:
    with dripping(300) as timed:
        timed.bound(0.7)  # many drops long, so that on a busy machine, too, none is so late that it would end the wait
        with pytest.raises(TimeoutError, match=r"nothing complete within 0\.7 seconds"):
            timed.reader().readline()


@pytest.mark.verifies("S28")
def test_no_wait_is_longer_than_what_is_left_of_the_deadline() -> None:
    with dripping(300, 0.2) as timed:
        timed.bound(waits.HANG)
        with pytest.raises(TimeoutError, match=r"nothing complete within 0\.2 seconds"):
            timed.reader().readline()


HEADS = {
    "a status line": drips(b"HTTP/1.1 2", b"0"),
    "a header": drips(b"HTTP/1.1 200 OK\r\nServer: ", b"x"),
    "headers": drips(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    "100 Continue": drips(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "103 Early Hints": drips(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
    "a chunk's extension": chunked(b"5;x=", b"y"),
    "a chunk's length": chunked(b"", b"0"),
}


@pytest.mark.verifies("S28")
@pytest.mark.parametrize("what", HEADS)
def test_whatever_drips_before_the_first_byte_ends_with_the_read_timeout(what: str) -> None:
    with serving(HEADS[what]) as web, contextlib.closing(RangeSource(f"{web.url}/x.twin", QUICK)) as source:
        with pytest.raises(TransportError) as error:
            source.read(0, 100)
    assert error.value.code == "transport.network"
    assert error.value.found == "nothing complete within 0.2 seconds"


@pytest.mark.verifies("S28")
@pytest.mark.parametrize("what", HEADS)
def test_whatever_drips_the_deadline_of_the_whole_download_counts(what: str) -> None:
    patient = replace(QUICK, read_timeout=waits.HANG, connect_timeout=waits.HANG, retries=1000, deadline=0.2)
    with serving(HEADS[what]) as web, contextlib.closing(RangeSource(f"{web.url}/x.twin", patient)) as source:
        with pytest.raises(TransportError) as error:
            source.read(0, 100)
    assert error.value.code == "transport.deadline"


def test_a_flood_of_headers_is_bounded_in_bytes() -> None:
    flood = drips(b"", b"HTTP/1.1 100 Continue\r\nX: " + bytes(60_000).replace(b"\0", b"x") + b"\r\n\r\n")
    with (
        serving(flood) as web,
        contextlib.closing(RangeSource(web.url, replace(QUICK, read_timeout=waits.HANG))) as source,
    ):
        with pytest.raises(TransportError, match="head is too long"):
            source.read(0, 100)


def test_interim_answers_without_end_are_given_up_however_fast_they_come() -> None:
    many = drips(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100, b"")
    with (
        serving(many) as web,
        contextlib.closing(RangeSource(web.url, replace(QUICK, read_timeout=waits.HANG))) as source,
    ):
        with pytest.raises(TransportError, match="interim answers without end"):
            source.read(0, 100)


@pytest.mark.slow
def test_trailers_without_end_cost_the_connection_and_nothing_else() -> None:
    endless = chunked(b"0\r\n", b"X: y\r\n", whole=True)
    with (
        serving(endless) as web,
        contextlib.closing(RangeSource(web.url, replace(QUICK, read_timeout=1.0, retries=50))) as source,
    ):
        assert source.read(0, 100) + source.read(100, 100) == DATA[:200]


def test_a_handshake_that_drips_ends_with_the_connect_timeout(tmp_path: Path) -> None:
    with listening(b"\x16\x03\x03\x40\x00\x02") as port:
        settings = replace(QUICK, connect_timeout=0.2, ca_file=str(Certificates(tmp_path).authority))
        with contextlib.closing(RangeSource(f"https://127.0.0.1:{port}/", settings)) as source:
            with pytest.raises(TransportError) as error:
                source.read(0, 100)
    assert error.value.code == "transport.network"


def test_a_proxy_that_drips_its_answer_ends_with_the_connect_timeout() -> None:
    with listening(b"HTTP/1.1 200 OK\r\nX: ") as port:
        settings = replace(QUICK, connect_timeout=0.2, proxy=f"http://127.0.0.1:{port}")
        with contextlib.closing(RangeSource("https://updates.example/x.twin", settings)) as source:
            with pytest.raises(TransportError) as error:
                source.read(0, 100)
    assert error.value.code == "transport.network"


def test_a_resolver_that_does_not_come_back_ends_with_the_connect_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    back = threading.Event()

    def look(host: str, port: int, flags: int = 0) -> lookup.Places:
        if flags:
            raise OSError("no number")
        back.wait(waits.HANG)
        return []

    monkeypatch.setattr(lookup, "_look", look)
    monkeypatch.setattr(lookup, "_resolver", lookup._Resolver())
    settings = replace(QUICK, connect_timeout=0.2, retries=1)
    with contextlib.closing(RangeSource("http://updates.example/", settings)) as source:
        with pytest.raises(TransportError, match="not found in time"):
            source.read(0, 100)
    back.set()


@contextlib.contextmanager
def listening(front: bytes) -> Iterator[int]:
    """A listener that answers each connection with these bytes, and then a byte now and then; gives its port."""
    ended = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall(front)
            while not ended.wait(0.02):
                connection.sendall(b"\0")

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],)).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


# The engine is gone: so is the worker, whatever it waits for.


@contextlib.contextmanager
def full() -> Iterator[str]:
    """A listener whose queue is full: connections to it neither stand nor fail."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, contextlib.ExitStack() as stack:
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"


def asked(web: Web) -> None:
    """Wait until the server was asked for something."""
    for _ in range(int(waits.HANG / 0.02)):
        if web.asked:
            return
        web.ended.wait(0.02)
    raise AssertionError("the worker asked for nothing")


def leaves(worker: Worker) -> None:
    """The engine hangs up without another word, as when it is killed."""
    assert worker._process is not None
    worker.channel.close()
    try:
        assert worker._process.wait(waits.HANG) == 0
    finally:
        worker.close()


def both_leave(stream: WorkerStream) -> None:
    """So do the worker that parses and the one that has the connections."""
    assert stream._relay is not None
    leaves(stream._worker)
    leaves(stream._relay)


def fetching(url: str, **more: float) -> WorkerStream:
    """A real worker and its relay with the patience of a day."""
    day = 86_400.0
    settings = HttpSettings(connect_timeout=day, read_timeout=day, retries=10_000, retry_wait=day)
    stream = open_remote(launch.start, {"limits": {}, "url": url, "http": asdict(settings) | more})
    stream._worker.receive(Kind.FETCHED)
    return stream


@pytest.mark.verifies("S28")
@pytest.mark.parametrize("what", ["a header", "100 Continue", "a chunk's extension"])
def test_a_worker_that_waits_for_dripping_heads_leaves_with_its_engine(what: str) -> None:
    with serving(HEADS[what]) as web:
        stream = fetching(web.url)
        asked(web)
        both_leave(stream)


def test_a_worker_that_waits_for_a_dripping_body_leaves_with_its_engine() -> None:
    def body(request: Asked) -> None:
        request.start(206, 64, Content_Range=f"bytes 0-63/{len(DATA)}")
        drips(b"", b"T")(request)

    with serving(body) as web:
        stream = fetching(web.url, rate_floor=0)
        asked(web)
        both_leave(stream)


def test_a_worker_that_waits_for_a_connection_leaves_with_its_engine() -> None:
    with full() as url:
        both_leave(fetching(url))


def test_a_worker_that_pauses_between_two_tries_leaves_with_its_engine() -> None:
    with serving(lambda request: request.start(503, 0, Retry_After="86400")) as web:
        stream = fetching(web.url)
        asked(web)
        both_leave(stream)


def test_a_worker_that_reads_a_silent_pipe_leaves_with_its_engine() -> None:
    reader, writer = os.pipe()
    worker = launch.start("read")
    WorkerStream(worker, {"limits": {}}, reader)
    worker.receive(Kind.FETCHED)
    leaves(worker)
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize("kind", ["fetch", "read", "relay", "verify"])
def test_a_worker_that_was_never_asked_leaves_with_its_engine(kind: str) -> None:
    leaves(launch.start(kind))


# Files need nothing that servers can hold.


@pytest.mark.verifies("S28")
def test_an_image_from_a_file_is_read_while_servers_hold_every_worker_of_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for: list[str] = []

    def connect(kind: str) -> Worker:
        """As systemd with all of `MaxConnections` used: the next one of that kind is not served."""
        asked_for.append(kind)
        if kind in ("fetch", "relay"):
            raise TransportError("no worker is free", code="worker-silent")
        return launch.start(kind)

    image = tmp_path / "x.twin"
    image.write_bytes(DATA)
    monkeypatch.setattr(launch, "connect", connect)
    with image.open("rb") as file, contextlib.closing(open_with_service(file.fileno())) as stream:
        assert stream.head().manifest == make_sample().manifest_bytes
    assert asked_for == ["read"]


def test_a_worker_for_files_asks_no_server() -> None:
    with serving(give(DATA)) as web:
        stream = WorkerStream(launch.start("read"), {"limits": {}, "url": web.url, "http": asdict(QUICK)})
        with contextlib.closing(stream), pytest.raises(Exception, match="no network"):
            stream.head()
        assert not web.asked


def open_with_service(source: int) -> WorkerStream:
    slots = {"rootfs": Path("/dev/null")}
    config = Config(
        device=DeviceConfig(compatible=("x",)),
        slots=SlotsConfig(a=slots, b=slots),
        trust=TrustConfig(roles=("engineering",)),
    )
    stream = streams.open_stream(config, source, service_workers=True)
    assert isinstance(stream, WorkerStream)
    return stream


def test_interim_answers_before_the_final_one_are_read_and_forgotten() -> None:
    def hints(request: Asked) -> None:
        for status in (b"100 Continue", b"102 Processing", b"103 Early Hints"):
            request.wfile.write(b"HTTP/1.1 " + status + b"\r\nLink: </x>\r\n\r\n")
        parts(DATA)(request)

    with (
        serving(hints) as web,
        contextlib.closing(RangeSource(web.url, replace(QUICK, read_timeout=waits.HANG))) as source,
    ):
        assert source.read(0, 100) + source.read(300, 100) == DATA[:100] + DATA[300:400]
