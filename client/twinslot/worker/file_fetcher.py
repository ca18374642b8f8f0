"""Small files from a server, through a fetching worker: the asking end of FILE and CONTENT.

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

_SILENCE: Final = 900.0  # seconds; a pause or a wait for the server gives a sign of life every ten
_TEXT_MAX: Final = 1024  # characters of a validator (transport/http/answers.py)


class FileFetcher:
    """Owns the worker, which is started with the first file.

    Args:
        get_worker: Gives a fetching worker.
        http: Settings of the network, as `HttpSettings` has them.

    Attributes:
        wait: Seconds for which the server wanted to be left alone in its last answer; 0: it did not say so.
    """

    def __init__(self, get_worker: Callable[[], Worker], http: Mapping[str, Any]) -> None:
        self._get_worker, self._http = get_worker, http
        self._worker: Worker | None = None
        self.wait = 0.0

    def get(self, url: str, limit: int, etag: str = "", modified: str = "") -> SmallFile:
        """One file of at most `limit` bytes.

        Raises:
            TransportError: It cannot be had; see `SmallFiles.get`.
            DeviceError: `device.worker`: the worker sent something else.
        """
        if self._worker is None:
            self._worker = self._get_worker()
            self._worker.channel.silence = _SILENCE
        request = {"url": url, "limit": limit, "etag": etag, "modified": modified, "http": dict(self._http)}
        self._worker.send(Kind.FILE, json.dumps(request).encode())
        while (frame := self._worker.receive(Kind.CONTENT, Kind.FETCHED)).kind is Kind.FETCHED:
            pass
        file = _read_content(frame.payload, limit)
        self.wait = file.wait
        return file

    def close(self) -> None:
        """End the worker; may be called twice."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None


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
