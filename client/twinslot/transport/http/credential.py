"""A credential for a server, put into requests by the one who makes the connections (S22).

Whoever composes a request parses what servers say, so it never has the token. The relay sees its bytes pass on their
way out and adds one line to each head:

    GET /path HTTP/1.1
    Authorization: TargetToken ...          <- here
    Host: ...

Only requests of methods that were agreed on pass, with a length of their body or without a body; anything else ends the
connection (RFC 9112, sections 2 and 6).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from twinslot.core.address import Address, parse_address
from twinslot.core.errors import DeviceError
from twinslot.transport.http.options import HttpSettings

HEAD_MAX: Final = 64 * 1024  # bytes of a request's head; ours have one
_END: Final = b"\r\n\r\n"
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*(?=\r\n)", re.IGNORECASE)
_OTHER: Final = re.compile(rb"\r\n(?:transfer-encoding|upgrade|authorization)[ \t]*:", re.IGNORECASE)
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,512}")
FETCHES: Final = frozenset({"GET", "HEAD"})
_READABLE_BY_OTHERS: Final = 0o007


class Unfit(OSError):  # noqa: N818 - an OSError for those who catch these
    """These bytes are no request that may have a credential."""


class HeadEditor:
    """Adds a line to the head of each request that passes.

    Args:
        line: As it stands in a head, without its end.
        methods: That may pass.
    """

    def __init__(self, line: str, methods: frozenset[str]) -> None:
        self._line, self._methods = line.encode("ascii"), frozenset(each.encode() for each in methods)
        self._held, self._body = bytearray(), 0

    # keeps: S22 (in the relay's process)
    def feed(self, data: bytes) -> bytes:
        """What goes on, of these bytes and of those that were held back; an unfinished head is held back.

        Raises:
            Unfit: They are no request that may pass.
        """
        self._held += data
        out = bytearray()
        while self._held:
            if self._body:
                size = min(self._body, len(self._held))
                out += self._held[:size]
                del self._held[:size]
                self._body -= size
                continue
            end = self._held.find(_END)
            if end < 0 and len(self._held) <= HEAD_MAX:
                break
            if not 0 <= end <= HEAD_MAX:
                raise Unfit("the head of a request has no end")
            head = bytes(self._held[: end + len(_END)])
            del self._held[: end + len(_END)]
            out += self._edited(head)
        return bytes(out)

    def _edited(self, head: bytes) -> bytes:
        first, _, rest = head.partition(b"\r\n")
        fields = b"\r\n" + rest
        lengths = _LENGTH.findall(fields)
        if first.split(b" ", 1)[0] not in self._methods or b"\n" in fields.replace(b"\r\n", b""):
            raise Unfit("this request may not have a credential")
        if _OTHER.search(fields) or len(lengths) > 1 or fields.lower().count(b"content-length") != len(lengths):
            raise Unfit("the length of this request's body cannot be known")
        self._body = int(lengths[0]) if lengths else 0
        return first + b"\r\n" + self._line + b"\r\n" + rest


def editor_for(address: Address, settings: HttpSettings, methods: frozenset[str]) -> HeadEditor | None:
    """What adds the credential on a connection to this address; None: it is not for this server.

    The file is read for each connection, so a renewed token counts from the next one on.

    Raises:
        DeviceError: `device.token`: the file cannot be used.
    """
    if not settings.credential_file:
        return None
    meant = parse_address(settings.credential_for)
    if (meant.scheme, meant.host, meant.number) != (address.scheme, address.host, address.number):
        return None
    return HeadEditor(f"Authorization: {settings.credential_kind} {_token(Path(settings.credential_file))}", methods)


def _token(path: Path) -> str:
    """The first line of the file; it stands in no message.

    Raises:
        DeviceError: `device.token`.
    """
    try:
        with path.open("rb") as file:
            open_to_others = path.stat().st_mode & _READABLE_BY_OTHERS
            text = file.read(4096).partition(b"\n")[0].strip().decode("ascii", "replace")
    except OSError as e:
        hint = "the user 'twinslot-relay' must be able to read it"
        raise DeviceError(f"the token '{path}' cannot be read", code="token", found=e.strerror, hint=hint) from e
    if open_to_others:
        hint = f"chmod 0400 {path}, owned by 'twinslot-relay'"
        raise DeviceError(f"every user may read the token '{path}'", code="token", expected="mode 0400", hint=hint)
    if not _TOKEN.fullmatch(text):
        expected = "one line of printable characters without spaces"
        raise DeviceError(f"'{path}' holds no token", code="token", expected=expected, found=f"{len(text)} characters")
    return text
