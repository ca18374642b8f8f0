"""Whatever the bus passes on, the next good message is read: nothing large, nothing odd ends the connection."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from dbus_next.message import Message
from dbus_next.signature import SignatureTree

from twinslot.bus import reading
from twinslot.bus.reading import BoundedReader

LARGEST = 4096


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def message(member: str, body: bytes = b"", kind: int = 4) -> bytes:
    """A signal; `kind` overwrites the type."""
    made = Message.new_signal("/x", "x.y", member, "ay", [body])
    made.serial = 1
    data = bytearray(made._marshall())  # type: ignore[no-untyped-call]
    data[1] = kind
    return bytes(data)


def read(reader: BoundedReader) -> str | None:
    """The member of the next message, as the library's loop reads it; None: not there yet."""
    found = reader.unmarshall()  # type: ignore[no-untyped-call]
    return str(found.member) if found else None


@pytest.mark.parametrize(
    "bad",
    [
        message("Large", b"x" * LARGEST),
        message("Larger", b"x" * 200_000),
        message("Odd", kind=9),
        message("Zero", kind=0),
        message("Odd").replace(b"ay\0", b"a(\0"),
        message("Odd").replace(b"ay\0", b"tt\0"),  # says more than it holds
    ],
)
def test_a_message_that_cannot_be_read_is_dropped_and_the_next_one_is_read(
    ends: tuple[socket.socket, socket.socket], bad: bytes
) -> None:
    ours, theirs = ends
    reader = BoundedReader(None, ours, LARGEST)
    data = bad + message("Good")
    found = None
    for start in range(0, len(data), 1000):  # in pieces, as a socket gives them
        theirs.sendall(data[start : start + 1000])
        found = found or read(reader)
    assert (found or read(reader)) == "Good"


def test_descriptors_of_a_dropped_message_are_closed(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    reader = BoundedReader(None, ours, LARGEST)
    inside, outside = os.pipe()
    socket.send_fds(theirs, [message("Large", b"x" * LARGEST)], [outside])
    os.close(outside)
    theirs.sendall(message("Good"))
    assert read(reader) == "Good"
    assert os.read(inside, 1) == b"", "no copy of the writing end is left"
    os.close(inside)


def test_signatures_are_not_kept_without_bound(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    for number in range(3 * reading.SIGNATURES):
        signature = "".join("uinqxtyb"[int(digit, 8)] for digit in f"{number:o}")
        made = Message.new_signal("/x", "x.y", "Z", signature, [0 if kind != "b" else False for kind in signature])
        made.serial = 1
        theirs.sendall(made._marshall())  # type: ignore[no-untyped-call]
        assert read(BoundedReader(None, ours, LARGEST)) == "Z"
        assert len(SignatureTree._cache) <= reading.SIGNATURES + 20
