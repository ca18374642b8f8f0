"""The service when callers leave, when it is told to leave, and when it has nothing to do."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bus_bench import (
    HANG,
    PROPERTIES,
    SERVICE,
    Answered,
    Caller,
    call,
    finished,
    listening,
    open_files,
    private_bus,
    service_on,
)

import waits
from twinslot.bus import names
from twinslot.bus.library import Message, MessageBus, Variant


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with private_bus() as found, service_on(found):
        yield found


@pytest.fixture
def caller(address: str) -> Caller:
    return Caller(address)


# Callers that go away


def test_a_caller_that_leaves_does_not_stop_the_reading_of_a_file(caller: Caller, tmp_path: Path) -> None:
    (tmp_path / "image").write_text("wait")
    descriptor = os.open(tmp_path / "image", os.O_RDONLY)
    (job,) = caller.call("InstallFile", "ha{sv}", 0, {}, files=[descriptor])  # its connection ends here
    os.close(descriptor)
    time.sleep(0.5)
    assert caller.get("CurrentJob") == job
    assert caller.call("Cancel") == [job]
    finished(caller, job)
    assert caller.get("Outcome", job, names.JOB) == "cancelled"


@pytest.mark.parametrize("fed", [b"", b"wait"], ids=["silent", "in the middle"])
def test_a_caller_that_leaves_ends_the_reading_of_its_pipe(caller: Caller, fed: bytes) -> None:
    reader, writer = os.pipe()
    try:
        os.write(writer, fed)

        async def work(bus: MessageBus) -> str:
            (job,) = await call(bus, "InstallFile", "ha{sv}", 0, {}, files=[reader])
            await asyncio.sleep(0.3)
            assert (await call(bus, "Get", "ss", names.JOB, "State", path=job, interface=PROPERTIES))[0].value == (
                "running"
            )
            return str(job)

        job = caller.run(work)
        finished(caller, job)
        assert caller.get("Outcome", job, names.JOB) == "cancelled"
    finally:
        os.close(reader)
        os.close(writer)


async def signal_to_service(bus: MessageBus, files: list[int]) -> None:
    message = Message.new_signal("/a", "a.b", "C", "h", [0], unix_fds=files)
    message.destination = names.SERVICE
    await bus.send(message)
    await call(bus, "GetStatus")  # comes after it


def test_no_descriptor_is_left_behind_whatever_the_call_was(tmp_path: Path) -> None:
    (tmp_path / "image").write_text("success")
    with private_bus() as address, service_on(address) as service:
        caller = Caller(address)

        def all_kinds() -> None:
            with open(tmp_path / "image", "rb") as image:
                files = [image.fileno(), image.fileno()]
                (job,) = caller.call("InstallFile", "ha{sv}", 1, {}, files=files)
                finished(caller, job)
                with pytest.raises(Answered, match=r"refused\.no-descriptor"):
                    caller.call("InstallFile", "ha{sv}", 7, {}, files=files)
                with pytest.raises(Answered, match=r"refused\.option-type"):
                    caller.call("InstallFile", "ha{sv}", 0, {"retry": Variant("h", 1)}, files=files)
                with pytest.raises(Answered, match="UnknownMethod"):
                    caller.call("Destroy", "h", 0, files=files)
                with pytest.raises(Answered, match="UnknownObject"):
                    caller.call("InstallFile", "ha{sv}", 0, {}, files=files, path="/elsewhere")

                caller.call("Ping", files=files, interface="org.freedesktop.DBus.Peer")
                caller.run(lambda bus: signal_to_service(bus, files))

        all_kinds()
        before = open_files(service)
        for _ in range(3):
            all_kinds()
        assert open_files(service) == before


# Coming and going


def test_sigterm_in_the_middle_tells_the_end_before_the_service_leaves() -> None:
    with private_bus() as address, service_on(address) as service:

        async def work(bus: MessageBus) -> list[object]:
            listener = await listening(bus)
            await call(bus, "Install", "sa{sv}", "http://server/wait", {})
            service.terminate()
            return await listener.until("Finished")

        outcome, exit_status, error, _ = Caller(address).run(work)
        assert (outcome, exit_status) == ("cancelled", 8)
        told = json.loads(str(error))
        assert told["code"] == "cancelled.stopped", "nobody asked to cancel this install"
        assert "install again" in told["hint"], "the work itself ended"
        assert service.wait(HANG) == 0
        assert not Caller(address).owned()


def test_sigterm_leaves_without_work_that_does_not_stop_and_says_so() -> None:
    with private_bus() as address, service_on(address, "--grace", "0.5") as service:

        async def work(bus: MessageBus) -> list[object]:
            listener = await listening(bus)
            await call(bus, "Install", "sa{sv}", "http://server/deaf", {})
            service.terminate()
            return await listener.until("Finished")

        outcome, _, error, _ = Caller(address).run(work)
        assert outcome == "cancelled"
        assert json.loads(str(error))["code"] == "cancelled.stopped"
        assert service.wait(HANG) == 0


def test_a_service_that_is_leaving_takes_no_new_job(tmp_path: Path) -> None:
    patient = ("--grace", str(HANG), "--end", str(tmp_path / "end"))
    with private_bus() as address, service_on(address, *patient) as service:

        async def refused(bus: MessageBus) -> str:
            with pytest.raises(Answered) as error:
                await call(bus, "Install", "sa{sv}", "http://server/success", {})
            return str(error.value)

        async def work(bus: MessageBus) -> None:
            await call(bus, "Install", "sa{sv}", "http://server/deaf", {})
            service.terminate()
            async with asyncio.timeout(HANG):
                while "refused.leaving" not in await refused(bus):  # busy, until the signal is seen
                    await asyncio.sleep(0.02)

        Caller(address).run(work)
        (tmp_path / "end").touch()
        assert service.wait(HANG) == 0


@pytest.mark.slow
def test_the_service_leaves_when_idle_but_not_during_a_job(tmp_path: Path) -> None:
    """How long it stays, tests/unit/test_bus_job.py counts on a clock of its own."""
    pids = tmp_path / "pids"
    start = f"/bin/sh -c 'echo $$ >>{pids}; exec {sys.executable} {SERVICE} --idle 0.3 \"$@\"' sh"
    with private_bus(service=start) as address:
        (job,) = Caller(address).call("Install", "sa{sv}", "http://server/wait", {})
        time.sleep(1)  # more than three times as long as it would stay without a job
        assert Caller(address).get("CurrentJob") == job
        (first,) = pids.read_text().split()
        Caller(address).call("Cancel")
        waits.until(lambda: waits.is_gone(int(first)))
        assert not Caller(address).owned(), "no call, no service"
        assert Caller(address).get("CurrentJob") == "/", "it comes again when it is called"
        assert len(pids.read_text().split()) == 2


def test_a_second_service_is_told_that_the_name_is_taken(address: str) -> None:
    second = subprocess.run(
        [sys.executable, SERVICE, address], capture_output=True, text=True, timeout=HANG, check=False
    )
    assert second.returncode == 1
    assert f"another process owns '{names.SERVICE}'" in second.stderr


def test_the_service_leaves_when_the_bus_does() -> None:
    with private_bus() as address, service_on(address) as service:
        Caller(address).call("Install", "sa{sv}", "http://server/wait", {})

        # The bus ends first; leaving the blocks in the other order would hide a service that hangs.
        os.kill(_daemon_of(address), 15)
        assert service.wait(HANG) == 1


def _daemon_of(address: str) -> int:
    async def ask(bus: MessageBus) -> int:
        from twinslot.bus.library import DAEMON, ask_daemon

        return int((await ask_daemon(bus, "GetConnectionUnixProcessID", "s", DAEMON))[0])

    return Caller(address).run(ask)
