"""A web server on loopback that behaves as it is told, one answer after the other."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[["Asked"], None]


class Asked(BaseHTTPRequestHandler):
    """One request, with what answers need."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.close_connection = True
        headers = {k.lower(): v for k, v in self.headers.items()}
        self.server.asked.append({"path": self.path, "from": str(self.client_address[1]), **headers})
        answers = self.server.answers
        with contextlib.suppress(OSError):  # the client may hang up
            (answers.pop(0) if len(answers) > 1 else answers[0])(self)

    def start(self, status: int, length: int | None = None, **headers: str) -> None:
        """Status line and headers."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        self.end_headers()

    def reset(self) -> None:
        """End the connection with a RST, as a dying server or network does."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing on the console."""


@dataclass
class Web:
    """The server as tests see it."""

    url: str
    asked: list[dict[str, str]]
    ended: threading.Event = field(default_factory=threading.Event)  # set when the test is over, to end stalls


class Server(ThreadingHTTPServer):
    """Answers in order; the last one stays."""

    daemon_threads = False  # so that closing waits for every answer, and for its descriptors
    block_on_close = True

    def __init__(self, answers: list[Answer], place: str = "127.0.0.1") -> None:
        super().__init__((place, 0), Asked)
        self.answers = answers
        self.asked: list[dict[str, str]] = []
        self.ended = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news."""


@contextlib.contextmanager
def serving(*answers: Answer, tls: ssl.SSLContext | None = None) -> Iterator[Web]:
    """A running server with these answers."""
    server = Server(list(answers))
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    scheme = "https" if tls else "http"
    try:
        yield Web(f"{scheme}://127.0.0.1:{server.server_address[1]}", server.asked, server.ended)
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()


def asked_from(asked: Asked) -> int:
    """The first byte that is asked for."""
    return int(asked.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))


def give(data: bytes, *, breaks: int | None = None, **headers: str) -> Answer:
    """The file, or the part of it that is asked for; `breaks`: reset after so many bytes of this answer."""

    def answer(asked: Asked) -> None:
        start = asked_from(asked)
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        asked.start(206 if start else 200, len(data) - start, **headers)
        asked.wfile.write(data[start:][:breaks])
        if breaks is not None:
            asked.reset()

    return answer


def give_whole(data: bytes, *, breaks: int | None = None, **headers: str) -> Answer:
    """As a server that knows no ranges."""

    def answer(asked: Asked) -> None:
        asked.start(200, len(data), **headers)
        asked.wfile.write(data[:breaks])
        if breaks is not None:
            asked.reset()

    return answer


def say(status: int, **headers: str) -> Answer:
    """A status and nothing else."""
    return lambda asked: asked.start(status, 0, **headers)
