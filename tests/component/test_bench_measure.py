"""What the bench measures with: memory of a process tree, bytes on the wire, and what a device took."""

from __future__ import annotations

import hashlib
import http.client
import http.server
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import waits
from bench.devices import LoopDevice
from bench.measure import PERIOD, private_bytes, process_tree, run_measured
from bench.run import changed, data_and_zeros
from bench.server import Counters, CountingServer, _Handler, parse_ranges, part_heads

MIB = 1 << 20
HANG = waits.HANG
HOLD = "data = bytearray(b'x') * ({mib} << 20); stay()"


class Looks:
    """Has programs stay as they are until the sampler has looked often enough, however busy the machine is.

    Args:
        folder: Where the two tell each other.
        wanted: Looks at each stay.
    """

    def __init__(self, folder: Path, wanted: int = 3) -> None:
        self._folder, self._wanted, self.counts = folder, wanted, dict[str, int]()
        self.program = f"""
import itertools, os, time
stays = itertools.count()
def stay():
    name = f"{folder}/stay-{{os.getpid()}}-{{next(stays)}}"
    open(name, "w").close()
    while os.path.exists(name):
        time.sleep(0.01)
"""

    def __call__(self) -> int:
        """As `written`, with each sample."""
        for stay in self._folder.glob("stay-*"):
            self.counts[stay.name] = self.counts.get(stay.name, 0) + 1
            if self.counts[stay.name] > self._wanted:
                stay.unlink()
        return 0


def test_memory_of_a_child_counts_and_its_program_is_named(tmp_path: Path) -> None:
    looks = Looks(tmp_path)
    child = looks.program + HOLD.format(mib=30)
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    sample = run_measured([sys.executable, "-c", parent], tmp_path / "log", written=looks)
    assert sample.status == 0
    assert 30 * MIB < sample.memory.peak < 70 * MIB
    assert sample.memory.processes == 2
    assert sample.memory.who[0][1] > 30 * MIB
    assert sum(size for _, size in sample.memory.who) == sample.memory.peak


def test_memory_that_is_not_kept_is_not_there_at_the_end_but_in_the_peak(tmp_path: Path) -> None:
    looks = Looks(tmp_path)
    brief = f"{looks.program}{HOLD.format(mib=40)}; del data; stay()"
    sample = run_measured([sys.executable, "-c", brief], tmp_path / "log", written=looks)
    assert sample.memory.peak > 40 * MIB
    assert sample.memory.samples >= sum(looks.counts.values()) >= 6


def test_the_cost_of_looking_is_told(tmp_path: Path) -> None:
    looks = Looks(tmp_path, 10)
    sample = run_measured([sys.executable, "-c", f"{looks.program}stay()"], tmp_path / "log", written=looks)
    assert sample.memory.cpu > 0
    assert sample.memory.period >= PERIOD * 0.9, "on the mean: a late look is not made up for"


@pytest.mark.slow
def test_memory_while_data_moves_leaves_out_what_came_before(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    looks = Looks(tmp_path)

    def written() -> int:
        return looks() + int(counter.read_text() or 0)

    script = f"""{looks.program}
data = bytearray(b'x') * (50 << 20)
stay()
del data
for n in range(12):
    open({str(counter)!r}, 'w').write(str(n + 1))
    stay()
"""
    sample = run_measured([sys.executable, "-c", script], tmp_path / "log", written=written)
    assert sample.memory.peak > 50 * MIB
    assert 0 < sample.memory.moving < 40 * MIB


def test_cpu_is_that_of_the_tree_and_failing_is_told_with_the_last_words(tmp_path: Path) -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}]); sys.exit('worn out')"
    sample = run_measured([sys.executable, "-c", parent], tmp_path / "log")
    assert sample.status == 1
    assert "worn out" in sample.said
    assert sample.cpu > 0.3


def test_a_flush_after_the_end_counts_as_time(tmp_path: Path) -> None:
    sample = run_measured(["true"], tmp_path / "log", flush=lambda: time.sleep(0.2))
    assert sample.flush >= 0.2
    assert sample.wall >= sample.flush


def test_a_process_that_has_ended_has_no_memory_and_no_children() -> None:
    assert private_bytes(2**22 + 1) == 0
    assert process_tree(2**22 + 1) == [2**22 + 1]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[CountingServer]:
    with CountingServer(tmp_path / "public") as running:
        (running.folder / "file").write_bytes(bytes(range(250)) * 400)
        running.take()
        yield running


def get(url: str, **headers: str) -> tuple[int, bytes]:
    request = urllib.request.Request(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    with urllib.request.urlopen(request, timeout=HANG) as answer:
        return answer.status, answer.read()


def test_every_byte_is_counted_headers_included(server: CountingServer) -> None:
    port = int(server.url("").rsplit(":", 1)[1].rstrip("/"))
    asked = b"GET /file HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=HANG) as connection:
        connection.sendall(asked)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    counters = counted(server)
    assert (counters.sent, counters.received, counters.requests) == (len(answer), len(asked), 1)
    assert answer.endswith(bytes(range(250)))
    assert vars(server.take()) == {"sent": 0, "received": 0, "requests": 0}


def counted(server: CountingServer) -> Counters:
    """What was sent: it is counted behind the answer, which may have come before that."""
    found: list[Counters] = []

    def came() -> bool:
        found.append(server.take())
        return found[-1].sent > 0

    waits.until(came)
    return found[-1]


def test_a_range_gives_a_part_and_only_the_part_is_counted(server: CountingServer) -> None:
    status, body = get(server.url("file"), Range="bytes=100-199")
    assert (status, body) == (206, bytes(range(100, 200)))
    assert 100 < counted(server).sent < 600


def test_several_ranges_come_as_parts_that_name_their_place(server: CountingServer) -> None:
    status, body = get(server.url("file"), Range="bytes=0-9, 99990-")
    assert status == 206
    assert b"Content-Range: bytes 0-9/100000\r\n\r\n" + bytes(range(10)) in body
    assert b"Content-Range: bytes 99990-99999/100000\r\n\r\n" + bytes(range(240, 250)) in body
    assert body.endswith(b"--\r\n")


def test_an_old_tag_gives_the_whole_file(server: CountingServer) -> None:
    status, body = get(server.url("file"), Range="bytes=0-9", If_Range='"another"')
    assert (status, len(body)) == (200, 100_000)


@pytest.mark.parametrize(("name", "code"), [("none", 404), ("../measure.py", 404)])
def test_what_is_not_in_the_folder_is_not_served(server: CountingServer, name: str, code: int) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        get(server.url(name))
    assert error.value.code == code
    error.value.close()


def test_a_range_behind_the_end_is_refused_with_the_size(server: CountingServer) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        get(server.url("file"), Range="bytes=100000-")
    assert (error.value.code, error.value.headers["Content-Range"]) == (416, "bytes */100000")
    error.value.close()


def test_a_kept_connection_does_not_wait_between_answers(tmp_path: Path) -> None:
    at_once: list[int] = []

    class Handler(_Handler):
        folder = tmp_path

        def setup(self) -> None:
            super().setup()
            at_once.append(self.connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    (tmp_path / "file").write_bytes(bytes(range(250)))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=HANG)
        for _ in range(50):
            connection.request("GET", "/file", headers={"Range": "bytes=0-99"})
            assert connection.getresponse().read() == bytes(range(100))
        connection.close()
        server.shutdown()
        thread.join()
    assert at_once == [1], "one connection, and no answer on it waits for an acknowledgement"


@pytest.mark.parametrize(
    ("text", "ranges"),
    [("0-0", [(0, 1)]), ("5-", [(5, 10)]), ("0-99", [(0, 10)]), ("10-12", []), ("0-1,8-9,20-", [(0, 2), (8, 10)])],
)
def test_ranges_are_cut_to_the_file(text: str, ranges: list[tuple[int, int]]) -> None:
    assert parse_ranges(text, 10) == ranges


def test_parts_are_framed_as_many_times_as_there_are_ranges() -> None:
    heads, tail = part_heads([(0, 5), (9, 10)], 10)
    assert len(heads) == 2
    assert tail.strip().endswith(b"--")


def test_zeros_that_carried_no_data_are_told_apart() -> None:
    assert data_and_zeros(100, 60) == {"written": 60, "zeroed": 40}
    assert data_and_zeros(100, 500) == {"written": 100, "zeroed": 0}


def test_changed_bytes_are_counted_in_whole_blocks(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(bytes(3 * MIB))
    data = bytearray(3 * MIB)
    data[5] = data[4095] = data[2 * MIB] = 1
    new.write_bytes(data)
    assert changed(old, new, 4096) == 2 * 4096
    assert changed(old, new, 65536) == 2 * 65536
    assert changed(old, old, 4096) == 0


@pytest.mark.root
def test_a_slot_tells_what_it_took_and_what_it_holds_after_the_caches_were_dropped(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"a" * MIB)
    with LoopDevice(tmp_path / "slot", 2 * MIB) as slot:
        before = slot.traffic()
        slot.fill_with(image)
        assert (slot.traffic() - before).written == MIB
        assert slot.digest(MIB) == hashlib.sha256(b"a" * MIB).hexdigest()
        with (tmp_path / "slot").open("r+b") as file:  # behind the back of the device's cache
            file.write(b"b")
        assert slot.digest(MIB) == hashlib.sha256(b"b" + b"a" * (MIB - 1)).hexdigest()
        slot.fill_with_noise()
        assert slot.digest(MIB).endswith("+tail")
        slot.clear()
        assert slot.digest(MIB) == hashlib.sha256(bytes(MIB)).hexdigest()
