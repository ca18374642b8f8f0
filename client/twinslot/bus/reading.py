"""Messages as they come and go, bounded: the library reads whatever the bus passes on, and any user may send.

The library ends the whole connection at a message that it cannot read, keeps every signature that it ever saw, and
makes objects of bodies of 32 MiB (max_message_size of the system bus). Here such a message is dropped, and the rest
goes on.
"""

from __future__ import annotations

import array
import logging
import os
import socket
from struct import unpack_from
from typing import Any, Final

from dbus_next._private.unmarshaller import Unmarshaller
from dbus_next.aio.message_bus import MessageBus, _future_set_exception, _future_set_result, _MessageWriter
from dbus_next.signature import SignatureTree

LARGEST: Final = 128 * 1024  # bytes of a message to the service; an install's options take less than one thousand
SIGNATURES: Final = 1000  # that are remembered; we declare some dozens
_HEAD: Final = 16  # bytes (D-Bus specification, "Message Format"): body length at 4, length of the fields at 12
_PIECE: Final = 64 * 1024  # bytes in which a message is skipped

_log: Final = logging.getLogger(__name__)


class BoundedBus(MessageBus):
    """The library's connection, reading with `BoundedReader` and writing with `PatientWriter`.

    Args:
        largest: Bytes of the largest message that is read; 0: as large as the bus passes on.
        arguments: As the library's.

    Attributes:
        with_descriptors: Serials of our calls whose answers may bring descriptors.
    """

    def __init__(self, *, largest: int = 0, **arguments: Any) -> None:
        self._largest = largest
        self.with_descriptors: set[int] = set()
        super().__init__(**arguments)
        self._writer = PatientWriter(self)  # type: ignore[no-untyped-call]

    def _create_unmarshaller(self) -> Unmarshaller:
        return BoundedReader(self._stream, self._sock, self._largest)


class PatientWriter(_MessageWriter):
    """Waits while the bus takes no more: the library's takes a full socket for the end of the connection.

    Any user can fill the socket by calling faster than the bus takes our answers.
    """

    def write_callback(self) -> None:
        """Called whenever the socket can be written."""
        try:
            while (data := self._waiting()) is not None:
                self._send_some(data)
                if self.offset < len(data):
                    return
                self.buf = None
                _future_set_result(self.fut, None)  # type: ignore[no-untyped-call]
        except BlockingIOError:
            return
        except Exception as e:  # noqa: BLE001 - as the library does
            _future_set_exception(self.fut, e)  # type: ignore[no-untyped-call]
            self.bus._finalize(e)

    def _waiting(self) -> memoryview | None:
        """The message that is being sent, or the next one."""
        if self.buf is None and self.messages.empty():
            self.loop.remove_writer(self.fd)
        elif self.buf is None:
            data, self.unix_fds, self.fut = self.messages.get_nowait()
            self.buf, self.offset = memoryview(data), 0
        return self.buf

    def _send_some(self, data: memoryview) -> None:
        """Descriptors go with the first bytes of their message."""
        with_them = []
        if self.unix_fds and self.negotiate_unix_fd:
            with_them = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", self.unix_fds))]
        self.offset += self.sock.sendmsg([data[self.offset :]], with_them)
        self.unix_fds = None


class BoundedReader(Unmarshaller):
    """Reads one message; those that are too large or cannot be read are dropped before it, with their descriptors.

    Args:
        stream: The library's.
        sock: The library's; brings descriptors.
        largest: See `BoundedBus`.
    """

    def __init__(self, stream: object, sock: object, largest: int) -> None:
        super().__init__(stream, sock)  # type: ignore[no-untyped-call]
        self._largest = largest
        self._skip = 0  # bytes of a message that is being dropped
        self._parsing = False

    def _unmarshall(self) -> None:
        """Called again after each interruption, with what was read so far in `buf`."""
        while self.message is None:
            self._skip_rest()
            self._fill(_HEAD)
            length = self._length()
            if self._largest and length > self._largest:
                self._skip = length
                continue
            self._fill(length)
            self._parse()

    def read(self, n: int, prefetch: bool = False) -> int:
        """As the library's; while a message is parsed, it ends where it said."""
        if self._parsing and n > len(self.buf) - self.offset:
            raise ValueError("the message says more than it holds")
        return int(super().read(n, prefetch))  # type: ignore[no-untyped-call]

    def _fill(self, count: int) -> None:
        """Have so many bytes in `buf`; ends `_unmarshall` for now when they are not there yet."""
        self.offset = 0
        self.read(count, prefetch=True)

    def _parse(self) -> None:
        if len(SignatureTree._cache) > SIGNATURES:
            SignatureTree._cache.clear()
        self._parsing = True
        try:
            super()._unmarshall()  # type: ignore[no-untyped-call]
        except Exception as e:  # noqa: BLE001 - whatever a stranger sent, the connection goes on
            _log.warning("a message that cannot be read was dropped: %s", e)
            self._drop()
        finally:
            self._parsing = False

    def _length(self) -> int:
        """Bytes of the whole message."""
        order = "<" if self.buf[0] == ord("l") else ">"
        (body,) = unpack_from(order + "I", self.buf, 4)
        (fields,) = unpack_from(order + "I", self.buf, 12)
        return int(_HEAD + fields + -fields % 8 + body)

    def _skip_rest(self) -> None:
        while self._skip:
            read = min(len(self.buf), self._skip)
            self._skip -= read
            self._drop()
            if self._skip:
                self._fill(min(self._skip, _PIECE))

    def _drop(self) -> None:
        """Forget what was read of a message."""
        self.message = None
        self.buf = bytearray()
        while self.unix_fds:
            os.close(self.unix_fds.pop())
