"""The fleet process itself on a private bus: real service and engine, real relay, real workers, a server over HTTP.

The token is a file that only the relays' user may read; nobody else ever has it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from bus_bench import Caller, private_bus
from host_device import CONFIG, SLOT_SIZE, HostDevice, HostUpdater
from release_bench import ReleaseBench

import waits
from fakes.hawkbit import Deployment, FakeHawkbit, Module, serving
from twinslot.bus.server.server import serve
from twinslot.config.hawkbit import HawkbitConfig
from twinslot.core.model import Release, SlotName, SlotRecord, StoredPayload
from twinslot.worker.launch import user_of
from twinslot_image.cli import main

pytestmark = [pytest.mark.slow, pytest.mark.root]

GROUP = 65536
NOISE = [random.Random(f"fleet {n}").randbytes(GROUP) for n in range(10)]
OLD = b"".join(NOISE[:8])
NEW = b"".join([*NOISE[:3], NOISE[8], *NOISE[4:8]])
SECRET = "s3cr3t-token-of-this-device"
CONTROLLER = "pump-17"
TABLES = """
[http]
schemes = ["http"]
retries = 1
[hawkbit]
url = "{url}"
controller = "{directory}/id"
token = "{token}"
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ReleaseBench:
    """Two releases, and what brings a device from one to the other: a patch and a block list."""
    bench = ReleaseBench.make(tmp_path_factory.mktemp("images"))
    old, new = bench.image("1.0", 10, OLD), bench.image("2.0", 20, NEW)
    assert main(["patch", str(old), str(new), "-o", str(bench.directory)]) == 0
    assert main(["blocks", str(new)]) == 0
    return bench


class Fleet:
    """A device in a directory, its server, and both ends of the bus."""

    def __init__(self, directory: Path, open_place: Path, images: ReleaseBench, hawkbit: FakeHawkbit) -> None:
        self.directory, self.images, self.hawkbit = directory, images, hawkbit
        self.device = HostDevice(directory, images)
        self.device.slots[SlotName.A].write_bytes(OLD.ljust(SLOT_SIZE, b"\0"))
        hawkbit.device(CONTROLLER)
        hawkbit.targets[CONTROLLER].token = SECRET
        self.token = token = open_place / "token"  # pytest's own directories are closed to the relays' user
        token.write_text(SECRET + "\n")
        token.chmod(0o400)
        os.chown(token, user_of("relay")[0], -1)
        (directory / "id").write_text(CONTROLLER + "\n")
        self.root = open_place / "root"
        place = self.root / "etc/twinslot"
        place.mkdir(parents=True)
        text = CONFIG.format(directory=directory, root=images.root)
        (place / "config.toml").write_text(text + TABLES.format(directory=directory, token=token, url=hawkbit.url))
        found = HawkbitConfig(url=hawkbit.url, token=token)
        http = replace(self.device.config.http, schemes=("http",), retries=1)
        install = replace(self.device.config.install, reboot="automatic")
        self.device.config = replace(self.device.config, hawkbit=found, http=http, install=install)
        self.said = ""
        payload = StoredPayload(len(OLD), GROUP, hashlib.sha256(OLD).hexdigest())
        with self.device.record() as record:
            record.save_slot(SlotRecord(SlotName.A, Release("1.0", 10), {"rootfs": payload}))
        self.device.engine().boot()

    def files(self) -> dict[str, bytes]:
        """The image, its patch and its block list, as artifacts of one software module."""
        names = [path for path in self.images.directory.iterdir() if path.suffix in (".twinpatch", ".twinblocks")]
        return {path.name: path.read_bytes() for path in (self.images.directory / "2.0.twin", *names)}

    def order(self, **files: bytes) -> Deployment:
        return self.hawkbit.assign(CONTROLLER, Module("pump-os", "2.0", files or self.files()))

    @contextlib.contextmanager
    def service(self) -> Iterator[str]:
        """The update service as a process on a bus; gives its address."""
        with private_bus() as address:
            fork = multiprocessing.get_context("fork")
            updater_of = functools.partial(HostUpdater, self.device)
            process = fork.Process(target=serve, args=(updater_of,), kwargs={"address": address})
            process.start()
            try:
                waits.until(lambda: Caller(address).owned())
                yield address
            finally:
                process.kill()
                process.join(waits.HANG)

    def run(self, address: str, status: int = 0) -> str:
        """The fleet process, once; what it said."""
        (self.directory / "data/fleet/state.json").unlink(missing_ok=True)  # else no poll would be due yet
        argv = [sys.executable, "-m", "twinslot.fleet", "poll", "--start-relay", "--bus", address]
        argv += ["--config-root", str(self.root)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=waits.HANG)
        self.said += done.stdout + done.stderr
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    def restart(self) -> None:
        """Into the trial, which goes well."""
        self.device.running, self.device.boots = SlotName.B, self.device.boots + 1
        self.device.engine().boot()
        self.device.engine().check()
        self.device.engine().commit(if_trial=True)


@pytest.fixture
def fleet(tmp_path: Path, images: ReleaseBench) -> Iterator[Fleet]:
    hawkbit = FakeHawkbit()
    with serving(hawkbit), tempfile.TemporaryDirectory(prefix="fleet") as place:
        Path(place).chmod(0o755)
        yield Fleet(tmp_path, Path(place), images, hawkbit)


@pytest.mark.verifies("S10", "S22", "S23")
def test_an_order_is_fetched_with_the_token_installed_and_reported_after_the_commit(fleet: Fleet) -> None:
    with fleet.service() as address:
        action = fleet.order()
        fleet.run(address)
        assert fleet.device.content(SlotName.B).startswith(NEW), (fleet.said, action.entries, fleet.hawkbit.log)
        assert fleet.device.environment()["upgrade_available"] == "1"
        assert [word for word, *_ in action.entries if word == "closed"] == []
    fleet.restart()
    with fleet.service() as address:
        fleet.run(address)
    assert action.status == "finished"
    assert fleet.hawkbit.targets[CONTROLLER].attributes["twinslot.compatible"] == "acme,pump-3"
    with fleet.device.record() as record:
        (transaction,) = record.history()
    files = fleet.files()
    assert transaction.bytes_fetched < len(files["2.0.twin"]) // 2, "the patch beside the image was of no use"
    asked = {path.rpartition("/")[2]: status for _, path, status in fleet.hawkbit.log if "softwaremodules" in path}
    assert asked["2.0.twin"] == 206
    assert asked[next(name for name in files if name.endswith(".twinpatch"))] == 206
    nobody_has_the_token(fleet)


def nobody_has_the_token(fleet: Fleet) -> None:
    """It is in its own file, and nowhere else: no state, no record, no words of a process."""
    assert SECRET not in fleet.said
    for path in fleet.directory.rglob("*"):
        if path.is_file() and path.name not in ("slot_a", "slot_b"):
            assert SECRET.encode() not in path.read_bytes(), path


def test_a_token_that_is_refused_is_an_error_and_the_device_stays_as_it_is(fleet: Fleet) -> None:
    fleet.hawkbit.targets[CONTROLLER].token = "another"
    with fleet.service() as address:
        fleet.order()
        assert "does not let this device in" in fleet.run(address, status=5)
    nobody_has_the_token(fleet)


def test_a_token_for_everybody_is_refused_and_never_sent(fleet: Fleet) -> None:
    fleet.token.chmod(0o444)
    with fleet.service() as address:
        assert "every user may read the token" in fleet.run(address, status=6)
    assert fleet.hawkbit.log == []
    nobody_has_the_token(fleet)


def test_a_server_that_is_not_there_costs_a_sentence(fleet: Fleet) -> None:
    place = fleet.root / "etc/twinslot/config.toml"
    place.write_text(place.read_text().replace(fleet.hawkbit.url, "http://127.0.0.1:9"))
    with fleet.service() as address:
        assert "gives no answer" in fleet.run(address, status=5)


def test_without_a_server_nothing_is_asked(fleet: Fleet) -> None:
    place = fleet.root / "etc/twinslot/config.toml"
    place.write_text(place.read_text().partition("[hawkbit]")[0])
    fleet.run("unix:path=/nonexistent")
    assert fleet.hawkbit.log == []
