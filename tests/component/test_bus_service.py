"""The service as any program on the bus sees it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from bus_bench import PROPERTIES, Answered, Caller, Listener, call, open_files, private_bus, service_on, wait_for
from bus_service import REASONS

import twinslot
from twinslot.bus import names
from twinslot.bus.library import Message, MessageBus, Variant, close_bus, open_bus
from twinslot.core.errors import CancelledError

POLICY = Path(__file__).parents[2] / "systemd" / names.DESCRIPTION.with_suffix(".conf").name
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
NOBODY = 65534  # Debian policy, section 9.2.2


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with private_bus() as found, service_on(found):
        yield found


@pytest.fixture
def caller(address: str) -> Caller:
    return Caller(address)


def finished(caller: Caller, path: str) -> None:
    wait_for(lambda: caller.get("State", path, names.JOB) == "finished")


async def listening(bus: MessageBus) -> Listener:
    listener = Listener(bus)
    await listener.begin()
    return listener


# What it shows


def canonical(interface: ET.Element) -> str:
    return ET.canonicalize(ET.tostring(interface, encoding="unicode"), strip_text=True)


def test_introspection_equals_the_file(caller: Caller) -> None:
    (job,) = caller.call("Install", "sa{sv}", "http://server/success", {})
    file = {e.get("name"): e for e in ET.parse(names.DESCRIPTION).getroot()}
    for path, name in ((names.PATH, names.UPDATE), (job, names.JOB)):
        (answer,) = caller.call("Introspect", path=path, interface="org.freedesktop.DBus.Introspectable")
        shown = {e.get("name"): e for e in ET.fromstring(answer)}
        assert canonical(shown[name]) == canonical(file[name])
    finished(caller, job)


def test_the_objects_are_found_from_the_root(caller: Caller) -> None:
    path, seen = "/", []
    while True:
        (answer,) = caller.call("Introspect", path=path, interface="org.freedesktop.DBus.Introspectable")
        below = [str(node.get("name")) for node in ET.fromstring(answer).iter("node") if node.get("name")]
        if names.UPDATE in answer:
            break
        path = f"{path.rstrip('/')}/{below[0]}"
        seen.append(path)
    assert seen[-1] == names.PATH


def test_every_property_has_its_declared_type_and_tells_the_status(caller: Caller) -> None:
    (everything,) = caller.call("GetAll", "s", names.UPDATE, interface=PROPERTIES)
    file = ET.parse(names.DESCRIPTION).getroot()
    declared = {p.get("name"): p.get("type") for p in file[0].iter("property")}
    assert {name: variant.signature for name, variant in everything.items()} == declared
    slots = {
        name: {key: value.value for key, value in slot.items()} for name, slot in everything["Slots"].value.items()
    }
    assert everything["Version"].value == twinslot.__version__
    assert everything["RunningSlot"].value == "a"
    assert slots["a"]["release"] == "2026.10"
    assert slots["a"]["sequence"] == 6
    assert slots["b"] == {"running": False}


def test_status_and_history_are_json(caller: Caller) -> None:
    assert json.loads(caller.call("GetStatus")[0])["slots"]["a"]["running"] is True
    assert len(json.loads(caller.call("GetHistory", "u", 1)[0])) == 1
    assert len(json.loads(caller.call("GetHistory", "u", 2**32 - 1)[0])) == 2


@pytest.mark.parametrize(
    ("member", "signature", "body", "where", "error"),
    [
        ("Install", "s", ["http://server/success"], {}, "InvalidArgs"),
        ("Install", "sa{ss}", ["http://server/success", {}], {}, "InvalidArgs"),
        ("Destroy", "", [], {}, "UnknownMethod"),
        ("Install", "sa{sv}", ["x", {}], {"interface": "org.example.Other"}, "UnknownMethod"),
        ("GetStatus", "", [], {"path": "/org/twinslot/Other"}, "UnknownObject"),
        ("Introspect", "", [], {"path": "/a", "interface": "org.freedesktop.DBus.Introspectable"}, "UnknownObject"),
        ("Get", "ss", [names.UPDATE, "Colour"], {"interface": PROPERTIES}, "UnknownProperty"),
        ("Get", "ss", ["org.example.Other", "State"], {"interface": PROPERTIES}, "UnknownInterface"),
        ("Set", "ssv", [names.UPDATE, "State", Variant("s", "x")], {"interface": PROPERTIES}, "PropertyReadOnly"),
        ("Erase", "", [], {"interface": PROPERTIES}, "UnknownMethod"),
    ],
)
def test_a_wrong_call_is_answered_with_the_error_of_the_bus_and_a_sentence(
    caller: Caller, member: str, signature: str, body: list[object], where: dict[str, str], error: str
) -> None:
    with pytest.raises(Answered) as caught:
        caller.call(member, signature, *body, **where)
    assert caught.value.name == f"org.freedesktop.DBus.Error.{error}"
    assert "Traceback" not in caught.value.words


def test_a_refusal_is_a_sentence_and_then_json_with_every_reason(caller: Caller) -> None:
    given = {"retri": Variant("b", True), "retry": Variant("s", "yes")}
    with pytest.raises(Answered) as caught:
        caller.call("Install", "sa{sv}", "http://server/success", given)
    sentence, data = caught.value.words.split("\n")
    assert caught.value.name == "org.twinslot.Error.Refused"
    assert sentence.startswith("there is no option 'retri'")
    assert [reason["code"] for reason in json.loads(data)["reasons"]] == [
        "refused.option-unknown",
        "refused.option-type",
    ]


# Jobs


def test_a_job_tells_phases_progress_and_its_end_and_stays_readable(caller: Caller) -> None:
    async def work(bus: MessageBus) -> tuple[Listener, str, list[object]]:
        listener = await listening(bus)
        (job,) = await call(bus, "Install", "sa{sv}", "http://server/chatty", {})
        return listener, job, await listener.until("Finished")

    listener, job, told = caller.run(work)
    assert listener.values(job, "Phase") == ["verify", "write", "read-back"]
    assert listener.values(job, "State") == ["finished"]
    outcome, exit_status, error, transaction = told
    assert (outcome, exit_status, error) == ("success", 0, "")
    (kept,) = caller.call("GetAll", "s", names.JOB, path=job, interface=PROPERTIES)
    assert {name: variant.value for name, variant in kept.items()} == {
        "Kind": "install",
        "State": "finished",
        "Phase": "read-back",
        "Progress": ["read-back", 1 << 33, 1 << 33, 7.0, 0.0, 3600],
        "Outcome": "success",
        "ExitStatus": 0,
        "Error": "",
        "Transaction": transaction,
    }


def test_progress_is_told_at_most_four_times_a_second(caller: Caller) -> None:
    async def work(bus: MessageBus) -> Listener:
        listener = await listening(bus)
        await call(bus, "Install", "sa{sv}", "http://server/chatty", {})  # 100 reports in a second
        await listener.until("Finished")
        return listener

    heard = caller.run(work).heard
    told = [when for when, _, member, body in heard if member == "PropertiesChanged" and _writing(body)]
    assert 2 <= len(told) <= 2 + 4 * (told[-1] - told[0])


def _writing(body: list[object]) -> bool:
    changed = body[1]
    assert isinstance(changed, dict)
    return "Progress" in changed and changed["Progress"].value[0] == "write"


def test_the_service_tells_its_changes_around_a_job(caller: Caller) -> None:
    async def work(bus: MessageBus) -> tuple[Listener, str]:
        listener = await listening(bus)
        (job,) = await call(bus, "Install", "sa{sv}", "http://server/refused", {})
        await listener.until("Finished")
        await call(bus, "GetStatus")
        await asyncio.sleep(0.2)
        return listener, job

    listener, job = caller.run(work)
    assert listener.values(names.PATH, "Busy") == [True, False]
    assert listener.values(names.PATH, "CurrentJob") == [job, "/"]
    assert listener.values(names.PATH, "State")[-1] == "idle"
    last = json.loads(listener.values(names.PATH, "LastResult")[-1])
    assert (last["job"], last["kind"], last["outcome"], last["exit_status"]) == (job, "install", "failed", 4)
    assert len(last["error"]["reasons"]) == len(REASONS)


def test_a_job_is_cancelled_by_its_object_and_says_so(caller: Caller) -> None:
    async def work(bus: MessageBus) -> list[object]:
        listener = await listening(bus)
        (job,) = await call(bus, "Install", "sa{sv}", "http://server/wait", {})
        await call(bus, "Cancel", path=job, interface=names.JOB)
        told = await listener.until("Finished")
        with pytest.raises(Answered, match=r"refused\.finished"):
            await call(bus, "Cancel", path=job, interface=names.JOB)
        return told

    outcome, exit_status, error, transaction = caller.run(work)
    assert (outcome, exit_status, transaction) == ("cancelled", 8, "")
    assert json.loads(str(error))["code"] == "cancelled"


def test_a_commit_cannot_be_cancelled_and_the_answer_says_so(caller: Caller) -> None:
    async def work(bus: MessageBus) -> None:
        listener = await listening(bus)
        (job,) = await call(bus, "Commit", "a{sv}", {"force": Variant("s", "slowly")})
        for path, interface in ((job, names.JOB), (names.PATH, names.UPDATE)):
            with pytest.raises(Answered, match=r"refused\.not-cancellable"):
                await call(bus, "Cancel", path=path, interface=interface)
        assert (await listener.until("Finished"))[0] == "success"

    caller.run(work)


def test_only_the_last_finished_jobs_stay_readable(caller: Caller) -> None:
    async def work(bus: MessageBus) -> list[str]:
        listener = await listening(bus)
        jobs = []
        for _ in range(20):
            listener.heard.clear()
            jobs += await call(bus, "Activate", "a{sv}", {})
            await listener.until("Finished")
        return jobs

    jobs = caller.run(work)
    assert caller.get("Outcome", jobs[-16], names.JOB) == "success"
    with pytest.raises(Answered, match="UnknownObject"):
        caller.get("Outcome", jobs[-17], names.JOB)


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
        assert json.loads(str(error))["code"] == "cancelled", "the work itself ended"
        assert service.wait(5) == 0
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
        assert service.wait(5) == 0


def test_a_service_that_is_leaving_takes_no_new_job() -> None:
    with private_bus() as address, service_on(address, "--grace", "2") as service:

        async def work(bus: MessageBus) -> None:
            await call(bus, "Install", "sa{sv}", "http://server/deaf", {})
            service.terminate()
            await asyncio.sleep(0.3)
            with pytest.raises(Answered, match=r"refused\.leaving"):
                await call(bus, "Install", "sa{sv}", "http://server/success", {})

        Caller(address).run(work)
        assert service.wait(5) == 0


def test_the_service_leaves_when_idle_but_not_during_a_job_or_calls() -> None:
    with private_bus() as address, service_on(address, "--idle", "0.6") as service:
        (job,) = Caller(address).call("Install", "sa{sv}", "http://server/wait", {})
        time.sleep(1.2)
        assert Caller(address).get("CurrentJob") == job
        Caller(address).call("Cancel")
        for _ in range(4):
            time.sleep(0.3)
            Caller(address).call("GetStatus")
        began = time.monotonic()
        assert service.wait(5) == 0
        assert 0.4 < time.monotonic() - began < 2


def test_a_second_service_is_told_that_the_name_is_taken(address: str) -> None:
    from bus_bench import SERVICE

    second = subprocess.run([sys.executable, SERVICE, address], capture_output=True, text=True, timeout=20, check=False)
    assert second.returncode == 1
    assert f"another process owns '{names.SERVICE}'" in second.stderr


def test_the_service_leaves_when_the_bus_does() -> None:
    with private_bus() as address, service_on(address) as service:
        Caller(address).call("Install", "sa{sv}", "http://server/wait", {})

        # The bus ends first; leaving the blocks in the other order would hide a service that hangs.
        os.kill(_daemon_of(address), 15)
        assert service.wait(5) == 1


def _daemon_of(address: str) -> int:
    async def ask(bus: MessageBus) -> int:
        from twinslot.bus.library import DAEMON, ask_daemon

        return int((await ask_daemon(bus, "GetConnectionUnixProcessID", "s", DAEMON))[0])

    return Caller(address).run(ask)


# Who may do what


STRANGER = """
import asyncio, os, sys
sys.path[:0] = {path!r}
from bus_bench import Answered, Caller, PROPERTIES
from twinslot.bus import client, names
from twinslot.bus.client import connect
from twinslot.core.errors import TwinslotError
os.setgroups([])
os.setgid({user})
os.setuid({user})
caller = Caller({address!r})
assert caller.get("RunningSlot") == "a"
assert "slots" in caller.call("GetStatus")[0]
caller.call("GetHistory", "u", 5)
with connect({address!r}) as it:
    read, _ = os.pipe()
    for change in (
        lambda: it.install("http://server/success", {{}}),
        lambda: it.install(read, {{}}),
        lambda: it.activate({{}}),
        lambda: it.commit({{}}),
        lambda: it.rollback({{}}),
        lambda: it.cancel(),
    ):
        try:
            change()
        except TwinslotError as e:
            print(e.code)
        else:
            print("done")
try:
    caller.call("Cancel", path={job!r}, interface=names.JOB)
except Answered as e:
    print("AccessDenied" if e.name == names.ACCESS_DENIED else e.name)
"""


def as_stranger(address: str, job: str) -> list[str]:
    """What somebody without rights gets: one word for each attempt to change, the last one at a job."""
    script = textwrap.dedent(STRANGER).format(path=sys.path, user=NOBODY, address=address, job=job)
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()


@pytest.mark.root
@AS_ROOT
def test_a_stranger_may_look_but_the_service_itself_refuses_to_change() -> None:
    with private_bus() as address, service_on(address):
        (job,) = Caller(address).call("Install", "sa{sv}", "http://server/wait", {})
        assert as_stranger(address, job) == ["refused.not-allowed"] * 6 + ["org.twinslot.Error.Refused"]
        assert Caller(address).get("CurrentJob") == job


@pytest.mark.root
@AS_ROOT
def test_a_stranger_is_stopped_by_the_policy_of_the_bus_and_hears_the_same() -> None:
    with private_bus(policy=POLICY) as address, service_on(address):
        (job,) = Caller(address).call("Install", "sa{sv}", "http://server/wait", {})
        assert as_stranger(address, job) == ["refused.not-allowed"] * 6 + ["AccessDenied"]
        assert Caller(address).get("CurrentJob") == job


def test_a_forged_end_of_a_job_is_not_believed(address: str) -> None:
    """Any user may send anybody a signal; the client looks at who sent it."""
    from twinslot.bus.client import connect
    from twinslot.core.progress import Phase, Progress

    async def forge(path: str, target: str) -> None:
        bus = await open_bus(address)
        forged = ["success", 0, "", "{}"]
        message = Message.new_signal(path, names.JOB, "Finished", "siss", forged)
        message.destination = target
        await bus.send(message)
        await close_bus(bus)

    cancelled = threading.Event()

    def observer(progress: Progress) -> None:
        if progress.phase is Phase.WRITE:
            asyncio.run(forge(Caller(address).get("CurrentJob"), str(client._link._bus.unique_name)))
            threading.Timer(0.5, cancelled.set).start()

    with connect(address) as client, pytest.raises(CancelledError):
        client.install("http://server/wait", {}, observer, cancelled)
