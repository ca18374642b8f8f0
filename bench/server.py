"""A web server on loopback, in a process of its own, that counts every byte on its connections.

It serves one folder: GET and HEAD, ranges (several as multipart/byteranges) with `If-Range`, ETags, kept connections;
nothing of it is clever, so that no client is favoured. It counts TCP payload in both directions, headers included.
"""

from __future__ import annotations

import argparse
import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Self

_RANGES: Final = re.compile(r"bytes=((?:\d+-\d*)(?:, ?\d+-\d*)*)")
_BOUNDARY: Final = "twinslot-bench"
_COUNTERS: Final = "/.counters"  # not counted itself
_SEND: Final = 1 << 20


@dataclass
class Counters:
    """Bytes and requests since the last reset."""

    sent: int = 0
    received: int = 0
    requests: int = 0


class _CountedReader:
    """A connection's input, counting."""

    def __init__(self, stream: Any) -> None:
        self._stream, self.count = stream, 0

    def readline(self, *sizes: int) -> bytes:
        line: bytes = self._stream.readline(*sizes)
        self.count += len(line)
        return line

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or a kept connection waits 40 ms for an acknowledgement at each answer
    folder = Path()
    counters = Counters()
    guard = threading.Lock()

    def setup(self) -> None:
        super().setup()
        self.rfile = self._reader = _CountedReader(self.rfile)  # type: ignore[assignment]
        self._sent = 0

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""

    def flush_headers(self) -> None:
        """As the base class, counting."""
        self._sent += sum(map(len, getattr(self, "_headers_buffer", [])))
        super().flush_headers()

    def _answer(self, *, body: bool) -> None:
        if self.path == _COUNTERS:
            self._tell_counters()
            return
        path = (self.folder / self.path.lstrip("/")).resolve()
        if not path.is_file() or not path.is_relative_to(self.folder):
            self._head(HTTPStatus.NOT_FOUND, {"Content-Length": "0"})
        else:
            with path.open("rb") as file:
                self._answer_file(file.fileno(), body=body)
        self._count()

    def _answer_file(self, fd: int, *, body: bool) -> None:
        status = os.fstat(fd)
        size, tag = status.st_size, f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
        headers = {"ETag": tag, "Accept-Ranges": "bytes"}
        wanted = _RANGES.fullmatch(self.headers.get("Range", "")) if self.headers.get("If-Range", tag) == tag else None
        ranges = parse_ranges(wanted[1], size) if wanted else [(0, size)]
        if not ranges:
            code, headers["Content-Range"] = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, f"bytes */{size}"
        elif wanted:
            code = HTTPStatus.PARTIAL_CONTENT
        else:
            code = HTTPStatus.OK
        if len(ranges) > 1:
            headers["Content-Type"] = f"multipart/byteranges; boundary={_BOUNDARY}"
        elif wanted and ranges:
            headers["Content-Range"] = f"bytes {ranges[0][0]}-{ranges[0][1] - 1}/{size}"
        heads, tail = part_heads(ranges, size) if len(ranges) > 1 else ([b""] * len(ranges), b"")
        length = sum(map(len, heads)) + sum(end - start for start, end in ranges) + len(tail)
        self._head(code, headers | {"Content-Length": str(length)})
        if body:
            for head, (start, end) in zip(heads, ranges, strict=True):
                self._send(head)
                self._send_file(fd, start, end)
            self._send(tail)

    def _send(self, data: bytes) -> None:
        if data:
            self.connection.sendall(data)
            self._sent += len(data)

    def _send_file(self, fd: int, start: int, end: int) -> None:
        while start < end:
            sent = os.sendfile(self.connection.fileno(), fd, start, min(_SEND, end - start))
            self._sent += sent
            start += sent

    def _head(self, code: HTTPStatus, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.flush()

    def _count(self) -> None:
        with self.guard:
            self.counters.sent += self._sent
            self.counters.received += self._reader.count
            self.counters.requests += 1
        self._sent = self._reader.count = 0

    def _tell_counters(self) -> None:
        """The counters as JSON, set back to zero."""
        with self.guard:
            said = json.dumps(vars(self.counters)).encode()
            self.counters.sent = self.counters.received = self.counters.requests = 0
        self._head(HTTPStatus.OK, {"Content-Length": str(len(said))})
        self.wfile.write(said)
        self._sent = self._reader.count = 0

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:  # a client that has had enough
            self._count()


def parse_ranges(text: str, size: int) -> list[tuple[int, int]]:
    """`0-9,20-` as start and end (exclusive); those that begin behind the file are left out (RFC 9110, 14.1.2)."""
    ranges = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        start, end = int(first), min(int(last) + 1, size) if last else size
        if start < end:
            ranges.append((start, end))
    return ranges


def part_heads(ranges: list[tuple[int, int]], size: int) -> tuple[list[bytes], bytes]:
    """What stands before each part of a multipart answer, and behind the last (RFC 9110, 14.6)."""
    heads = [
        f"\r\n--{_BOUNDARY}\r\nContent-Range: bytes {start}-{end - 1}/{size}\r\n\r\n".encode() for start, end in ranges
    ]
    return heads, f"\r\n--{_BOUNDARY}--\r\n".encode()


class CountingServer:
    """Serves a folder from another process while the `with` block runs.

    Args:
        folder: What is served; files may be added later.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.server", str(folder)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[1],
            text=True,
        )
        assert self._process.stdout is not None
        self._port = int(self._process.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def url(self, name: str) -> str:
        """Where a file of the folder is found."""
        return f"http://127.0.0.1:{self._port}/{name}"

    def take(self) -> Counters:
        """What went over the wire since the last call."""
        with urllib.request.urlopen(self.url(_COUNTERS.lstrip("/")), timeout=20) as answer:
            return Counters(**json.load(answer))


def main(argv: list[str] | None = None) -> int:
    """Serve until killed; the first line of output is the port."""
    parser = argparse.ArgumentParser(prog="python -m bench.server")
    parser.add_argument("folder", type=Path)
    _Handler.folder = parser.parse_args(argv).folder.resolve()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    print(server.server_address[1], flush=True)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
