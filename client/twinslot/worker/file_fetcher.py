"""Small files from a server, through a fetching worker and its relay: the asking end of FILE and CONTENT.

Whoever asked judges what came; here it is only bounded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from twinslot.core.errors import DeviceError
from twinslot.transport.http.small_file import SmallFile
from twinslot.worker.launch import Worker
from twinslot.worker.protocol import HEAD_LENGTH, Kind, unpack
from twinslot.worker.way import for_the_worker, relay_for

_SILENCE: Final = 900.0  # seconds; a pause or a wait for the server gives a sign of life every ten
_TEXT_MAX: Final = 1024  # characters of a validator (transport/http/answers.py)


class FileFetcher:
    """Owns the worker and its relay, which are started with the first file.

    Args:
        get_worker: Gives a worker by its kind.
        http: Settings of the network, as `HttpSettings` has them.

    Attributes:
        wait: Seconds for which the server wanted to be left alone in its last answer; 0: it did not say so.
    """

    def __init__(self, get_worker: Callable[[str], Worker], http: Mapping[str, Any]) -> None:
        self._get_worker, self._http = get_worker, http
        self._worker: Worker | None = None
        self._relay: Worker | None = None
        self.wait = 0.0

    def get(self, url: str, limit: int, etag: str = "", modified: str = "") -> SmallFile:
        """One file of at most `limit` bytes.

        Raises:
            TransportError: It cannot be had; see `SmallFiles.get`.
            DeviceError: `device.worker`: the worker sent something else.
        """
        return self._asked(url, {"limit": limit, "etag": etag, "modified": modified}, limit)

    def post(self, url: str, body: bytes, limit: int) -> SmallFile:
        """Send a JSON document of some 64 KiB at most; the answer, of which at most `limit` bytes are read.

        Raises:
            TransportError: It cannot be sent; see `SmallFiles.post`.
            DeviceError: As `get`.
        """
        return self._asked(url, {"limit": limit, "body": body.decode()}, limit)

    def _asked(self, url: str, fields: Mapping[str, Any], limit: int) -> SmallFile:
        request = json.dumps({"url": url, "http": for_the_worker(self._http), **fields}).encode()
        if self._worker is None:
            worker = self._start(url, request)
        else:
            worker = self._worker
            worker.send(Kind.FILE, request)
        while (frame := worker.receive(Kind.CONTENT, Kind.FETCHED)).kind is Kind.FETCHED:
            pass
        file = _read_content(frame.payload, limit)
        self.wait = file.wait
        return file

    def close(self) -> None:
        """End worker and relay; may be called twice."""
        for each in (self._worker, self._relay):
            if each is not None:
                each.close()
        self._worker = self._relay = None

    def _start(self, url: str, request: bytes) -> Worker:
        with relay_for(self._get_worker, url, self._http) as (relay, way):
            worker = self._get_worker("fetch")
            self._relay, self._worker = relay, worker
            worker.channel.silence = _SILENCE
            worker.send(Kind.FILE, request, descriptor=way)
        return worker


def _read_content(payload: bytes, limit: int) -> SmallFile:
    (length,) = unpack(HEAD_LENGTH, payload)
    rest = payload[HEAD_LENGTH.size :]
    try:
        head = json.loads(rest[:length])
        status, wait = int(head["status"]), float(head["wait"])
        etag, modified = (str(head[name])[:_TEXT_MAX] for name in ("etag", "modified"))
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as e:
        raise DeviceError("the worker's answer cannot be read", code="worker") from e
    content = rest[length:]
    if len(content) > limit or not 0 <= wait < float("inf"):
        raise DeviceError("the worker sent more than was asked for", code="worker", expected=f"at most {limit} bytes")
    return SmallFile(status, content, etag, modified, wait)
