"""What servers do, and what the client does then: the table behind docs/servers.md. Each row runs as a test."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from http_bench import Answer, Asked, asked_from, say
from range_bench import head, parts, whole

DATA: Final = random.Random(7).randbytes(200_001)
FRONT: Final = 4096  # bytes by which the file is known again
OTHER: Final = DATA[::-1]
MONDAY, TUESDAY = "Mon, 02 Nov 2026 10:00:00 GMT", "Tue, 03 Nov 2026 10:00:00 GMT"
WHOLE: Final = "the file"  # every byte of it arrived


@dataclass(frozen=True)
class Row:
    """One behaviour.

    Attributes:
        server: What the server does.
        client: What the client does.
        answers: One for each request, the last one for all that follow; their requests go to `/x.twin`.
        ends: `WHOLE`, or the code of the error.
        asked: Number of requests; None: as many as it takes.
        settings: Of `[http]`.
        front: Read as a whole file from its front, not by ranges.
    """

    server: str
    client: str
    answers: Sequence[Answer]
    ends: str = WHOLE
    asked: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    front: bool = False


def ranged(**headers: Any) -> Answer:
    """The part that is asked for, with other headers."""
    return parts(DATA, **headers)


def said(*lines: str, status: str = "206 Partial Content", length: bool = True) -> Answer:
    """The part that is asked for, with headers as they stand here: `{first}`, `{last}`, `{size}`, `{count}`."""

    def answer(asked: Asked) -> None:
        first, last = (int(each) for each in asked.headers["Range"].removeprefix("bytes=").split("-"))
        last = min(last, len(DATA) - 1)
        numbers = {"first": first, "last": last, "size": len(DATA), "count": last + 1 - first}
        more = ["Content-Length: {count}"] if length else []
        text = "\r\n".join([f"HTTP/1.1 {status}", *lines, *more, "", ""]).format(**numbers)
        asked.wfile.write(text.encode() + DATA[first : last + 1])
        asked.close_connection = not length

    return answer


def hints(*statuses: str, then: Answer) -> Answer:
    """Interim answers before the final one."""

    def answer(asked: Asked) -> None:
        for status in statuses:
            asked.wfile.write(f"HTTP/1.1 {status}\r\nLink: </x>\r\n\r\n".encode())
        then(asked)

    return answer


def old(breaks: int | None = None) -> Answer:
    """HTTP/1.0 without a length: the end of the connection is the end of the file."""

    def answer(asked: Asked) -> None:
        asked.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + DATA[:breaks])
        asked.close_connection = True

    return answer


def chunks(asked: Asked) -> None:
    """The whole file in chunks with extensions and a trailer."""
    head(asked, 200, None, Transfer_Encoding="chunked")
    for at in range(0, len(DATA), 50_000):
        piece = DATA[at : at + 50_000]
        asked.wfile.write(b"%x;name=value\r\n%b\r\n" % (len(piece), piece))
    asked.wfile.write(b"0\r\nX-Sum: 1\r\n\r\n")


def all_of_it(asked: Asked) -> None:
    """206 with the whole file to a request without a range."""
    head(asked, 206, len(DATA), Content_Range=f"bytes 0-{len(DATA) - 1}/{len(DATA)}")
    asked.wfile.write(DATA)


def unfinished(asked: Asked) -> None:
    """All of the file in chunks, and then the connection breaks where the last chunk should be."""
    head(asked, 200, None, Transfer_Encoding="chunked")
    asked.wfile.write(b"%x\r\n%b\r\n" % (len(DATA), DATA))
    asked.close_connection = True


def hangs_up(asked: Asked) -> None:
    """No answer at all."""
    asked.close_connection = True


def moved(status: int, to: str = "/other?sign=1") -> Answer:
    """A redirect."""
    return lambda asked: head(asked, status, 0, Location=to)


def to_end(data: bytes, **headers: str) -> Answer:
    """What follows the first byte that is asked for."""

    def answer(asked: Asked) -> None:
        first = asked_from(asked)
        head(asked, 206, len(data) - first, Content_Range=f"bytes {first}-{len(data) - 1}/{len(data)}", **headers)
        asked.wfile.write(data[first:])

    return answer


def multipart(asked: Asked) -> None:
    """A part as multipart, though one range was asked for."""
    head(asked, 206, 0, Content_Type="multipart/byteranges; boundary=x")


def coded(name: str, value: str) -> Answer:
    """The part that is asked for, said to be coded."""
    return ranged(**{name: value})


def as_203(asked: Asked) -> None:
    """The whole file, changed by a proxy, as the status says."""
    head(asked, 203, len(DATA))
    asked.wfile.write(DATA)


def empty_416(asked: Asked) -> None:
    """The file is shorter now."""
    head(asked, 416, 0, Content_Range="bytes */100")


def said_416(asked: Asked) -> None:
    """There is nothing behind what we have."""
    head(asked, 416, 0, Content_Range=f"bytes */{len(DATA)}")


def dated(date: str) -> Answer:
    """The part that is asked for, without an ETag and of this date."""
    return ranged(ETag="", Last_Modified=date)


def cut(date: str) -> Answer:
    """The whole file of this date, broken off."""
    return whole(DATA, breaks=90_000, Last_Modified=date)


def silent(asked: Asked) -> None:
    """No answer before the test is over."""
    asked.server.ended.wait(600)
    asked.close_connection = True


HINTS: Final = ("100 Continue", "102 Processing", "103 Early Hints")
RANGE: Final = "Content-Range: bytes {first}-{last}/{size}"
SAME_FRONT: Final = "fetches the front again: if it is the same, ETag and date count no more"
FAILS_ONCE: Final = "waits, and asks again: `http.retries` times without progress"
FINAL: Final = "ends at once"

TABLE: Final[dict[str, Sequence[Row]]] = {
    "Statuses": (
        Row("206 with the part that was asked for", "reads it, and keeps the connection", [ranged()]),
        Row("206 with less than was asked for", "asks for the rest", [parts(DATA, most=60_000)]),
        Row(
            "200 with the whole file",
            "reads it from the front; tells that `ranges` are not used",
            [whole(DATA)],
            asked=1,
        ),
        Row("203 with the whole file", "as 200: digests tell whether a proxy changed it", [as_203], asked=1),
        Row("206 with the whole file, to a request without a range", "as 200", [all_of_it], front=True, asked=1),
        Row("206 with another part", FINAL, [said("Content-Range: bytes 1-{last}/{size}")], "transport.range", 1),
        Row("206 as multipart, to a request for one range", FINAL, [multipart], "transport.range", 1),
        Row("100, 102, 103 before the answer", "reads past them, 32 at most", [hints(*HINTS, then=ranged())]),
        Row("101", FINAL, [say(101)], "transport.http-101", 1),
        Row("204, or 304 although nothing was cached", FINAL, [say(204)], "transport.http-204", 1),
        Row("400, 401, 403, 404, 410 and other 4xx", FINAL, [say(404)], "transport.http-404", 1),
        Row("408 or 429", FAILS_ONCE, [say(429), say(408), ranged()]),
        Row("500, 502, 503 and other 5xx", FAILS_ONCE, [say(500), say(503), ranged()]),
        Row("5xx for ever", "gives up after the last try", [say(502)], "transport.network", 4),
        Row(
            "`Retry-After` in seconds",
            "waits so long, `http.retry_wait` at most",
            [say(503, Retry_After="9"), ranged()],
        ),
        Row(
            "`Retry-After` as a date", "the same, by the answer's own `Date`", [say(429, Retry_After=TUESDAY), ranged()]
        ),
        Row("416: the file is shorter than what we have", FINAL, [parts(DATA), empty_416], "transport.changed"),
        Row(
            "416 with just the length that we have", "the file is complete", [unfinished, said_416], front=True, asked=2
        ),
    ),
    "Headers": (
        Row(
            "`content-range: BYTES 0-9/100`, any case", "takes it", [said("content-range: BYTES {first}-{last}/{size}")]
        ),
        Row(
            "`Content-Range: bytes=0-9/100`, or blanks",
            "takes it",
            [said("Content-Range: bytes= {first} - {last} / {size} ")],
        ),
        Row(
            "`Content-Range: bytes 0-9/*`",
            "takes it; the length is not known",
            [said("Content-Range: bytes {first}-{last}/*")],
        ),
        Row("`Content-Range` twice, the same", "takes it", [said(RANGE, RANGE)]),
        Row(
            "`Content-Range` twice, different", FINAL, [said(RANGE, "Content-Range: bytes 0-1/2")], "transport.range", 1
        ),
        Row(
            "`Content-Length` twice, the same, or `9, 9`", "takes it", [said(RANGE, "Content-Length: {count}, {count}")]
        ),
        Row("`Content-Length` twice, different", FAILS_ONCE, [said(RANGE, "Content-Length: 7"), ranged()]),
        Row("no `Content-Length`", "reads the part to its end", [said(RANGE, length=False)]),
        Row("HTTP/1.0 without a length", "reads to the end", [old()], asked=1),
        Row("the same, cut off", "asks again: the image says how long it is", [old(90_000), old()], asked=2),
        Row("chunks with extensions and trailers", "reads them", [chunks], asked=1),
        Row("`Accept-Ranges: none`, and parts all the same", "does not look at it", [ranged(Accept_Ranges="none")]),
        Row("`Content-Encoding:` empty", "takes the bytes as they are", [coded("Content-Encoding", " ")]),
        Row(
            "... `identity`, `none`, `binary`",
            "takes the bytes as they are",
            [coded("Content-Encoding", "none, binary")],
        ),
        Row(
            "... `aws-chunked`, left by an upload",
            "takes the bytes as they are",
            [coded("Content-Encoding", "aws-chunked,")],
        ),
        Row(
            "... `utf-8` and other words that are no coding",
            "takes the bytes as they are",
            [coded("Content-Encoding", "UTF-8")],
        ),
        Row(
            "... `gzip`, `br`, `zstd` and others that are",
            FINAL,
            [coded("Content-Encoding", "GZIP")],
            "transport.encoding",
            1,
        ),
        Row(
            "... `aws-chunked, gzip`", FINAL, [coded("Content-Encoding", "aws-chunked, gzip")], "transport.encoding", 1
        ),
        Row(
            "`Transfer-Encoding: gzip, chunked`",
            FINAL,
            [coded("Transfer-Encoding", "gzip, chunked")],
            "transport.encoding",
            1,
        ),
    ),
    "Which file it is": (
        Row("another length later", FINAL, [parts(DATA), parts(DATA + b"x", ETag="")], "transport.changed"),
        Row(
            "another ETag and other content later",
            FINAL,
            [parts(DATA), parts(OTHER, ETag='"two"')],
            "transport.changed",
        ),
        Row("each machine behind one name has its own ETag", SAME_FRONT, [parts(DATA), parts(DATA, ETag='"two"')]),
        Row("... or its own `Last-Modified`", SAME_FRONT, [dated(MONDAY), dated(TUESDAY)]),
        Row(
            "... and gives the file only as a whole",
            "compares what it has",
            [cut(MONDAY), to_end(DATA, Last_Modified=TUESDAY), to_end(DATA)],
            front=True,
        ),
        Row(
            "... and now the file is another",
            FINAL,
            [cut(MONDAY), to_end(OTHER, Last_Modified=TUESDAY), whole(OTHER)],
            "transport.changed",
            front=True,
        ),
        Row(
            "a weak ETag (`W/`), different each time",
            "neither sends nor compares it",
            [ranged(ETag='W/"1"'), ranged(ETag='w/"2"')],
        ),
        Row("no ETag and no date", "compares the length; digests do the rest", [ranged(ETag="")]),
    ),
    "Redirects": (
        Row("301, 302, 303, 307, 308", "follows, five at most", [*map(moved, (301, 302, 303, 307, 308)), ranged()]),
        Row("redirects without end", FINAL, [moved(302)], "transport.redirect", 6),
        Row("to another kind of address, or to none", FINAL, [moved(302, "ftp://127.0.0.1/x")], "transport.url", 1),
        Row(
            "to a signed address that expires: 403, 400, 401, 404, 410 on it later",
            "asks the first address again",
            [moved(302), ranged(), say(403), moved(302), ranged()],
        ),
        Row("to a signed address that is refused at once", FINAL, [moved(302), say(403)], "transport.http-403", 2),
    ),
    "Connections": (
        Row(
            "the connection is closed after each answer",
            "opens another one, without a pause",
            [parts(DATA, hangs_up=True)],
        ),
        Row("... or before an answer", FAILS_ONCE, [hangs_up, ranged()]),
        Row(
            "... or reset in the middle of an answer",
            "goes on where it stopped",
            [parts(DATA, breaks=9_000, resets=True), ranged()],
        ),
        Row(
            "... always at the same place",
            "gives up after the last try",
            [parts(DATA, breaks=0)],
            "transport.network",
            4,
        ),
        Row(
            "says nothing", "tries again after `http.read_timeout`", [silent, ranged()], settings={"read_timeout": 0.2}
        ),
    ),
}

# Their tests need more than one server: a device (test_sidecars.py), a network or a proxy (test_server_places.py).
BESIDE: Final = {
    "any status but 200 and 206, after two further tries for 5xx, 408 and 429": "goes on without it, and tells why",
    "a page to log in, or any other content": "goes on without it, and tells why",
    "refused, reset, silent, dripping, cut off": "goes on without it after two further tries, and tells why",
    "gives it as a whole, compressed, or replaces it in the middle": "goes on without it, and tells why",
    "404 or 410; 403, as object stores say it of what is not there": "goes on without it, and tells that there is none",
}
ELSEWHERE: Final = {
    "nobody listens there, or the name does not exist, from the first try on": "gives up after three further tries",
    "a redirect from https to http": "refuses: `transport.redirect`",
    "a redirect from elsewhere to this device (127.0.0.1, ::1) or its link (169.254.0.0/16, fe80::/10)": (
        "refuses, whatever name stands for it: `transport.redirect`; a first address there is asked"
    ),
    "an address or a redirect of a kind that `http.schemes` leaves out": "refuses: `transport.scheme`",
    "asks for a certificate": "shows `http.client_cert` to the host of the first address, and to no other",
    "TLS below 1.2, or without authenticated encryption": "refuses: `transport.network`",
    "a certificate that is not yet valid, or has expired": "refuses: `transport.tls`, with a hint at the clock",
    "`http.proxy`, and an http address": "asks the proxy for the whole address",
    "`http.proxy`, and an https address": "has the proxy open a tunnel (CONNECT), and checks the server's certificate",
    "a proxy that refuses the tunnel": "ends at once: `transport.proxy`; 5xx, 408 and 429 are tried again",
    "a host, domain or network in `http.no_proxy`, or this device": "asks it directly",
}
