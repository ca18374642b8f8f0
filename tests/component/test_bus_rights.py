"""Who may look and who may change, by the bus' policy and by the service itself."""

from __future__ import annotations

import asyncio
import grp
import os
import resource
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from bus_bench import HANG, Answered, Caller, finished, open_files, private_bus, service_on

import waits
from twinslot.bus import names
from twinslot.bus.library import Message, close_bus, open_bus
from twinslot.core.errors import CancelledError

pytestmark = pytest.mark.slow

POLICY = Path(__file__).parents[2] / "systemd" / names.DESCRIPTION.with_suffix(".conf").name
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
# `games` of every Debian (policy, section 9.2.2): strangers of other tests are `nobody`, and the kernel counts the
# descriptors that are on their way for each user (unix(7), ETOOMANYREFS).
GAMES = 5


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with private_bus() as found, service_on(found):
        yield found


STRANGER = """
import asyncio, os, sys
sys.path[:0] = {path!r}
from bus_bench import Answered, Caller, PROPERTIES
from twinslot.bus import names
from twinslot.bus.client import client
from twinslot.bus.client.client import connect
from twinslot.core.errors import TwinslotError
from twinslot.core.requests import ActivateOptions, CommitOptions, InstallOptions, RollbackOptions
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
        lambda: it.install("http://server/success", InstallOptions()),
        lambda: it.install(read, InstallOptions()),
        lambda: it.activate(ActivateOptions()),
        lambda: it.commit(CommitOptions()),
        lambda: it.rollback(RollbackOptions()),
        lambda: it.cancel(),
        lambda: it.log(0, "", 0),
        lambda: it.inhibit("", "a game", "it is being played"),
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
    script = textwrap.dedent(STRANGER).format(path=sys.path, user=GAMES, address=address, job=job)
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=True).stdout.split()


@pytest.mark.verifies("REQ-BUS-03")
@pytest.mark.root
@AS_ROOT
def test_a_stranger_may_look_but_the_service_itself_refuses_to_change() -> None:
    with private_bus() as address, service_on(address):
        (job,) = Caller(address).call("Install", "sa{sv}", "http://server/wait", {})
        assert as_stranger(address, job) == ["refused.not-allowed"] * 8 + ["org.twinslot.Error.Refused"]
        assert Caller(address).get("CurrentJob") == job


@pytest.mark.root
@AS_ROOT
def test_a_stranger_is_stopped_by_the_policy_of_the_bus_and_hears_the_same() -> None:
    with private_bus(policy=POLICY) as address, service_on(address):
        (job,) = Caller(address).call("Install", "sa{sv}", "http://server/wait", {})
        assert as_stranger(address, job) == ["refused.not-allowed"] * 8 + ["AccessDenied"]
        assert Caller(address).get("CurrentJob") == job


ORDERED = """
import os, sys
sys.path[:0] = {path!r}
from twinslot.bus.client.client import connect
from twinslot.core.errors import TwinslotError
from twinslot.core.requests import ActivateOptions, CommitOptions, InstallOptions, RollbackOptions
os.setgroups([])
os.setgid({group})
os.setuid({user})
order = InstallOptions(action="7.0123")
with connect({address!r}) as it:
    read, write = os.pipe()
    os.close(write)
    for ask in (
        lambda: it.status(),
        lambda: it.log(0, "", 0),
        lambda: it.install("http://server/success", order),
        lambda: it.activate(ActivateOptions()),
        lambda: it.decline("7.0123", "no image"),
        lambda: it.cancel(),
        lambda: it.install("http://server/success", InstallOptions(retry=True)),
        lambda: it.install(read, order),
        lambda: it.commit(CommitOptions()),
        lambda: it.rollback(RollbackOptions()),
    ):
        try:
            ask()
        except TwinslotError as e:
            print(e.code)
        else:
            print("done")
"""


@pytest.mark.verifies("S21")
@pytest.mark.root
@AS_ROOT
def test_the_fleet_process_offers_activates_and_cancels_and_neither_commits_nor_rolls_back(tmp_path: Path) -> None:
    policy = tmp_path / "policy.conf"
    policy.write_text(
        POLICY.read_text().replace("twinslot-fleet", "games").replace('group="twinslot"', 'group="games"')
    )
    with private_bus(policy=policy) as address, service_on(address, "--group", "games"):
        group = grp.getgrnam("games").gr_gid
        script = textwrap.dedent(ORDERED).format(path=sys.path, user=GAMES, group=group, address=address)
        command = [sys.executable, "-c", script]
        said = subprocess.run(command, capture_output=True, text=True, timeout=HANG, check=True).stdout.split()
    assert said == ["done"] * 4 + ["refused.order", "done"] + ["refused.not-allowed"] * 4


def test_a_forged_end_of_a_job_is_not_believed(address: str) -> None:
    """Any user may send anybody a signal; the client looks at who sent it."""
    from twinslot.bus.client.client import connect
    from twinslot.core.progress import Phase, Progress
    from twinslot.core.requests import InstallOptions

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
        client.install("http://server/wait", InstallOptions(), observer, cancelled)


FLOOD = """
import array, asyncio, os, socket, sys
sys.path[:0] = {path!r}
from twinslot.bus import names
from twinslot.bus.library import Message, MessageFlag, ask, open_bus
os.setgroups([])
os.setgid({user})
os.setuid({user})
LOOK = "org.freedesktop.DBus.Properties"
CALLS = (
    (names.UPDATE, "GetStatus", "", []),
    (names.UPDATE, "GetHistory", "u", [1000]),
    (LOOK, "GetAll", "s", [names.UPDATE]),
    ("org.freedesktop.DBus.Introspectable", "Introspect", "", []),
    (names.UPDATE, "GetStatus", "as", [["x" * 100] * 2000]),
    (names.UPDATE, "Install", "sa{{sv}}", ["http://x/", {{}}]),
)
file = os.open("/dev/null", os.O_RDONLY)

def connected():
    sock = socket.socket(socket.AF_UNIX)
    sock.connect({address!r}.partition("path=")[2].partition(",")[0])
    user = str(os.geteuid()).encode().hex().encode()
    for words in (b"\\0AUTH EXTERNAL " + user, b"NEGOTIATE_UNIX_FD"):
        sock.sendall(words + b"\\r\\n")
        sock.recv(1000)
    sock.sendall(b"BEGIN\\r\\n")
    sock.sendall(Message("org.freedesktop.DBus", "/", "org.freedesktop.DBus", "Hello", serial=1)._marshall())
    return sock

def send(sock, message, serial):
    message.serial = serial
    if serial % 3:  # answers that nobody fetches fill the sockets of the bus
        message.flags = MessageFlag.NO_REPLY_EXPECTED
    descriptors = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", message.unix_fds))
    data = message._marshall(negotiate_unix_fd=True)
    sock.sendall(data[sock.sendmsg([data], [descriptors]):])

def nest(value, depth):
    return [nest(value, depth - 1)] if depth else value

def flood(sock, number):
    interface, member, signature, body = CALLS[number % len(CALLS)]
    call = Message(names.SERVICE, names.PATH, interface, member, signature=signature, body=body)
    call.unix_fds = [file] * 16
    send(sock, call, 2 * number + 2)
    depth = number % 20
    signature = "(" * depth + "s" + ")" * depth
    signal = Message.new_signal("/x", "x.y", "Z", signature, [nest("s", depth)], [file] * 16)
    signal.destination = names.SERVICE
    send(sock, signal, 2 * number + 3)

async def ask_often():
    bus = await open_bus({address!r})
    message = lambda: Message(names.SERVICE, names.PATH, names.UPDATE, "GetStatus")
    answers = await asyncio.gather(*(ask(bus, message()) for _ in range(100)))
    print(*sorted({{answer.error_name or "answered" for answer in answers}}))

socks = [connected() for _ in range(8)]
print("ready", flush=True)
sys.stdin.readline()
for number in range({count}):
    for place, sock in enumerate(socks):
        try:
            flood(sock, number)
        except OSError:  # the bus hung up on us, since its own descriptors ran out
            socks[place] = connected()
asyncio.run(ask_often())
"""
LIMITS = "org.freedesktop.DBus.Error.LimitsExceeded"
FILES = 64  # descriptors that the service may have here; an idle one holds about ten


def is_answered(caller: Caller, job: str) -> bool:
    """The queue of the bus, which the flood filled, has room again."""
    try:
        caller.get("Outcome", job, names.JOB)
    except Answered as e:
        if e.name != LIMITS:
            raise
        return False
    return True


@pytest.mark.verifies("REQ-BUS-04")
@pytest.mark.root
@AS_ROOT
@pytest.mark.parametrize("policy", [POLICY, None], ids=["as shipped", "none"])
def test_a_strangers_flood_of_calls_and_descriptors_does_not_end_an_install(policy: Path | None) -> None:
    """The service holds out by itself; the policy keeps the descriptors away, which would fill the queue of the bus."""
    script = textwrap.dedent(FLOOD)
    with private_bus(policy=policy) as address, service_on(address) as service:
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
        caller, before = Caller(address), open_files(service)
        command = [sys.executable, "-c", script.format(path=sys.path, user=GAMES, address=address, count=200)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as flood:
            assert flood.stdout is not None
            assert flood.stdin is not None
            assert flood.stdout.readline() == "ready\n"
            (job,) = caller.call("Install", "sa{sv}", "http://server/chatty", {})
            print("go", file=flood.stdin, flush=True)
            told = flood.stdout.read().split()
        assert flood.returncode == 0
        assert set(told) <= {"answered", LIMITS}
        assert LIMITS in told
        waits.until(lambda: is_answered(caller, job))
        finished(caller, job)
        assert caller.get("Outcome", job, names.JOB) == "armed", caller.get("Error", job, names.JOB)
        waits.until(lambda: open_files(service) <= before)
