"""A web server on loopback for a folder; the guest reaches it as 10.0.2.2."""

from __future__ import annotations

import functools
import http.server
import io
import re
import threading
from pathlib import Path
from typing import Any, BinaryIO, Self

from twinslot_lab.qemu_board import HOST

_RANGE = re.compile(r"bytes=(\d{1,19})-(\d{0,19})")  # RFC 9110, section 14.1.2: one range, as the client asks


class _Quiet(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections stay

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing; what matters is what the device says."""

    def send_head(self) -> io.BytesIO | BinaryIO | None:
        """The part of a file that was asked for, if it is still the same file (`If-Range`); else all of it."""
        wanted = _RANGE.fullmatch(self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if wanted is None or not path.is_file():
            return super().send_head()
        status = path.stat()
        changed = self.date_time_string(int(status.st_mtime))
        first, last = int(wanted[1]), min(int(wanted[2] or status.st_size - 1), status.st_size - 1)
        if self.headers.get("If-Range", changed) != changed or first > last:
            return super().send_head()
        self.send_response(http.HTTPStatus.PARTIAL_CONTENT)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Range", f"bytes {first}-{last}/{status.st_size}")
        self.send_header("Content-Length", str(last + 1 - first))
        self.send_header("Last-Modified", changed)
        self.end_headers()
        return _Part(path, first, last + 1 - first)


class _Part(io.BytesIO):
    """Some bytes of a file, read as they are sent."""

    def __init__(self, path: Path, first: int, length: int) -> None:
        super().__init__()
        self._file = path.open("rb")
        self._file.seek(first)
        self._left = length

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes; none at the end of the part."""
        data = self._file.read(self._left if size is None or size < 0 else min(size, self._left))
        self._left -= len(data)
        return data

    def close(self) -> None:
        """The file, too."""
        self._file.close()
        super().close()


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """A device that hangs up, or loses its power, is no news."""


class FileServer:
    """Serves a folder while the `with` block runs; one thread for each request.

    Args:
        folder: All of it.
        listen: Our address on which it listens.
        seen_as: The same as the guest writes it.
    """

    def __init__(self, folder: Path, *, listen: str = "127.0.0.1", seen_as: str = HOST) -> None:
        self._seen_as = seen_as
        handler = functools.partial(_Quiet, directory=str(folder))
        self._server = _Server((listen, 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="files", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        """On which it listens."""
        return int(self._server.server_address[1])

    def url(self, name: str, port: int = 0) -> str:
        """Where the guest finds a file of the folder; `port`: of what stands between (network_faults.py)."""
        return f"http://{self._seen_as}:{port or self.port}/{name}"
