"""The whole client over a private bus: real service and engine, signed images, real workers, real libubootenv."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from bus_bench import Caller, private_bus
from host_device import SLOT_SIZE, HostDevice, HostUpdater
from release_bench import ReleaseBench

import waits
from twinslot.bus.client.client import BusUpdater, connect
from twinslot.bus.server.server import serve
from twinslot.core.errors import CancelledError, ImageError, RefusedError
from twinslot.core.model import SlotName
from twinslot.core.origin import NOBODY
from twinslot.core.progress import Phase, Progress, quiet
from twinslot.core.requests import ActivateOptions, CommitOptions, InstallOptions, RollbackOptions

CONTENT = b"superblock".ljust(4096, b"\1") + random.Random(2).randbytes(700_000)
NO_REBOOT = InstallOptions(reboot=False)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> tuple[ReleaseBench, Path]:
    bench = ReleaseBench.make(tmp_path_factory.mktemp("bench"))
    bench.image("2.0", 20, CONTENT)
    return bench, bench.directory / "2.0.twin"


@pytest.fixture
def device(tmp_path: Path, image: tuple[ReleaseBench, Path]) -> HostDevice:
    return HostDevice(tmp_path, image[0])


@pytest.fixture
def served(device: HostDevice) -> Iterator[tuple[str, int]]:
    """A bus with the service of the device on it: address and process id."""
    with private_bus() as address:
        updater_of = functools.partial(HostUpdater, device)
        fork = multiprocessing.get_context("fork")
        service = fork.Process(target=serve, args=(updater_of,), kwargs={"address": address})
        service.start()
        try:
            waits.until(lambda: Caller(address).owned())
            assert service.pid is not None
            yield address, service.pid
        finally:
            service.kill()
            service.join(waits.HANG)


@pytest.fixture
def client(served: tuple[str, int]) -> Iterator[BusUpdater]:
    with connect(served[0]) as found:
        yield found


@contextlib.contextmanager
def opened(path: Path) -> Iterator[int]:
    with path.open("rb") as file:
        yield file.fileno()


def assert_armed(device: HostDevice) -> None:
    assert device.content(SlotName.B) == CONTENT.ljust(SLOT_SIZE, b"\0")
    assert (device.environment()["slot"], device.environment()["slot_b"]) == ("b", "trial")


def assert_unbootable(device: HostDevice) -> None:
    assert not any(device.content(SlotName.B)[:65536])
    assert (device.environment()["slot"], device.environment()["slot_b"]) == ("a", "bad")


def test_an_image_from_a_descriptor_is_installed_and_the_record_says_the_same(
    device: HostDevice, client: BusUpdater, image: tuple[ReleaseBench, Path], served: tuple[str, int]
) -> None:
    phases: list[Phase] = []
    with opened(image[1]) as source:
        told = client.install(source, NO_REBOOT, lambda progress: phases.append(progress.phase))
    assert_armed(device)
    assert list(dict.fromkeys(phases))[-1] is Phase.ARM
    record = device.record()
    stored = record.current()
    assert stored is not None
    # the record was saved before the arming write, so it does not know how long that took
    assert replace(stored, seconds={}) == replace(told, seconds={})
    record.close()
    assert Caller(served[0]).get("State") == "armed"


def test_a_damaged_image_is_told_with_section_expected_and_found_and_the_next_one_works(
    device: HostDevice, client: BusUpdater, image: tuple[ReleaseBench, Path], tmp_path: Path
) -> None:
    whole, damaged = image[1].read_bytes(), tmp_path / "damaged"
    before = device.content(SlotName.B)
    damaged.write_bytes(whole[:-5000])
    with opened(damaged) as source, pytest.raises(ImageError) as caught:
        client.install(source, NO_REBOOT)
    assert caught.value.code == "image.truncated"
    assert device.content(SlotName.B) == before, "a short file is seen before anything changes"
    damaged.write_bytes(whole[:-5000] + b"?" + whole[-4999:])
    with opened(damaged) as source, pytest.raises(ImageError) as caught:
        client.install(source, NO_REBOOT)
    assert caught.value.code == "image.group"
    assert caught.value.expected is not None
    assert_unbootable(device)
    with opened(image[1]) as source:
        client.install(source, NO_REBOOT)
    assert_armed(device)


def test_a_cancelled_pipe_ends_at_once_and_leaves_the_slot_unbootable(
    device: HostDevice, client: BusUpdater, image: tuple[ReleaseBench, Path]
) -> None:
    reader, writer = os.pipe()
    os.write(writer, image[1].read_bytes()[:65_536])  # a pipe holds so much; then the service waits for more
    cancelled = threading.Event()

    def stop(progress: Progress) -> None:
        if progress.phase is Phase.WRITE:
            cancelled.set()

    with pytest.raises(CancelledError):
        client.install(reader, NO_REBOOT, stop, cancelled)
    os.close(reader)
    os.close(writer)
    assert_unbootable(device)


def test_sigterm_to_the_service_leaves_a_defined_state_that_the_caller_hears(
    device: HostDevice, client: BusUpdater, image: tuple[ReleaseBench, Path], served: tuple[str, int]
) -> None:
    reader, writer = os.pipe()
    os.write(writer, image[1].read_bytes()[:65_536])  # a pipe holds so much; then the service waits for more

    def stop(progress: Progress) -> None:
        if progress.phase is Phase.WRITE:
            os.kill(served[1], signal.SIGTERM)

    with pytest.raises(CancelledError):
        client.install(reader, NO_REBOOT, stop)
    os.close(reader)
    os.close(writer)
    assert_unbootable(device)
    record = device.record()
    assert [t.outcome for t in record.history(1)] == ["abandoned"]
    record.close()


def test_verbs_that_have_nothing_to_act_on_are_refused_as_by_the_engine(client: BusUpdater) -> None:
    with pytest.raises(RefusedError):
        client.activate(ActivateOptions())
    with pytest.raises(RefusedError):
        client.rollback(RollbackOptions())
    with pytest.raises(RefusedError, match="not on trial"):
        client.commit(CommitOptions())
    assert client.commit(CommitOptions(if_trial=True)) is None
    with pytest.raises(RefusedError, match="nothing to cancel"):
        client.cancel()


def test_an_installed_update_is_activated_later_and_dropped(
    device: HostDevice, client: BusUpdater, image: tuple[ReleaseBench, Path]
) -> None:
    with opened(image[1]) as source:
        assert client.install(source, InstallOptions(activate=False)).state == "written"
    assert client.activate(ActivateOptions(reboot=False)).state == "armed"
    assert_armed(device)
    dropped = client.cancel()
    assert dropped is not None
    assert dropped.outcome == "abandoned"
    assert device.environment()["slot"] == "a"


@pytest.mark.parametrize(("policy", "reboots"), [("automatic", 1), ("manual", 0)])
def test_the_automatic_reboot_of_the_configuration_is_the_default(
    device: HostDevice, image: tuple[ReleaseBench, Path], policy: str, reboots: int
) -> None:
    device.config = replace(device.config, install=replace(device.config.install, reboot=policy))
    updater = HostUpdater(device, NOBODY)
    with opened(image[1]) as source:
        updater.install(source, InstallOptions(), quiet)
    assert device.rebooted == reboots
    updater.activate(ActivateOptions(), quiet)
    assert device.rebooted == 2 * reboots
    updater.activate(ActivateOptions(reboot=False), quiet)
    assert device.rebooted == 2 * reboots


@pytest.mark.verifies("S19")
def test_the_audit_names_who_called_and_only_those_who_may_change_read_it(
    device: HostDevice, client: BusUpdater, image: tuple[ReleaseBench, Path], tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_bytes(image[1].read_bytes()[:5000])
    for path in (damaged, image[1]):
        with opened(path) as source, contextlib.suppress(ImageError):
            client.install(source, NO_REBOOT)
    found = client.log(0, "", 0)
    assert [row["event"] for row in found["rows"]] == ["verb-failed", "accepted", "verified", "activate"]
    assert found["rows"][0]["fields"]["source"] == str(damaged)
    for row in found["rows"]:
        origin = row["fields"]["origin"]
        assert (origin["kind"], origin["uid"], origin["login"]) == ("bus", 0, "root")
        assert origin["sender"].startswith(":1.")
    assert found["broken"] is None
    assert [row["number"] for row in client.log(3, "", 0)["rows"]] == [4]
    assert client.log((1 << 64) - 1, "", 0)["rows"] == []
    assert device.environment()["slot"] == "b"
