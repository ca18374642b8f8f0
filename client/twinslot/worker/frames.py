"""What engine and worker say to each other over one unix stream socket.

A frame is `kind (1 byte) | length (4 bytes, big endian) | payload`. Both ends bound the length by its kind before they
allocate anything; neither trusts the other.

| from | kind | payload |
|---|---|---|
| engine | OPEN | JSON: source and limits; a descriptor rides along (SCM_RIGHTS) when the source is one |
| worker | HEAD | length of the trust section (4 bytes), trust section, manifest |
| engine | PROCEED | the verified manifest, the same bytes |
| worker | LIST | payload number (2 bytes), plain list |
| worker | GROUP | payload number (2 bytes), group number (4), bytes fetched so far (8), plain content |
| worker | END | bytes fetched (8) |
| worker | ERROR | JSON of the error |
| engine | REQUEST | a trust request (bundle/verdict.py) |
| worker | VERDICT | its verdict |
"""

from __future__ import annotations

import array
import enum
import json
import socket
import struct
from dataclasses import dataclass
from typing import Final

from twinslot.core.errors import DeviceError, TransportError, TwinslotError
from twinslot.core.manifest import GROUP_SIZE_MAX, GROUPS_MAX, MANIFEST_MAX
from twinslot.core.model import DIGEST_SIZE

_HEADER: Final = struct.Struct(">BI")
LIST_PREFIX: Final = struct.Struct(">H")
GROUP_PREFIX: Final = struct.Struct(">HIQ")
TRUST_LENGTH: Final = struct.Struct(">I")
COUNT: Final = struct.Struct(">Q")
JSON_MAX: Final = 64 * 1024  # bytes
TRUST_MAX: Final = 1024 * 1024  # bytes; the trust section's bound (docs/image-format.md section 4)


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


MAX: Final = {  # bytes of payload
    Kind.OPEN: JSON_MAX,
    Kind.HEAD: TRUST_LENGTH.size + TRUST_MAX + MANIFEST_MAX,
    Kind.PROCEED: MANIFEST_MAX,
    Kind.LIST: LIST_PREFIX.size + GROUPS_MAX * DIGEST_SIZE,
    Kind.GROUP: GROUP_PREFIX.size + GROUP_SIZE_MAX,
    Kind.END: COUNT.size,
    Kind.ERROR: JSON_MAX,
    Kind.REQUEST: 4 * (TRUST_MAX + MANIFEST_MAX),  # base64 of trusted root, trust section and manifest
    Kind.VERDICT: 4 * TRUST_MAX,
}


@dataclass(frozen=True, slots=True)
class Frame:
    """One message. `descriptor` is owned by whoever received it; -1: none."""

    kind: Kind
    payload: bytes
    descriptor: int = -1

    def error(self) -> TwinslotError:
        """The error that an ERROR frame carries."""
        try:
            data = json.loads(self.payload)
        except ValueError as e:
            return DeviceError("the worker's error cannot be read", code="worker", found=e)
        return TwinslotError.from_dict(data if isinstance(data, dict) else {})


class Channel:
    """One end of the socket. Owns it; `close` may be called from another thread to end a blocked call."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def send(self, kind: Kind, *parts: bytes, descriptor: int = -1) -> None:
        """Send one frame, whole.

        Raises:
            TransportError: `transport.worker-gone`: the other end is gone.
        """
        head = _HEADER.pack(kind, sum(len(part) for part in parts))
        try:
            if descriptor >= 0:
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
                self._socket.sendmsg([head], rights)
            else:
                self._socket.sendall(head)
            for part in parts:
                self._socket.sendall(part)
        except OSError as e:
            raise _gone(e.strerror) from e

    def send_error(self, error: TwinslotError) -> None:
        """Tell the other end what went wrong; if it is gone, nobody needs to know."""
        try:
            self.send(Kind.ERROR, json.dumps(error.as_dict()).encode()[:JSON_MAX])
        except TransportError:
            return

    def receive(self, *expected: Kind) -> Frame:
        """Wait for one frame of these kinds; an ERROR frame is raised.

        Raises:
            TwinslotError: Whatever the worker reported.
            TransportError: `transport.worker-gone`.
            DeviceError: `device.worker`: the other end does not speak this language.
        """
        head, descriptor = self._receive_head()
        number, length = _HEADER.unpack(head)
        kind = Kind(number) if number in Kind.__members__.values() else None
        if kind is None or length > MAX[kind] or kind not in (*expected, Kind.ERROR):
            names = ", ".join(k.name for k in expected)
            raise DeviceError(
                "the other end sent what was not asked",
                code="worker",
                expected=names,
                found=f"kind {number}, {length} bytes",
            )
        frame = Frame(kind, self._receive_exactly(length), descriptor)
        if kind is Kind.ERROR and Kind.ERROR not in expected:
            raise frame.error()
        return frame

    def close(self) -> None:
        """End the conversation; may be called twice."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        finally:
            self._socket.close()

    def _receive_head(self) -> tuple[bytes, int]:
        try:
            data, ancillary, _, _ = self._socket.recvmsg(_HEADER.size, socket.CMSG_SPACE(4))
        except OSError as e:
            raise _gone(e.strerror) from e
        descriptor = -1
        for level, kind, rights in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptor = array.array("i", rights[:4])[0]
        if not data:
            raise _gone("it closed the connection")
        return data + self._receive_exactly(_HEADER.size - len(data)), descriptor

    def _receive_exactly(self, length: int) -> bytes:
        buffer = bytearray(length)
        view, have = memoryview(buffer), 0
        while have < length:
            try:
                count = self._socket.recv_into(view[have:])
            except OSError as e:
                raise _gone(e.strerror) from e
            if not count:
                raise _gone("it ended in the middle of a message")
            have += count
        return bytes(buffer)


def _gone(found: object) -> TransportError:
    return TransportError("the other process is gone", code="worker-gone", found=found, hint="see the journal")
