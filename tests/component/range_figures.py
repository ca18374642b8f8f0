"""What parts cost beside a whole file: python3 tests/component/range_figures.py (needs `unshare -n`: root).

Fetches 500 spans of 64 KiB scattered over 256 MiB, with several bounds for the gap, over one connection and over two,
and the whole file once. A server in a process of its own waits a round trip before each answer, and paces the bytes of
all answers together. Bytes on the wire are what the loopback
interface of a network namespace counted, both ways, with the headers of HTTP, TCP and IP.
"""

from __future__ import annotations

import functools
import itertools
import os
import random
import re
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from http_bench import Asked, Server
from range_bench import head

from twinslot.core.span import Span
from twinslot.transport.http.coalesce import coalesce
from twinslot.transport.http.download import HttpSource
from twinslot.transport.http.ranges import AHEAD, RangeSource

SIZE, COUNT, LENGTH = 256 << 20, 500, 64 << 10
BLOCK = random.Random(1).randbytes(1 << 20)
NETWORKS = {"loopback": (0.0, 0.0), "10 ms, 10 MB/s": (0.01, 10e6), "40 ms, 2.5 MB/s": (0.04, 2.5e6)}


def scattered() -> list[Span]:
    """Spans in order, gaps of random length: a quarter nearer than 64 KiB, as changed groups come in clusters."""
    dice, at, spans = random.Random(2), 0, []
    for _ in range(COUNT):
        spans.append(Span(at, LENGTH))
        at += LENGTH + int(dice.choice([1 << 11, 1 << 15, 1 << 17, 1 << 19]) * dice.uniform(0.5, 1.5))
    assert at < SIZE
    return spans


class Line:
    """What all connections share."""

    def __init__(self) -> None:
        self._lock, self._free = threading.Lock(), 0.0

    def take(self, seconds: float) -> None:
        """Use it for so long, when it is free."""
        with self._lock:
            self._free = max(self._free, time.monotonic()) + seconds
            until = self._free
        time.sleep(max(0.0, until - time.monotonic()))


def answer(trip: float, rate: float) -> Callable[[Asked], None]:
    """Parts of a long file, slowly."""
    line = Line()

    def give(asked: Asked) -> None:
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", asked.headers.get("Range", ""))
        first, last = (int(match[1]), int(match[2])) if match else (0, SIZE - 1)
        time.sleep(trip)
        part = {"Content_Range": f"bytes {first}-{last}/{SIZE}"} if match else {}
        modified = "Mon, 02 Nov 2026 10:00:00 GMT"
        head(asked, 206 if match else 200, last + 1 - first, ETag='"6925a1-2f0"', Last_Modified=modified, **part)
        at = first
        while at <= last:
            step = min(len(BLOCK) - at % len(BLOCK), last + 1 - at, 16_384)
            if rate:
                line.take(step / rate)
            asked.wfile.write(memoryview(BLOCK)[at % len(BLOCK) :][:step])
            at += step

    return give


def wire() -> int:
    """Bytes that went over the loopback interface, both ways."""
    line = next(line for line in Path("/proc/net/dev").read_text().splitlines() if line.strip().startswith("lo:"))
    return int(line.split(":")[1].split()[0])  # what is sent is received


def measured(what: str, requests: int, body: Callable[[], int]) -> None:
    """Run and print one row."""
    wire_before, began, cpu = wire(), time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    got = body()
    after = resource.getrusage(resource.RUSAGE_SELF)
    spent = after.ru_utime + after.ru_stime - cpu.ru_utime - cpu.ru_stime
    print(
        f"| {what} | {requests} | {got / 1e6:.2f} | {(wire() - wire_before) / 1e6:.2f} | "
        f"{time.monotonic() - began:.2f} | {spent:.2f} |",
        flush=True,
    )


def in_parts(url: str, gap: int, ahead: int) -> int:
    """All spans; returns the bytes of bodies."""
    source = RangeSource(url, gap=gap, ahead=ahead)
    for span, data in source.stream(scattered()):
        assert len(data) == LENGTH
        assert data[:16] == (BLOCK + BLOCK)[span.offset % len(BLOCK) :][:16]
    source.close()
    return source.fetched


def in_one(url: str) -> int:
    """The whole file."""
    return sum(map(len, HttpSource(url).chunks()))


def main() -> None:
    """Print the tables."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for name, (trip, rate) in NETWORKS.items():
        server = Server([answer(trip, rate)])
        child = os.fork()
        if not child:
            server.serve_forever()
            os._exit(0)
        url = f"http://127.0.0.1:{server.server_address[1]}/x.twin"
        print(f"\n{name}\n\n| | requests | body MB | wire MB | wall s | CPU s |\n|---|---|---|---|---|---|")
        for gap, ahead in itertools.product([0, 1024, 4096, 65_536, 262_144], [0, AHEAD]):
            count = len(list(coalesce(scattered(), gap)))
            what = f"gap {gap}, {'two connections' if ahead else 'one connection'}"
            measured(what, count, functools.partial(in_parts, url, gap, ahead))
        if not rate:
            measured("whole file", 1, functools.partial(in_one, url))
        os.kill(child, 9)
        os.waitpid(child, 0)
        server.server_close()


if __name__ == "__main__":
    if "inside" not in sys.argv:
        os.execvp("unshare", ["unshare", "-n", sys.executable, __file__, "inside"])
    main()
