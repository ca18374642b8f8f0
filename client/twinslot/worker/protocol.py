"""What engine and worker say to each other over one unix stream socket.

A frame is `kind (1 byte) | length (4 bytes, big endian) | payload`. Both ends bound the length by its kind before they
allocate anything; neither trusts the other. Descriptors come with OPEN, BASE, FILE, OPENER, UNWRAP and SERVE from the
engine and with LINE from the relay: everywhere else the kernel drops what a hostile end sends along. What worker and
relay say to each other (DIAL, LINE, BROKEN, WHY) stands in relay.py.

| from | kind | payload |
|---|---|---|
| engine | OPEN | JSON: source and limits; a descriptor rides along (SCM_RIGHTS): the source, or the way to the relay |
| worker | HEAD | length of the trust section (4 bytes), trust section, manifest |
| engine | BASE | payload number (2 bytes); its base: size (8), group size (4), SHA-256 (32), list; a descriptor of it |
| engine | UNLOCK | of an encrypted image: the verified manifest; the worker answers with the envelope |
| worker | ENVELOPE | the image's envelope, unverified |
| engine | OPENER | none; a descriptor of a socket behind which a process opens units |
| engine | ATTACH | numbers of attachments that are to come (2 bytes each) |
| engine | PROCEED | the verified manifest, the same bytes |
| worker | ATTACHMENT | number (2 bytes), content; before the first LIST |
| worker | FETCHED | bytes fetched so far (8); at once when a fetch begins, then as a sign of life |
| worker | LIST | payload number (2 bytes), 1 if it waits for WANT or 0 if all groups follow (1), plain list |
| engine | WANT | payload number (2 bytes), 1 if only the cost is asked for (1), a bit for each group; none: no more |
| worker | COST | bytes that these groups would take from the patch (8) and from the image (8) |
| worker | GROUP | payload number (2 bytes), group number (4), bytes fetched so far (8), content, or none: no way |
| worker | NOTE | JSON: a try that failed, or what is not used (worker/notes.py) |
| worker | END | bytes fetched (8) |
| worker | ERROR | JSON of the error |
| engine | REQUEST | a trust request (trust/verdict.py) |
| worker | DROPPED | how many of the kept roots follow from the built-in one (4), JSON of why the next one does not |
| worker | VERDICT | its verdict |
| engine | QUESTION | what a refresh of a repository starts from (trust/repository_messages.py) |
| worker | ASK | which document the trust process wants to see: kept by the device, or the server's |
| engine | DOCUMENT | 1 and the document, or 0: there is none |
| worker | KEEP | the document for this request is trusted from now on |
| worker | FRESH | the answer to a QUESTION |
| engine | FILE | JSON: address, bound and validators of a small file, or a document to send (worker/small_files.py) |
| worker | CONTENT | length of a head (4 bytes), head in JSON, the file |
| engine | UNWRAP | the envelope; a descriptor of the file with the private key, or with the public half of a token's |
| worker | EXCHANGE | the sender's share of the envelope, for the key in the token |
| engine | SHARED | what the token made of it |
| worker | CONTENT_KEY | cipher (1), id of the image (16), content key (32) |
| engine | SERVE | the same; a descriptor of the other end of the socket that OPENER handed out |
| fetching worker | SEALED | over that socket: id of the file (16), place (7), sealed unit |
| decrypting worker | UNIT | its content |
"""

from __future__ import annotations

import array
import contextlib
import enum
import os
import socket
import struct
import time
from dataclasses import dataclass
from typing import Any, Final

from twinslot.core.bounds import (
    ATTACHMENT_SIZE_MAX,
    ATTACHMENTS_MAX,
    DIGEST_SIZE,
    DOCUMENT_LIMIT,
    ENTRY_SIZE,
    GROUP_SIZE_MAX,
    GROUPS_MAX,
    MANIFEST_MAX,
    TRUST_MAX,
)
from twinslot.core.errors import DeviceError, TransportError, TwinslotError
from twinslot.image.envelope import CONTENT_KEY_SIZE, ENVELOPE_MAX
from twinslot.image.units import FILE_ID_SIZE, PLACE_SIZE, TAG_SIZE
from twinslot.worker.error_codec import read_error, write_error

ROOM: Final = 1 << 20  # bytes on their way from a worker, so that it decodes on while the engine waits for the medium
SO_SNDBUFFORCE: Final = 32  # include/uapi/asm-generic/socket.h
_HEADER: Final = struct.Struct(">BI")
LIST_PREFIX: Final = struct.Struct(">HB")
BASE_PREFIX: Final = struct.Struct(">HQI32s")
WANT_PREFIX: Final = struct.Struct(">HB")
COST: Final = struct.Struct(">QQ")
GROUP_PREFIX: Final = struct.Struct(">HIQ")
TRUST_LENGTH: Final = struct.Struct(">I")
HEAD_LENGTH: Final = struct.Struct(">I")
ATTACHMENT_NUMBER: Final = struct.Struct(">H")
COUNT: Final = struct.Struct(">Q")
LINE_NUMBER: Final = struct.Struct(">I")
FIT: Final = struct.Struct(">I")
CONTENT: Final = struct.Struct(f">B{FILE_ID_SIZE}s{CONTENT_KEY_SIZE}s")
SEALED_PREFIX: Final = struct.Struct(f">{FILE_ID_SIZE}s{PLACE_SIZE}s")
JSON_MAX: Final = 64 * 1024  # bytes
_UNIT_MAX: Final = GROUPS_MAX * ENTRY_SIZE  # bytes of a stored table, the longest unit there is
KEY_MAX: Final = 16 * 1024  # bytes of a key file; the longest in use have some hundred
PUBLIC_PEM: Final = b"-----BEGIN PUBLIC KEY-----"  # how the public half of a key in a token begins
GONE: Final = "transport.worker-gone"  # code: the other end closed, or died
SILENT: Final = "transport.worker-silent"  # code: it is there, and says nothing


@enum.unique
class Kind(enum.IntEnum):
    """What a frame carries."""

    OPEN = 1
    HEAD = 2
    PROCEED = 3
    LIST = 4
    GROUP = 5
    END = 6
    ERROR = 7
    REQUEST = 8
    VERDICT = 9
    FETCHED = 10
    BASE = 11
    WANT = 12
    COST = 13
    NOTE = 14
    DROPPED = 15
    QUESTION = 16
    ASK = 17
    DOCUMENT = 18
    KEEP = 19
    FRESH = 20
    FILE = 21
    CONTENT = 22
    UNLOCK = 23
    ENVELOPE = 24
    OPENER = 25
    UNWRAP = 26
    CONTENT_KEY = 27
    SERVE = 28
    SEALED = 29
    UNIT = 30
    DIAL = 31
    LINE = 32
    BROKEN = 33
    WHY = 34
    ATTACH = 37
    ATTACHMENT = 38
    EXCHANGE = 35
    SHARED = 36


MAX: Final = {  # bytes of payload
    Kind.OPEN: JSON_MAX,
    Kind.HEAD: TRUST_LENGTH.size + TRUST_MAX + MANIFEST_MAX,
    Kind.PROCEED: MANIFEST_MAX,
    Kind.LIST: LIST_PREFIX.size + GROUPS_MAX * DIGEST_SIZE,
    Kind.GROUP: GROUP_PREFIX.size + GROUP_SIZE_MAX,
    Kind.END: COUNT.size,
    Kind.ERROR: JSON_MAX,
    Kind.REQUEST: 4 * (TRUST_MAX + MANIFEST_MAX),  # base64 of roots (KEPT_MAX), trust section and manifest
    Kind.VERDICT: 4 * TRUST_MAX,
    Kind.FETCHED: COUNT.size,
    Kind.BASE: BASE_PREFIX.size + GROUPS_MAX * DIGEST_SIZE,
    Kind.WANT: WANT_PREFIX.size + GROUPS_MAX // 8,
    Kind.COST: COST.size,
    Kind.NOTE: JSON_MAX,
    Kind.DROPPED: FIT.size + JSON_MAX,
    Kind.QUESTION: 2 * TRUST_MAX,
    Kind.ASK: JSON_MAX,
    Kind.DOCUMENT: 1 + DOCUMENT_LIMIT,
    Kind.KEEP: JSON_MAX,
    Kind.FRESH: JSON_MAX,
    Kind.FILE: 3 * JSON_MAX,  # a document of JSON_MAX at most, whose quotes are escaped
    Kind.CONTENT: HEAD_LENGTH.size + JSON_MAX + DOCUMENT_LIMIT,
    Kind.UNLOCK: MANIFEST_MAX,
    Kind.ENVELOPE: ENVELOPE_MAX,
    Kind.OPENER: 0,
    Kind.UNWRAP: ENVELOPE_MAX,
    Kind.CONTENT_KEY: CONTENT.size,
    Kind.SERVE: CONTENT.size,
    Kind.SEALED: SEALED_PREFIX.size + _UNIT_MAX + TAG_SIZE,
    Kind.UNIT: _UNIT_MAX,
    Kind.DIAL: JSON_MAX,
    Kind.LINE: JSON_MAX,
    Kind.BROKEN: JSON_MAX,
    Kind.WHY: LINE_NUMBER.size,
    Kind.ATTACH: ATTACHMENT_NUMBER.size * ATTACHMENTS_MAX,
    Kind.ATTACHMENT: ATTACHMENT_NUMBER.size + ATTACHMENT_SIZE_MAX,
    Kind.EXCHANGE: 65,  # bytes of a point of P-256 (RFC 9180 section 7.1)
    Kind.SHARED: 32,  # bytes of its x coordinate
}
_WITH_DESCRIPTOR: Final = frozenset({Kind.OPEN, Kind.BASE, Kind.FILE, Kind.OPENER, Kind.UNWRAP, Kind.SERVE, Kind.LINE})


_NOTHING: Final = memoryview(b"")


@dataclass(frozen=True, slots=True)
class Frame:
    """One message.

    Attributes:
        kind: What it carries.
        payload: Of a GROUP or SEALED: what stands before the content.
        descriptor: Owned by whoever received it; -1: none.
        content: Of a GROUP or SEALED; only valid until the next frame is received.
    """

    kind: Kind
    payload: bytes
    descriptor: int = -1
    content: memoryview = _NOTHING


def unpack(form: struct.Struct, payload: bytes) -> tuple[Any, ...]:
    """The fields at the front of a payload, whichever end sent it.

    Raises:
        DeviceError: `device.worker`: it is shorter than that.
    """
    if len(payload) < form.size:
        raise DeviceError(
            "the other process sent half a message",
            code="worker",
            expected=f"{form.size} bytes",
            found=f"{len(payload)} bytes",
        )
    return form.unpack_from(payload)


class Channel:
    """One end of the socket. Owns it; `close` may be called from another thread to end a blocked call.

    Args:
        sock: Connected unix stream socket.
        silence: Seconds that one message may take, in either direction; None: as long as it takes.
    """

    def __init__(self, sock: socket.socket, silence: float | None = None) -> None:
        self._socket = sock
        self._content = bytearray()  # of the last group: a new one for each would be as much work as to hash it
        self.silence = silence

    def send(self, kind: Kind, *parts: bytes, descriptor: int = -1) -> None:
        """Send one frame, whole. The caller keeps its descriptor.

        Raises:
            TransportError: `transport.worker-gone`, `transport.worker-silent`: the other end does not take it.
        """
        head = _HEADER.pack(kind, sum(len(part) for part in parts))
        try:
            self._socket.settimeout(self.silence)
            if descriptor >= 0:
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
                self._socket.sendmsg([head], rights)
                self._send_all(list(filter(None, parts)))
            else:
                self._send_all([head, *filter(None, parts)])
        except OSError as e:
            raise self._lost(e) from e

    def _send_all(self, parts: list[bytes]) -> None:
        """In one call, as far as the kernel takes it. The other end may be gone once it has all of a frame."""
        taken = self._socket.sendmsg(parts) if parts else 0
        for part in parts:
            if taken < len(part):
                self._socket.sendall(memoryview(part)[taken:])
            taken = max(taken - len(part), 0)

    def send_error(self, error: TwinslotError) -> None:
        """Tell the other end what went wrong; if it is gone, nobody needs to know."""
        with contextlib.suppress(TransportError):
            self.send(Kind.ERROR, write_error(error, JSON_MAX))

    def receive(self, *expected: Kind) -> Frame:
        """Wait for one frame of these kinds; an ERROR frame is raised.

        Raises:
            TwinslotError: Whatever the worker reported.
            TransportError: `transport.worker-gone`, `transport.worker-silent`.
            DeviceError: `device.worker`: the other end does not speak this language.
        """
        until = None if self.silence is None else time.monotonic() + self.silence
        descriptors: list[int] = []
        try:
            head = self._receive(_HEADER.size, until, None if _WITH_DESCRIPTOR.isdisjoint(expected) else descriptors)
            kind, length = _judge(head, expected)
            before = min(length, _before_content(kind, length))
            payload = self._receive(before, until)
            if kind is Kind.ERROR:
                raise read_error(payload)
            content = self._receive_content(length - before, until)
            return Frame(kind, payload, descriptors.pop() if descriptors else -1, content)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def close(self) -> None:
        """End the conversation; may be called twice."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _receive(self, length: int, until: float | None, descriptors: list[int] | None = None) -> bytes:
        buffer = bytearray(length)
        self._fill(memoryview(buffer), until, descriptors)
        return bytes(buffer)

    def _receive_content(self, length: int, until: float | None) -> memoryview:
        if not length:
            return _NOTHING
        if len(self._content) < length:
            self._content = bytearray(length)
        view = memoryview(self._content)[:length]
        self._fill(view, until)
        return view.toreadonly()

    def _fill(self, view: memoryview, until: float | None, descriptors: list[int] | None = None) -> None:
        have, length = 0, len(view)
        while have < length:
            try:
                self._socket.settimeout(None if until is None else max(until - time.monotonic(), 0.001))
                if descriptors is None:  # and the kernel closes any that come along (unix(7), SCM_RIGHTS)
                    count = self._socket.recv_into(view[have:])
                else:
                    count = self._receive_rights(view[have:], descriptors)
            except OSError as e:
                raise self._lost(e) from e
            if not count:
                raise _gone("it ended in the middle of a message" if have else "it closed the connection")
            have += count

    def _receive_rights(self, view: memoryview, descriptors: list[int]) -> int:
        """As `recv_into`, and takes one descriptor; CMSG_LEN, since CMSG_SPACE has room for a second one."""
        count, ancillary, _, _ = self._socket.recvmsg_into([view], socket.CMSG_LEN(4), socket.MSG_CMSG_CLOEXEC)
        for level, kind, rights in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors += array.array("i", rights[: len(rights) // 4 * 4])
        return count

    def _lost(self, error: OSError) -> TransportError:
        if isinstance(error, TimeoutError):
            return TransportError(
                "the other process sent nothing in time",
                code=SILENT.partition(".")[2],
                expected=f"a message within {self.silence:g} seconds",
                hint="see the journal",
            )
        return _gone(error.strerror)


def _before_content(kind: Kind, length: int) -> int:
    """Bytes of payload in front of the content, which frames have that come by the thousand."""
    if kind is Kind.GROUP:
        return GROUP_PREFIX.size
    return SEALED_PREFIX.size if kind is Kind.SEALED else length


def make_room(sock: socket.socket) -> None:
    """Let much be on its way from this end. Above net.core.wmem_max only who has CAP_NET_ADMIN gets all of it."""
    for option in (SO_SNDBUFFORCE, socket.SO_SNDBUF):
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) < ROOM:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, option, ROOM)


# keeps: S9
def _judge(head: bytes, expected: tuple[Kind, ...]) -> tuple[Kind, int]:
    """Kind and length of a frame that may be taken, before anything is allocated for it."""
    number, length = _HEADER.unpack(head)
    kind = next((kind for kind in (*expected, Kind.ERROR) if kind == number), None)
    if kind is None or length > MAX[kind]:
        raise DeviceError(
            "the other process sent what was not asked",
            code="worker",
            expected=" or ".join(f"{kind.name} of at most {MAX[kind]} bytes" for kind in expected),
            found=f"kind {number}, {length} bytes",
        )
    return kind, length


def _gone(found: object) -> TransportError:
    return TransportError("the other process is gone", code=GONE.partition(".")[2], found=found, hint="see the journal")
