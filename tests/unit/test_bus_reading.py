"""Whatever the bus passes on, the next good message is read: nothing large, nothing odd ends the connection."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from dbus_next.message import Message
from dbus_next.signature import SignatureTree

import waits
from twinslot.bus import reading
from twinslot.bus.reading import BoundedReader, PatientWriter

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


async def written(
    ours: socket.socket, theirs: socket.socket, messages: list[Message]
) -> tuple[bytes, int, list[object]]:
    """What arrives at a reader that begins late, how many descriptors come with it, and why the connection ended."""
    ended: list[object] = []
    loop = asyncio.get_running_loop()
    connection = SimpleNamespace(
        _negotiate_unix_fd=True, _sock=ours, _loop=loop, _fd=ours.fileno(), unique_name=":1.1", _finalize=ended.append
    )
    writer = PatientWriter(connection)  # type: ignore[no-untyped-call]
    last = loop.create_future()
    for each in messages:
        writer.schedule_write(each, last if each is messages[-1] else None)
    await asyncio.sleep(0.01)  # the socket is full by now
    assert not last.done()
    data, found = b"", 0
    theirs.settimeout(waits.HANG)
    while not last.done() and not ended:
        await asyncio.sleep(0)
        piece, descriptors, *_ = socket.recv_fds(theirs, 1 << 16, 8)
        data, found = data + piece, found + len(descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
    theirs.setblocking(False)
    while chunk := _rest(theirs):
        data += chunk
    return data, found, ended


def _rest(end: socket.socket) -> bytes:
    try:
        return end.recv(1 << 16)
    except BlockingIOError:
        return b""


def test_a_bus_that_takes_no_more_for_a_while_is_waited_for(ends: tuple[socket.socket, socket.socket]) -> None:
    messages = [Message.new_signal("/x", "x.y", f"M{n}", "s", ["x" * 3000]) for n in range(400)]
    with open(os.devnull, "rb") as file:
        messages[390].unix_fds = [file.fileno()]
        data, descriptors, ended = asyncio.run(written(*ends, messages))
    assert ended == []
    assert [data.count(f"M{n}\0".encode()) for n in range(400)] == [1] * 400
    assert descriptors == 1
