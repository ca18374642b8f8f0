"""Is an answer what was asked for, and still of the same file? Section numbers are those of RFC 9110."""

from __future__ import annotations

import email.utils
import http.client
import re
from dataclasses import dataclass

from twinslot.core.errors import TransportError
from twinslot.transport.address import Address
from twinslot.transport.patience import Broken

_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")  # section 14.4
_SECONDS = re.compile(r"\d{1,9}")


class Replaced(Exception):  # noqa: N818 - never leaves the transport
    """The server has another file now than when we began."""

    def __init__(self, before: object, after: object) -> None:
        super().__init__(f"{before} is now {after}")
        self.before, self.after = before, after


@dataclass(frozen=True, slots=True)
class Part:
    """What a 206 says it holds: first and last byte, and the whole file's length (None: the server does not know)."""

    first: int
    last: int
    total: int | None


@dataclass(slots=True)
class Pinned:
    """What the server said of the file when we began; None or empty: nothing.

    Attributes:
        etag: Strong; a weak one does not promise the same bytes (section 8.8.1).
        modified: `Last-Modified` as it stands.
        length: Bytes of the whole file.
    """

    etag: str = ""
    modified: str = ""
    length: int | None = None

    @property
    def validator(self) -> str:
        """For `If-Range`."""
        return self.etag or self.modified

    def range(self, first: int, last: int | None = None) -> dict[str, str]:
        """The headers that ask for these bytes (None: to the end) of this very file."""
        headers = {"Range": f"bytes={first}-{'' if last is None else last}"}
        return headers | ({"If-Range": self.validator} if self.validator else {})

    def check(self, response: http.client.HTTPResponse, length: int | None) -> None:
        """Compare and keep: If-Range already asks, this one believes nobody.

        Args:
            response: Whose headers tell; what it leaves out contradicts nothing.
            length: Of the whole file, as this answer tells.

        Raises:
            Replaced: Another file.
        """
        etag = response.headers.get("ETag", "")
        now = Pinned("" if etag.startswith("W/") else etag, response.headers.get("Last-Modified", ""), length)
        for before, after in ((self.etag, now.etag), (self.modified, now.modified), (self.length, now.length)):
            if before not in (None, "") and after not in (None, "") and before != after:
                raise Replaced(before, after)
        self.etag, self.modified = self.etag or now.etag, self.modified or now.modified
        self.length = now.length if self.length is None else self.length


def insist(address: Address, response: http.client.HTTPResponse, *allowed: int) -> None:
    """One of these statuses, and no compression.

    Raises:
        Broken: The server's fault, or its wish that we wait (section 15.5.9; RFC 6585).
        TransportError: `transport.http-NNN`, `transport.encoding`.
    """
    status = response.status
    if status >= 500 or status in (408, 429):
        raise Broken(f"HTTP status {status} {response.reason}", wait=retry_after(response))
    if status not in allowed:
        raise TransportError(
            f"the server does not give '{address}'",
            code=f"http-{status}",
            expected=" or ".join(str(each) for each in allowed),
            found=f"{status} {response.reason}",
            hint="the file is not on the server" if status in (404, 410) else None,
        )
    if (encoding := response.headers.get("Content-Encoding", "identity").lower()) != "identity":
        raise TransportError("the server compresses what is compressed", code="encoding", found=encoding)


def part(response: http.client.HTTPResponse, first: int, last: int | None = None) -> Part:
    """What a 206 holds, once it is (the beginning of) what was asked for.

    A server may send less than asked (section 15.3.7), never more, and never from elsewhere.

    Args:
        response: A 206.
        first: The first byte that was asked for.
        last: The last one; None: to the end.

    Raises:
        TransportError: `transport.range`.
    """
    text = response.headers.get("Content-Range", "")
    match = _RANGE.fullmatch(text)
    held = Part(-1, -1, None)
    if match:
        held = Part(int(match[1]), int(match[2]), None if match[3] == "*" else int(match[3]))
    sound = held.first == first and first <= held.last and (held.total is None or held.last < held.total)
    more = last is not None and held.last > last
    if not sound or more or response.length not in (None, held.last - held.first + 1):
        raise TransportError(
            "the server sent another range than the one asked for",
            code="range",
            expected=f"bytes {first}-{'' if last is None else last}",
            found=text or "no Content-Range",
        )
    return held


def retry_after(response: http.client.HTTPResponse) -> float:
    """Seconds for which the server wants to be left alone; 0: it does not say so in a way we understand.

    A date (section 10.2.3) is read against the answer's own `Date`: our clock may be wrong.
    """
    text = response.headers.get("Retry-After", "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        until = email.utils.parsedate_to_datetime(text)
        return max(0.0, (until - email.utils.parsedate_to_datetime(response.headers.get("Date", ""))).total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError):  # no date, or only one of the two with a time zone
        return 0.0
