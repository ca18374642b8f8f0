"""Networks that misbehave: a proxy that resets, stalls and crawls, and a link that loses packets.

The proxy is for any board: it stands in front of a web server. The link is for programs of this host: two network name
spaces with a wire between them that is a program, since not every kernel has netem; what is lost, is lost between two
real TCP stacks.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import random
import select
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Self

_PIECE: Final = 16 << 10  # bytes moved at once
_TICK: Final = 0.05  # seconds between two looks at the clock
_CLONE_NEWNET: Final = 0x40000000  # include/uapi/linux/sched.h
_TUNSETIFF: Final = 0x400454CA  # include/uapi/linux/if_tun.h: _IOW('T', 202, int)
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000  # the same file
_MTU: Final = 1500  # bytes, as on Ethernet


@dataclass(frozen=True, slots=True)
class NetworkFaults:
    """How a proxy treats each connection.

    Attributes:
        reset_after: Seconds until both ends get a reset; 0: never.
        stall_after: Bytes towards the client after which nothing moves any more; 0: never. Only `stalls` times.
        stalls: How many connections stall.
        rate: Bytes a second towards the client; 0: as fast as it goes.
    """

    reset_after: float = 0
    stall_after: int = 0
    stalls: int = 0
    rate: int = 0


@dataclass
class Proxy:
    """A TCP proxy on loopback in front of a port, while the `with` block runs.

    Attributes:
        connections: How many there were.
        resets: How many it ended itself.
        stalled: How many it let hang.
    """

    target: int
    faults: NetworkFaults
    connections: int = 0
    resets: int = 0
    stalled: int = 0
    _listener: socket.socket = field(init=False)
    _threads: list[threading.Thread] = field(init=False, default_factory=list)
    _ended: threading.Event = field(init=False, default_factory=threading.Event)

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_TICK)
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self.go_away()

    def go_away(self) -> None:
        """End every connection and refuse new ones, for good."""
        self._ended.set()
        while self._threads:
            self._threads.pop().join()
        self._listener.close()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, name="network-faults")  # type: ignore[arg-type]
        self._threads.insert(0, thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._listener.accept()
                self.connections += 1
                self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        began, moved = time.monotonic(), 0
        with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.target)) as server:
            while not self._ended.is_set():
                if self.faults.reset_after and time.monotonic() - began > self.faults.reset_after:
                    self.resets += 1
                    _reset(client)
                    return
                if self._stalls(moved):
                    self._hang(client)
                    return
                ready, _, _ = select.select([client, server], [], [], _TICK)
                for end in ready:
                    data = end.recv(_PIECE)
                    if not data:
                        return
                    (client if end is server else server).sendall(data)
                    moved += len(data) if end is server else 0
                self._slow_down(began, moved)

    def _stalls(self, moved: int) -> bool:
        faults = self.faults
        return bool(faults.stall_after) and moved >= faults.stall_after and self.stalled < faults.stalls

    def _hang(self, client: socket.socket) -> None:
        """Take and give nothing until the other end goes."""
        self.stalled += 1
        while not self._ended.is_set():
            ready, _, _ = select.select([client], [], [], _TICK)
            if ready and not client.recv(_PIECE):
                return

    def _slow_down(self, began: float, moved: int) -> None:
        if self.faults.rate:
            ahead = moved / self.faults.rate - (time.monotonic() - began)
            if ahead > 0:
                self._ended.wait(min(ahead, 1.0))


def _reset(connection: socket.socket) -> None:
    """The next close sends a RST (socket(7), SO_LINGER with no time)."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


# --- a link that loses packets

NEAR, FAR = "10.99.0.1", "10.99.0.2"


@dataclass
class Wire:
    """What went over the link, in both directions."""

    loss: float
    sent: int = 0
    lost: int = 0


@contextlib.contextmanager
def lossy_link(loss: float, seed: int) -> Iterator[tuple[socket.socket, Wire]]:
    """Put this thread, and what it starts, into a network of its own with one lossy link; for a process of its own.

    There is no way back into the network from before.

    Args:
        loss: Share of the packets that vanish, in each direction.
        seed: Which ones.

    Yields:
        A listening socket at the far end (address `FAR`), and what the wire did.
    """
    _own_network()
    far = _tun("far0", FAR)
    listener = socket.create_server((FAR, 0))
    _own_network()
    near = _tun("near0", NEAR)
    wire, ended = Wire(loss), threading.Event()
    carrier = threading.Thread(target=_carry, args=(near, far, wire, random.Random(seed), ended), name="wire")
    carrier.start()
    try:
        yield listener, wire
    finally:
        ended.set()
        carrier.join()
        listener.close()
        os.close(near)
        os.close(far)


def _own_network() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET):  # os.unshare came with Python 3.12
        raise OSError(ctypes.get_errno(), "no network name space of our own")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def _tun(name: str, address: str) -> int:
    """A network device whose other end is the descriptor: one packet for each read and write."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
    subprocess.run(["ip", "addr", "add", f"{address}/24", "dev", name], check=True)
    subprocess.run(["ip", "link", "set", name, "mtu", str(_MTU), "up"], check=True)
    return fd


def _carry(near: int, far: int, wire: Wire, chance: random.Random, ended: threading.Event) -> None:
    while not ended.is_set():
        ready, _, _ = select.select([near, far], [], [], _TICK)
        for end in ready:
            packet = os.read(end, 65536)
            wire.sent += 1
            if chance.random() < wire.loss:
                wire.lost += 1
            else:
                os.write(far if end == near else near, packet)
