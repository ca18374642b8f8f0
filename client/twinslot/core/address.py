"""Addresses that we follow: http and https, and where a server may redirect us to."""

from __future__ import annotations

import re
import urllib.parse
from dataclasses import dataclass

from twinslot.core.errors import TransportError

_SAFE = "/?:@!$&'()*+,;=~-._%"  # what may stand in path and query (RFC 3986, section 3.3) and the escape itself
_CONTROL = re.compile(r"[\x00-\x20\x7f]")


@dataclass(frozen=True, slots=True)
class Address:
    """A web address, taken apart.

    Attributes:
        scheme: `http` or `https`.
        host: Name or IP address, without brackets.
        port: None: the scheme's.
        target: Path and query as they stand in a request.
    """

    scheme: str
    host: str
    port: int | None
    target: str

    def __str__(self) -> str:
        """For messages and logs: without the query, where tokens stand."""
        return f"{self._front(self.host)}{self.target.partition('?')[0]}"

    @property
    def whole(self) -> str:
        """All of it in ASCII, as a proxy is asked for it; never for people."""
        return f"{self._front(self._ascii)}{self.target}"

    @property
    def number(self) -> int:
        """The port's number."""
        return self.port or (443 if self.scheme == "https" else 80)

    @property
    def named_host(self) -> str:
        """Host and port in ASCII, as a proxy is asked for a tunnel."""
        return f"{_bracketed(self._ascii)}:{self.number}"

    @property
    def host_header(self) -> str:
        """Host, and the port if it is not the scheme's (RFC 9110, section 7.2)."""
        usual = self.number == (443 if self.scheme == "https" else 80)
        return _bracketed(self._ascii) if usual else self.named_host

    @property
    def _ascii(self) -> str:
        host = self.host.partition("%")[0]  # the zone of a link-local address is ours alone
        return host if host.isascii() else host.encode("idna").decode("ascii")

    def _front(self, host: str) -> str:
        return f"{self.scheme}://{_bracketed(host)}" + ("" if self.port is None else f":{self.port}")


def parse_address(url: str, encoding: str = "utf-8") -> Address:
    """Take a URL apart; characters that a request may not hold are escaped.

    Raises:
        TransportError: `transport.url`, without the text if it holds a password.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        port, host = parts.port, parts.hostname or ""
        host.encode("idna")
        good = bool(parts.scheme in ("http", "https") and host and port != 0 and not _CONTROL.search(url))
    except ValueError as e:  # UnicodeError too: a name that is none
        raise _bad() from e
    if parts.username is not None or parts.password is not None:
        raise TransportError("an address with a password is not accepted", code="url", hint="use a client certificate")
    if not good:
        raise _bad()
    path = urllib.parse.quote(parts.path or "/", _SAFE, encoding)
    query = urllib.parse.quote(parts.query, _SAFE, encoding)
    return Address(parts.scheme, host, port, f"{path}?{query}" if query else path)


def follow(address: Address, location: str) -> Address:
    """Where a redirect leads; never from https to http.

    Args:
        address: That answered.
        location: The `Location` header as http.client gives it: bytes read as Latin-1.

    Raises:
        TransportError: `transport.redirect`, `transport.url`.
    """
    try:
        joined = urllib.parse.urljoin(str(address), location)
    except ValueError as e:
        raise _bad() from e
    target = parse_address(joined, "latin-1")
    if not location or (address.scheme == "https" and target.scheme != "https"):
        raise TransportError(
            f"'{address}' redirects to where we do not follow",
            code="redirect",
            expected=f"an address with {address.scheme}",
            found=target if location else "no Location",
        )
    return target


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _bad() -> TransportError:
    """Never the text: it may hold a password, and errors are read by anybody."""
    return TransportError("this is not an address", code="url", expected="http://HOST/PATH or https://HOST/PATH")
