"""The service as any program on the bus sees it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from bus_bench import HANG, PROPERTIES, Answered, Caller, Listener, call, finished, listening, private_bus, service_on
from bus_service import REASONS

import twinslot
from twinslot.bus import names
from twinslot.bus.description import OPTION
from twinslot.bus.library import Message, MessageBus, Variant
from twinslot.core.errors import DeviceError


@pytest.fixture(scope="module")
def end(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that ends what cannot be stopped."""
    return tmp_path_factory.mktemp("service") / "end"


@pytest.fixture(scope="module")
def address(end: Path) -> Iterator[str]:
    with private_bus() as found, service_on(found, "--end", str(end)):
        yield found


@pytest.fixture
def caller(address: str) -> Caller:
    return Caller(address)


# What it shows


def canonical(interface: ET.Element) -> str:
    return ET.canonicalize(ET.tostring(interface, encoding="unicode"), strip_text=True)


@pytest.mark.verifies("REQ-BUS-02")
def test_introspection_equals_the_file(caller: Caller) -> None:
    (job,) = caller.call("Install", "sa{sv}", "http://server/success", {})
    file = {e.get("name"): e for e in ET.parse(names.DESCRIPTION).getroot()}
    for path, name in ((names.PATH, names.UPDATE), (job, names.JOB)):
        (answer,) = caller.call("Introspect", path=path, interface="org.freedesktop.DBus.Introspectable")
        shown = {e.get("name"): e for e in ET.fromstring(answer)}
        for method in shown[name].iter("method"):
            for annotation in method.findall("annotation"):
                if (annotation.get("name") or "").startswith(OPTION):  # the options stand in the code
                    method.remove(annotation)
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


@pytest.mark.verifies("REQ-BUS-02")
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
    for asked in (0, 1000, 2**32 - 1):
        assert json.loads(caller.call("GetLog", "tsu", 0, "", asked)[0])["limit"] == 1000


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


@pytest.mark.verifies("REQ-BUS-01")
def test_a_job_tells_phases_progress_and_its_end_and_stays_readable(caller: Caller) -> None:
    async def work(bus: MessageBus) -> tuple[Listener, str, list[object]]:
        listener = await listening(bus)
        (job,) = await call(bus, "Install", "sa{sv}", "http://server/chatty", {})
        return listener, job, await listener.until("Finished")

    listener, job, told = caller.run(work)
    assert listener.values(job, "Phase") == ["verify", "write", "read-back"]
    assert listener.values(job, "State") == ["finished"]
    outcome, exit_status, error, transaction = told
    assert (outcome, exit_status, error) == ("armed", 0, "")
    (kept,) = caller.call("GetAll", "s", names.JOB, path=job, interface=PROPERTIES)
    assert {name: variant.value for name, variant in kept.items()} == {
        "Kind": "install",
        "State": "finished",
        "Phase": "read-back",
        "Progress": ["read-back", 1 << 33, 1 << 33, 7.0, 0.0, 3600, ""],
        "Outcome": "armed",
        "ExitStatus": 0,
        "Error": "",
        "Transaction": transaction,
    }


def test_of_a_thousand_reports_few_are_told(caller: Caller) -> None:
    async def work(bus: MessageBus) -> Listener:
        listener = await listening(bus)
        await call(bus, "Install", "sa{sv}", "http://server/chatty", {})  # 1000 reports in no time
        await listener.until("Finished")
        return listener

    heard = caller.run(work).heard
    told = [body for _, member, body in heard if member == "PropertiesChanged" and _writing(body)]
    assert 1 <= len(told) <= 50, "tests/unit/test_bus_job.py counts them with a clock of its own"


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
        async with asyncio.timeout(HANG):
            while listener.values(names.PATH, "State")[-1:] != ["idle"] or not listener.values(
                names.PATH, "LastResult"
            ):
                await asyncio.sleep(0.02)
        return listener, job

    listener, job = caller.run(work)
    assert listener.values(names.PATH, "Busy") == [True, False]
    assert listener.values(names.PATH, "CurrentJob") == [job, "/"]
    assert listener.values(names.PATH, "State")[-1] == "idle"
    last = json.loads(listener.values(names.PATH, "LastResult")[-1])
    assert (last["job"], last["kind"], last["outcome"], last["exit_status"]) == (job, "install", "refused", 4)
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


def test_a_commit_cannot_be_cancelled_and_the_answer_says_so(caller: Caller, end: Path) -> None:
    async def work(bus: MessageBus) -> None:
        listener = await listening(bus)
        (job,) = await call(bus, "Commit", "a{sv}", {"force": Variant("s", "slowly")})
        for path, interface in ((job, names.JOB), (names.PATH, names.UPDATE)):
            with pytest.raises(Answered, match=r"refused\.not-cancellable"):
                await call(bus, "Cancel", path=path, interface=interface)
        end.touch()
        assert (await listener.until("Finished"))[0] == "committed"

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
    assert caller.get("Outcome", jobs[-16], names.JOB) == "armed"
    with pytest.raises(Answered, match="UnknownObject"):
        caller.get("Outcome", jobs[-17], names.JOB)


# How a job ends


@pytest.mark.verifies("S10", "REQ-BUS-01")
@pytest.mark.parametrize(
    ("outcome", "member", "signature", "body"),
    [
        ("armed", "Install", "sa{sv}", ["http://server/x", {}]),
        ("written", "Install", "sa{sv}", ["http://server/x", {"activate": Variant("b", False)}]),
        ("refused", "Install", "sa{sv}", ["http://server/refused", {}]),
        ("cancelled", "Install", "sa{sv}", ["http://server/cancelled", {}]),
        ("failed", "Install", "sa{sv}", ["http://server/image", {}]),
        ("failed", "Install", "sa{sv}", ["http://server/transport", {}]),
        ("failed", "Install", "sa{sv}", ["http://server/mistake", {}]),
        ("armed", "Activate", "a{sv}", [{}]),
        ("committed", "Commit", "a{sv}", [{"force": Variant("s", "a reason")}]),
        ("nothing", "Commit", "a{sv}", [{"if_trial": Variant("b", True)}]),
        ("refused", "Commit", "a{sv}", [{}]),
        ("rolling-back", "Rollback", "a{sv}", [{"reason": Variant("s", "on trial")}]),
        ("armed", "Rollback", "a{sv}", [{}]),
        ("abandoned", "Cancel", "", []),
    ],
)
def test_a_job_ends_with_one_word_and_only_a_commit_is_a_success(
    caller: Caller, outcome: str, member: str, signature: str, body: list[object]
) -> None:
    (job,) = caller.call(member, signature, *body)
    finished(caller, job)
    assert caller.get("Outcome", job, names.JOB) == outcome
    assert json.loads(caller.get("LastResult"))["outcome"] == outcome
    assert bool(caller.get("Error", job, names.JOB)) == (outcome in ("refused", "cancelled", "failed"))


@pytest.mark.verifies("REQ-BUS-04")
def test_a_message_that_is_too_large_or_of_an_unknown_kind_does_not_end_the_service(caller: Caller) -> None:
    async def work(bus: MessageBus) -> None:
        for kind, size in ((4, 1 << 20), (9, 10)):  # a signal of a mebibyte; a kind that no specification has
            signal = Message.new_signal("/x", "x.y", "Z", "ay", [b"x" * size])
            signal.destination, signal.serial = names.SERVICE, bus.next_serial()
            data = bytearray(signal._marshall())  # type: ignore[no-untyped-call]
            data[1] = kind
            bus._writer.messages.put_nowait((bytes(data), [], None))
            bus._writer.schedule_write()

    before = json.loads(caller.call("GetStatus")[0])["process"]
    with contextlib.suppress(EOFError, DeviceError):  # the bus may hang up on who sends such a thing
        caller.run(work)
    assert json.loads(caller.call("GetStatus")[0])["process"] == before
