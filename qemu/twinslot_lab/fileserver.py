"""A web server on loopback for a folder; the guest reaches it as 10.0.2.2."""

from __future__ import annotations

import functools
import http.server
import threading
from pathlib import Path
from typing import Any, Self

from twinslot_lab.qemu_board import HOST


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing; what matters is what the device says."""


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
        self._server = http.server.ThreadingHTTPServer((listen, 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="files", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def url(self, name: str) -> str:
        """Where the guest finds a file of the folder."""
        return f"http://{self._seen_as}:{self._server.server_address[1]}/{name}"
