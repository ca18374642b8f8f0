"""The units of an encrypted image, opened by a process that has the key and parses nothing (S22).

The process that fetches, parses and decodes asks over a socket; the key never comes to it.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from twinslot.core.errors import DeviceError, ImageError
from twinslot.image.units import TAG_SIZE, OpensUnits, UnitPlace
from twinslot.worker.protocol import SEALED_PREFIX, Channel, Kind, make_room

# Bytes on their way to the opener and back. Less than either socket buffer (net.core.wmem_default has 208 KiB), so that
# neither end waits for the other to read.
AHEAD: Final = 128 * 1024
SILENCE: Final = 60.0  # seconds; opening a unit takes milliseconds


class RemoteOpener(OpensUnits):
    """Implements `image.units.Opener` on a socket.

    Args:
        link: To the process that opens; owned by whoever made it.
        file_id: Of the file whose units are opened.
    """

    def __init__(self, link: OpenerLink, file_id: bytes) -> None:
        self._link, self._file_id = link, file_id

    def beside(self, file_id: bytes) -> RemoteOpener:
        """For a file beside the image, over the same socket; both may be used in turns."""
        return RemoteOpener(self._link, file_id)

    def open(self, place: UnitPlace, sealed: bytes) -> bytes:
        """See `Opener`."""
        return self._link.result(self._link.ask(self._file_id, place, sealed))

    def stream(self, units: Iterable[tuple[UnitPlace, bytes]]) -> Iterator[bytes]:
        """See `Opener`."""
        asked: deque[_Question] = deque()
        for place, sealed in units:
            while asked and sum(each.size for each in asked) + len(sealed) > AHEAD:
                yield self._link.result(asked.popleft())
            asked.append(self._link.ask(self._file_id, place, sealed))
        while asked:
            yield self._link.result(asked.popleft())


class _Question:
    """A unit that was sent, and its content or error once that has come back."""

    def __init__(self, size: int) -> None:
        self.size, self.answer = size, b""
        self.error: ImageError | None = None
        self.answered = False


class OpenerLink:
    """The socket to the opening process. Answers come in the order of the questions, whoever asked them.

    Args:
        descriptor: Owned.
    """

    def __init__(self, descriptor: int) -> None:
        sock = socket.socket(fileno=descriptor)
        make_room(sock)
        self._channel = Channel(sock, SILENCE)
        self._open: deque[_Question] = deque()

    # keeps: S22 (in the worker's process)
    def ask(self, file_id: bytes, place: UnitPlace, sealed: bytes) -> _Question:
        """Send a unit; answers to earlier ones are taken in if too much is on its way."""
        if len(sealed) < TAG_SIZE:
            raise ImageError(f"{place} is too short to be sealed", code="sealed", found=f"{len(sealed)} bytes")
        while self._open and sum(each.size for each in self._open) + len(sealed) > AHEAD:
            self._take()
        self._channel.send(Kind.SEALED, SEALED_PREFIX.pack(file_id, place.pack()), sealed)
        self._open.append(_Question(len(sealed)))
        return self._open[-1]

    def result(self, question: _Question) -> bytes:
        """The content of a unit that was sent.

        Raises:
            ImageError: `image.sealed`: it does not open.
            TransportError: The opening process is gone.
        """
        while not question.answered:
            self._take()
        if question.error is not None:
            raise question.error
        return question.answer

    def close(self) -> None:
        """Hang up; the process at the other end leaves."""
        self._channel.close()

    def _take(self) -> None:
        question = self._open.popleft()
        question.answered = True
        try:
            question.answer = self._channel.receive(Kind.UNIT).payload
        except ImageError as e:
            question.error = e
            return
        if len(question.answer) != question.size - TAG_SIZE:
            found = f"{len(question.answer)} bytes"
            raise DeviceError("the decrypting worker answered with another length", code="worker", found=found)
