"""A product that says over the bus that it is in use, until it closes its descriptor, whatever the service does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from bus_bench import HANG, Answered, Caller, call, private_bus, service_on

import waits
from twinslot.bus import names
from twinslot.bus.client.client import connect
from twinslot.bus.library import Message, MessageBus, ask_for_descriptors
from twinslot.core.errors import RefusedError
from twinslot.policy.held import HeldInhibitors

pytestmark = pytest.mark.slow


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "inhibitors"


@pytest.fixture
def address(run: Path) -> Iterator[str]:
    with private_bus() as found, service_on(found, "--run", str(run)):
        yield found


def held(run: Path) -> list[str]:
    return [f"{each.who}: {each.why}" for each in HeldInhibitors(run).inhibitors()]


@pytest.mark.verifies("S20")
def test_it_outlives_the_connection_and_the_service_and_ends_with_its_descriptor(run: Path) -> None:
    with private_bus() as address:
        with service_on(address, "--run", str(run)), connect(address) as it:
            descriptor = it.inhibit("fetch:restart", "pump", "an infusion runs")
        assert held(run) == ["pump: an infusion runs"]
        with service_on(address, "--run", str(run)), connect(address) as it:
            another = it.inhibit("", "monitor", "a patient is watched")
            assert held(run) == ["pump: an infusion runs", "monitor: a patient is watched"]
    os.close(another)
    assert held(run) == ["pump: an infusion runs"]
    os.close(descriptor)
    waits.until(lambda: held(run) == [])


@pytest.mark.verifies("S20")
def test_the_service_keeps_no_copy_of_what_it_hands_out(address: str, run: Path) -> None:
    with connect(address) as it:
        for _ in range(20):
            os.close(it.inhibit("", "pump", "an infusion runs"))
        # The bus closes its own copy when the answer is sent, which the reader of the answer does not wait for.
        waits.until(lambda: held(run) == [])


HOLDER = """
import signal, sys
sys.path[:0] = {path!r}
from twinslot.bus.client.client import connect
held = connect({address!r}).inhibit("", "pump", "an infusion runs")
print("held", flush=True)
signal.pause()
"""


@pytest.mark.verifies("S20")
def test_a_product_that_is_killed_lets_go(address: str, run: Path) -> None:
    script = textwrap.dedent(HOLDER).format(path=sys.path, address=address)
    holder = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert holder.stdout
    assert holder.stdout.readline() == b"held\n"
    assert held(run) == ["pump: an infusion runs"]
    holder.send_signal(signal.SIGKILL)
    holder.communicate(timeout=HANG)
    waits.until(lambda: held(run) == [])


def test_who_leaves_before_the_answer_comes_holds_nothing(address: str, run: Path) -> None:
    async def leave(bus: MessageBus) -> None:
        body = ["", "pump", "an infusion runs"]
        bus.send(Message(names.SERVICE, names.PATH, names.UPDATE, "Inhibit", signature="sss", body=body))

    Caller(address).run(leave)
    Caller(address).call("GetStatus")
    waits.until(lambda: held(run) == [])


@pytest.mark.parametrize("body", [("shutdown", "pump", "x"), ("", "", "x"), ("", "pump", "")])
def test_a_wrong_request_is_refused_with_a_reason(address: str, run: Path, body: tuple[str, str, str]) -> None:
    with connect(address) as it, pytest.raises(RefusedError) as error:
        it.inhibit(*body)
    assert error.value.code == "refused.inhibitor"
    assert held(run) == []


def test_a_plain_caller_gets_an_index_and_a_descriptor(address: str, run: Path) -> None:
    async def inhibit(bus: MessageBus) -> list[int]:
        body = ["", "pump", "an infusion runs"]
        message = Message(names.SERVICE, names.PATH, names.UPDATE, "Inhibit", signature="sss", body=body)
        reply = await ask_for_descriptors(bus, message)
        assert (reply.signature, reply.body) == ("h", [0])
        return [os.dup(each) for each in reply.unix_fds]

    (descriptor,) = Caller(address).run(inhibit)
    assert held(run) == ["pump: an infusion runs"]
    os.close(descriptor)

    async def wrongly(bus: MessageBus) -> None:
        await call(bus, "Inhibit", "s", "pump")

    with pytest.raises(Answered, match="InvalidArgs"):
        Caller(address).run(wrongly)
