"""A server that takes reports: any web server that a maker has, as far as a device sees it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class ReportServer(ThreadingHTTPServer):
    """Keeps each body as a file.

    Attributes:
        folder: Where; in the order in which they came.
        status: Of its answers.
        headers: Of its answers.
        loses: Whether it takes the report and then hangs up instead of answering.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.status, self.headers, self.loses = 200, dict[str, str](), False
        self.asked = 0

    @property
    def url(self) -> str:
        """Where it takes them."""
        return f"http://127.0.0.1:{self.server_address[1]}/reports"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ReportServer

    def do_POST(self) -> None:
        self.server.asked += 1
        data = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["Content-Type"] == "application/json"
        if self.server.status == 200:
            count = len(list(self.server.folder.glob("*.json")))
            (self.server.folder / f"{count:04d}.json").write_bytes(data)
        if self.server.loses:
            self.close_connection = True
            return
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def taking_reports(folder: Path) -> Iterator[ReportServer]:
    """One on loopback."""
    folder.mkdir()
    server = ReportServer(folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
