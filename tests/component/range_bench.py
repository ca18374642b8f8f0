"""Answers of a web server that gives parts of a file and keeps connections open, unless told to misbehave."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from http_bench import Answer, Asked, Web

import waits
from twinslot.transport.http.options import HttpSettings
from twinslot.transport.http.ranges import RangeSource

ETAG = '"one"'
QUICK = HttpSettings(connect_timeout=waits.HANG, read_timeout=waits.HANG, retries=3, retry_wait=0.01)


def asked_part(asked: Asked) -> tuple[int, int]:
    """First and last byte that a request names."""
    match = re.fullmatch(r"bytes=(\d+)-(\d+)", asked.headers.get("Range", ""))
    assert match, f"one range with both ends, not {asked.headers.get('Range')}"
    return int(match[1]), int(match[2])


def head(asked: Asked, status: int, length: int | None, **headers: str) -> None:
    """Status line and headers of an answer after which the connection stays open."""
    asked.close_connection = False
    asked.send_response(status)
    for name, value in headers.items():
        asked.send_header(name.replace("_", "-"), value)
    if length is not None:
        asked.send_header("Content-Length", str(length))
    asked.end_headers()


def parts(
    data: bytes,
    *,
    breaks: int | None = None,
    resets: bool = False,
    most: int | None = None,
    hangs_up: bool = False,
    **headers: str,
) -> Answer:
    """The part that is asked for.

    Args:
        data: The file.
        breaks: Close after so many bytes of this answer.
        resets: Do so with a RST, which may swallow what was sent.
        most: Send at most so many bytes in one answer.
        hangs_up: Close after a whole answer, without having said so.
        headers: More of them; `ETag` is `ETAG` unless given, and left out if empty.
    """

    def answer(asked: Asked) -> None:
        first, last = asked_part(asked)
        more = {k: v for k, v in ({"ETag": ETAG} | headers).items() if v}
        if first >= len(data):
            head(asked, 416, 0, Content_Range=f"bytes */{len(data)}", **more)
            return
        last = min(last, len(data) - 1, first + (most or len(data)) - 1)
        head(asked, 206, last + 1 - first, Content_Range=f"bytes {first}-{last}/{len(data)}", **more)
        asked.wfile.write(data[first : last + 1][:breaks])
        if resets:
            asked.reset()
        asked.close_connection |= hangs_up or breaks is not None

    return answer


def whole(data: bytes, *, breaks: int | None = None, **headers: str) -> Answer:
    """As a server that knows no ranges."""

    def answer(asked: Asked) -> None:
        head(asked, 200, len(data), **headers)
        asked.wfile.write(data[:breaks])
        asked.close_connection = breaks is not None

    return answer


@contextlib.contextmanager
def ranged(web: Web, *, gap: int = 4096, ahead: int = 0, **settings: Any) -> Iterator[RangeSource]:
    """A source towards the server, closed afterwards."""
    source = RangeSource(f"{web.url}/x.twin", replace(QUICK, **settings), gap=gap, ahead=ahead)
    try:
        yield source
    finally:
        source.close()


def requests(web: Web) -> list[str]:
    """The ranges that were asked for."""
    return [request.get("range", "").removeprefix("bytes=") for request in web.asked]


def connections(web: Web) -> int:
    """How many connections asked something."""
    return len({request["from"] for request in web.asked})
