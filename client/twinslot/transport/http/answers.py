"""Is an answer what was asked for, and still of the same file? Section numbers are those of RFC 9110."""

from __future__ import annotations

import email.utils
import http.client
import re
from dataclasses import dataclass
from typing import Final

from twinslot.core.address import Address
from twinslot.core.errors import TransportError
from twinslot.transport.http.retry import Broken

# Section 14.4; range units are case-insensitive (section 14.1), and some servers write '=' as in a request.
_RANGE = re.compile(r"bytes[ \t=]+(\d{1,19})\s*-\s*(\d{1,19})\s*/\s*(\d{1,19}|\*)", re.IGNORECASE | re.ASCII)
_UNSATISFIED = re.compile(r"bytes[ \t=]+\*\s*/\s*(\d{1,19})", re.IGNORECASE | re.ASCII)
_SECONDS = re.compile(r"\d{1,9}", re.ASCII)
_LENGTH = re.compile(r"\d{1,19}", re.ASCII)
_VALIDATOR = re.compile(r"[\x21-\x7e\x80-\xff][\x20-\x7e\x80-\xff]{0,1023}")  # goes back to the server as it came
WHOLE: Final = (200, 203)  # 203: a proxy has a part in it (section 15.3.4); digests tell whether it is the same
# Content codings that change bytes (IANA's registry, and others in use). Any other word is a label that a tool left
# behind, such as `aws-chunked`, `none`, `binary`, `utf-8`: the bytes are as they were, and digests judge them.
_CODINGS: Final = frozenset(
    {"aes128gcm", "base64", "br", "brotli", "bzip2", "compress", "dcb", "dcz", "deflate", "exi", "gzip", "lz4", "lzma"}
    | {"pack200-gzip", "quoted-printable", "snappy", "xz", "zstd"}
    | {"x-bzip2", "x-compress", "x-deflate", "x-gzip", "x-lzma", "x-xz", "x-zstd"}
)


class Replaced(Exception):  # noqa: N818 - never leaves the transport
    """The server has another file now than when we began.

    Attributes:
        by_length: Not only its ETag or date is another.
    """

    def __init__(self, before: object, after: object, *, by_length: bool = True) -> None:
        super().__init__(f"{before} is now {after}")
        self.before, self.after, self.by_length = before, after, by_length


@dataclass(frozen=True, slots=True)
class Part:
    """What a 206 says it holds: first and last byte, and the whole file's length (None: the server does not know)."""

    first: int
    last: int
    total: int | None


@dataclass(slots=True)
class Pinned:
    """What the server said of the file when we began; None or empty: nothing.

    Several machines behind one name may each have their own ETag and date for the same file. Whoever has seen that
    the content is the same makes it `loose`.

    Attributes:
        etag: Strong; a weak one does not promise the same bytes (section 8.8.1).
        modified: `Last-Modified` as it stands.
        length: Bytes of the whole file.
        loose: ETag and date are not looked at; the length is.
    """

    etag: str = ""
    modified: str = ""
    length: int | None = None
    loose: bool = False

    @property
    def validator(self) -> str:
        """For `If-Range`."""
        return "" if self.loose else self.etag or self.modified

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
        etag = _validator(response, "ETag")
        now = Pinned("" if etag[:2].upper() == "W/" else etag, _validator(response, "Last-Modified"), length)
        if self.loose:
            now.etag = now.modified = ""
        for before, after in ((self.length, now.length), (self.etag, now.etag), (self.modified, now.modified)):
            if before not in (None, "") and after not in (None, "") and before != after:
                raise Replaced(before, after, by_length=before == self.length)
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
    if status not in allowed and not (status in WHOLE and WHOLE[0] in allowed):
        raise TransportError(
            f"the server does not give '{address}'",
            code=f"http-{status}",
            expected=" or ".join(str(each) for each in allowed),
            found=f"{status} {response.reason}",
            hint="the file is not on the server" if status in (404, 410) else None,
        )
    coded = sorted(_words(response, "Content-Encoding") & _CODINGS)
    coded += sorted(_words(response, "Transfer-Encoding") - {"chunked", "identity"})
    if coded:
        raise TransportError(
            f"the server compresses '{address}' although it was asked not to",
            code="encoding",
            expected="the file as it is",
            found=", ".join(coded),
            hint="turn compression off for this file on the server, or on the proxy before it",
        )


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
    text = _one(response, "Content-Range")
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


def is_all(response: http.client.HTTPResponse) -> bool:
    """Whether a 206 holds the whole file: some servers answer so to a request without a range."""
    match = _RANGE.fullmatch(_one(response, "Content-Range"))
    return bool(match and int(match[1]) == 0 and match[3] != "*" and int(match[2]) + 1 == int(match[3]))


def beyond(response: http.client.HTTPResponse) -> int | None:
    """The file's length as a 416 tells it (section 15.5.17); None: it does not."""
    match = _UNSATISFIED.fullmatch(_one(response, "Content-Range"))
    return int(match[1]) if match else None


def require_length(response: http.client.HTTPResponse) -> None:
    """How long the body is, from all `Content-Length` headers (section 8.6): said twice it must be the same.

    Raises:
        Broken: Two lengths, or one that is none.
    """
    values = {each.strip() for text in response.headers.get_all("Content-Length", []) for each in text.split(",")}
    if response.chunked or response.status in (204, 304) or not values:
        return
    if len(values) > 1 or not _LENGTH.fullmatch(text := values.pop()):
        raise Broken("the answer says more than one length, or none that can be read")
    response.length = int(text)
    response.will_close = response.will_close and _closes(response)


def _closes(response: http.client.HTTPResponse) -> bool:
    """http.client takes every answer whose length it cannot read for one that ends with the connection."""
    words = _words(response, "Connection")
    return "close" in words or (response.version == 10 and "keep-alive" not in words)


def _words(response: http.client.HTTPResponse, name: str) -> set[str]:
    """The words of a list header, in lower case; a header that stands twice is one list (section 5.3)."""
    texts = response.headers.get_all(name, [])
    return {word.strip().lower() for text in texts for word in str(text).split(",") if word.strip()}


def _one(response: http.client.HTTPResponse, name: str) -> str:
    """A header that may stand once; the same thing said twice is said once."""
    values = {str(text).strip() for text in response.headers.get_all(name, [])}
    return " and ".join(sorted(values))


def validators(response: http.client.HTTPResponse) -> tuple[str, str]:
    """ETag, weak ones too, and date of a file, as they may be sent back; empty: not said."""
    return _validator(response, "ETag"), _validator(response, "Last-Modified")


def _validator(response: http.client.HTTPResponse, name: str) -> str:
    """What may be sent back in a request; anything else counts as not said."""
    text = _one(response, name)
    return text if _VALIDATOR.fullmatch(text) else ""


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
