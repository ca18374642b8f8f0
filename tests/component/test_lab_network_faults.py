"""Installs over networks that reset, stall, crawl and lose packets, with the real fetcher between real sockets."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from host_device import HostDevice
from release_bench import ReleaseBench

import waits
from twinslot.core.errors import TransportError
from twinslot.core.model import SlotName
from twinslot.core.progress import Phase, Progress
from twinslot_lab.fileserver import FileServer
from twinslot_lab.network_faults import NetworkFaults, Proxy

CONTENT = b"superblock".ljust(4096, b"\1") + random.Random(1).randbytes(900_000)
HANG = waits.HANG
CONNECTIONS = 3  # two take turns; over a third, the block list is asked for that is not there
PATIENT: dict[str, Any] = {"connect_timeout": HANG, "read_timeout": HANG, "retries": 5, "retry_wait": 0.1}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> ReleaseBench:
    bench = ReleaseBench.make(tmp_path_factory.mktemp("bench"))
    bench.image("2.0", 20, CONTENT)
    return bench


@pytest.fixture
def device(tmp_path: Path, bench: ReleaseBench) -> HostDevice:
    return HostDevice(tmp_path, bench)


def read_all(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def install_through(device: HostDevice, faults: NetworkFaults, **settings: float) -> Proxy:
    """Install through a proxy; the slot must hold what was signed."""
    with FileServer(device.bench.directory, seen_as="127.0.0.1") as server, Proxy(server.port, faults) as proxy:
        device.install(server.url("2.0.twin", proxy.port), **(PATIENT | settings))
    assert device.content(SlotName.B).startswith(CONTENT)
    assert device.environment()["slot_b"] == "trial"
    return proxy


@pytest.mark.slow
def test_a_network_that_resets_every_half_second_delays_an_install_and_no_more(device: HostDevice) -> None:
    proxy = install_through(device, NetworkFaults(reset_after=0.5, rate=300_000))
    assert proxy.resets >= 2
    assert proxy.connections - proxy.resets <= CONNECTIONS, "each goes on where the one before stopped"


@pytest.mark.slow
def test_a_connection_that_stalls_is_left_for_a_new_one(device: HostDevice) -> None:
    proxy = install_through(device, NetworkFaults(stall_after=300_000, stalls=2), read_timeout=2.0)
    assert proxy.stalled == 2
    assert proxy.connections <= CONNECTIONS + 2, "a new one for each that stalled"


@pytest.mark.slow
def test_a_slow_network_above_the_floor_is_no_fault(device: HostDevice) -> None:
    proxy = install_through(device, NetworkFaults(rate=500_000), rate_floor=100_000)
    assert proxy.connections <= CONNECTIONS


@pytest.mark.slow
def test_a_network_that_goes_away_for_good_leaves_a_slot_that_does_not_boot_and_the_next_install_works(
    device: HostDevice,
) -> None:
    with FileServer(device.bench.directory, seen_as="127.0.0.1") as server:
        with Proxy(server.port, NetworkFaults(rate=300_000)) as proxy:
            url = server.url("2.0.twin", proxy.port)

            def leave(report: Progress) -> None:
                if report.phase is Phase.WRITE and report.done > 200_000:
                    proxy.go_away()

            settings: dict[str, Any] = PATIENT | {"retries": 2}
            with pytest.raises(TransportError) as error:
                device.install(url, observer=leave, **settings)
    assert error.value.code == "transport.network"
    assert error.value.exit_status == 5
    assert not any(device.content(SlotName.B)[:65536])
    environment = device.environment()
    assert (environment["slot"], environment["slot_b"]) == ("a", "bad")
    install_through(device, NetworkFaults())


def test_a_proxy_resets_with_a_reset_and_not_with_an_end_of_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(5_000_000))
    with FileServer(tmp_path) as server, Proxy(server.port, NetworkFaults(reset_after=0.2, rate=100_000)) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port)) as client:
            client.sendall(b"GET /file HTTP/1.0\r\n\r\n")
            with pytest.raises(ConnectionResetError):
                read_all(client)
    assert proxy.resets == 1


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_an_install_gets_through_a_link_that_loses_three_packets_of_ten(tmp_path: Path, seed: int) -> None:
    bench = tmp_path / "bench"
    bench.mkdir()
    content = b"superblock".ljust(4096, b"\1") + random.Random(1).randbytes(150_000)
    ReleaseBench.make(bench).image("2.0", 20, content)
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("lossy_story.py"), tmp_path, "0.3", str(seed)],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    print(f"seed {seed}: {told}")
    assert 0.2 < told["lost"] / told["sent"] < 0.4
    assert told["served"] >= told["fetched"] > 150_000, "what does not shrink; and nothing twice without need"
    assert told["env"] == "trial"
    assert told["content"] == content[:16].hex()
