"""A reverse proxy that keeps what was said: what a device told a server that does not show it itself."""

from __future__ import annotations

import contextlib
import http.client
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import waits

_HOPS = {"connection", "transfer-encoding", "content-length", "date", "server"}  # ours to say


@dataclass(frozen=True)
class Witnessed:
    """One exchange."""

    method: str
    path: str
    body: bytes
    status: int
    answer: bytes


class Witness(ThreadingHTTPServer):
    """In front of a server.

    Attributes:
        url: Where to ask; the server makes its links of it, since it sees our `Host`.
        heard: All exchanges, oldest first.
    """

    daemon_threads = True

    def __init__(self, server: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url, self.heard = f"http://127.0.0.1:{self.server_address[1]}", list[Witnessed]()
        self.behind = str(urllib.parse.urlsplit(server).netloc)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Witness

    def _do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        behind = http.client.HTTPConnection(self.server.behind, timeout=waits.HANG)
        with contextlib.closing(behind):
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOPS}
            behind.request(self.command, self.path, body, headers)
            answer = behind.getresponse()
            content = answer.read()
        self.server.heard.append(Witnessed(self.command, self.path, body, answer.status, content))
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _HOPS:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = _do  # noqa: N815 - as http.server calls them

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def witnessing(server: str) -> Iterator[Witness]:
    """On loopback, in front of the server at this address."""
    witness = Witness(server)
    thread = threading.Thread(target=witness.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield witness
    finally:
        witness.shutdown()
        thread.join()
        witness.server_close()
