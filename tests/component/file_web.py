"""A web server on loopback that serves a folder with ranges, counts what it sent, and can be cut off."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class FileWeb(ThreadingHTTPServer):
    """Owns nothing but its socket; `folder` stays the caller's.

    Attributes:
        sent: Bytes of bodies, by file name.
        left: Bytes that may still be sent before every connection breaks; None: no bound.
        ranges: Whether it knows ranges.
        parts: By file name: after so many answers with a part the whole file comes instead.
        headers: More of them, by file name.
        machines: How many take turns, each with an ETag and a date of its own.
        other: What every second machine gives instead of an image; None: the same.
        answers: By the ending of a file's name: what is done instead of giving it.
        wire: Bytes of requests and answers as HTTP has them, heads included.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.sent: dict[str, int] = {}
        self.left: int | None = None
        self.ranges = True
        self.parts: dict[str, int] = {}
        self.headers: dict[str, dict[str, str]] = {}
        self.answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.asked: list[str] = []
        self.machines = 1
        self.other: Path | None = None
        self.wire = 0
        self.ended = threading.Event()
        self.guard = threading.Lock()

    def url(self, name: str) -> str:
        """Of one file."""
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FileWeb

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.server.wire += len(self.requestline) + 2 + len(bytes(self.headers))
        for ending, answer in self.server.answers.items():
            if self.path.endswith(ending):
                with contextlib.suppress(OSError):
                    answer(self)
                return
        path = self.server.folder / self.path.strip("/")
        if not path.is_file():
            self.send_error(404)
            return
        machine = len(self.server.asked) % self.server.machines
        etag = f'"{path.stat().st_mtime_ns}-{machine}"'
        if self.headers.get("If-None-Match") == etag:
            self.send_response(304)
            self.send_header("ETag", etag)
            self.end_headers()
            return
        data = (self.server.other if machine and self.server.other else path).read_bytes()
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first, last = (int(wanted[1]), int(wanted[2] or len(data) - 1)) if wanted else (0, len(data) - 1)
        last = min(last, len(data) - 1)
        if wanted and self.server.ranges and self._may_part(path.name):
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        else:
            first, last = 0, len(data) - 1
            self.send_response(200)
        self.send_header("ETag", etag)
        if self.server.machines > 1:
            self.send_header("Last-Modified", f"Mon, 02 Nov 2026 10:00:0{machine} GMT")
        for header, value in self.server.headers.get(path.name, {}).items():
            self.send_header(header, value)
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        self._send(path.name, data[first : last + 1])

    def flush_headers(self) -> None:
        """Counted on the way."""
        self.server.wire += sum(map(len, self._headers_buffer)) if hasattr(self, "_headers_buffer") else 0
        super().flush_headers()

    def _may_part(self, name: str) -> bool:
        with self.server.guard:
            left = self.server.parts.get(name, 1)
            if name in self.server.parts:
                self.server.parts[name] = max(left - 1, 0)
        return left > 0

    def _send(self, name: str, data: bytes) -> None:
        for at in range(0, len(data), 4096):
            piece = data[at : at + 4096]
            with self.server.guard:
                if self.server.left is not None:
                    if self.server.left < len(piece):
                        self.close_connection = True
                        self.connection.close()
                        return
                    self.server.left -= len(piece)
                self.server.wire += len(piece)
                self.server.sent[name] = self.server.sent.get(name, 0) + len(piece)
            self.wfile.write(piece)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing on the console."""


@contextlib.contextmanager
def serving_files(folder: Path) -> Iterator[FileWeb]:
    """Run one for the `with` block."""
    web = FileWeb(folder)
    thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield web
    finally:
        web.ended.set()
        web.shutdown()
        thread.join()
        web.server_close()
