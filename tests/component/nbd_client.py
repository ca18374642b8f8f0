"""A small NBD client, written from the protocol's description only (NetworkBlockDevice/nbd, doc/proto.md)."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

FUA = 1  # NBD_CMD_FLAG_FUA
_READ, _WRITE, _DISCONNECT, _FLUSH, _TRIM, _ZEROES = 0, 1, 2, 3, 4, 6


class NbdError(Exception):
    """The server refused."""


class NbdClient:
    """One connection to one export."""

    def __init__(self, path: Path | str, export: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        assert self._take(16) == b"NBDMAGICIHAVEOPT"
        self._take(2)
        self._socket.sendall(struct.pack(">I", 3))  # fixed newstyle, no zeroes
        name = export.encode()
        body = struct.pack(">I", len(name)) + name + struct.pack(">H", 0)
        self._socket.sendall(b"IHAVEOPT" + struct.pack(">II", 7, len(body)) + body)  # NBD_OPT_GO
        self.size = self._negotiated()

    def _negotiated(self) -> int:
        size = 0
        while True:
            _, _, kind, length = struct.unpack(">QIII", self._take(20))
            data = self._take(length)
            if kind == 1:  # NBD_REP_ACK
                return size
            if kind & 1 << 31:
                self._socket.close()
                raise NbdError(f"reply {kind:#x}")
            if data[:2] == b"\0\0":  # NBD_INFO_EXPORT
                size = struct.unpack(">Q", data[2:10])[0]

    def write(self, offset: int, data: bytes, flags: int = 0) -> None:
        self._ask(_WRITE, offset, len(data), flags, data)

    def zero(self, offset: int, length: int) -> None:
        self._ask(_ZEROES, offset, length)

    def trim(self, offset: int, length: int) -> None:
        self._ask(_TRIM, offset, length)

    def flush(self) -> None:
        self._ask(_FLUSH, 0, 0)

    def read(self, offset: int, length: int) -> bytes:
        self._ask(_READ, offset, length)
        return self._take(length)

    def close(self) -> None:
        self._socket.sendall(struct.pack(">IHHQQI", 0x25609513, 0, _DISCONNECT, 0, 0, 0))
        self._socket.close()

    def _ask(self, command: int, offset: int, length: int, flags: int = 0, data: bytes = b"") -> None:
        self._socket.sendall(struct.pack(">IHHQQI", 0x25609513, flags, command, 7, offset, length) + data)
        magic, error, handle = struct.unpack(">IIQ", self._take(16))
        assert (magic, handle) == (0x67446698, 7)
        if error:
            raise NbdError(f"error {error}")

    def _take(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            piece = self._socket.recv(length - len(data))
            assert piece, "the server hung up"
            data += piece
        return data
