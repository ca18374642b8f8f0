"""A private message bus with the service on it, and a plain caller."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import waits
from twinslot.bus import names
from twinslot.bus.library import Message, MessageBus, MessageType, ask, ask_daemon, close_bus, open_bus

HANG = waits.HANG
T = TypeVar("T")
PROPERTIES = "org.freedesktop.DBus.Properties"
SERVICE = Path(__file__).with_name("bus_service.py")
HEAD = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><listen>unix:path={socket}</listen><auth>EXTERNAL</auth><servicedir>{directory}</servicedir>"""
OPEN = """<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/>
<allow receive_sender="*"/></policy></busconfig>"""
# As /usr/share/dbus-1/system.conf: calls and names only as far as another policy allows
SYSTEM = """<policy context="default"><allow user="*"/><deny own="*"/><deny send_type="method_call"/>
<allow send_type="signal"/><allow send_requested_reply="true" send_type="method_return"/>
<allow send_requested_reply="true" send_type="error"/><allow receive_type="method_call"/>
<allow receive_type="method_return"/><allow receive_type="error"/><allow receive_type="signal"/>
<allow send_destination="org.freedesktop.DBus"/></policy><include>{policy}</include></busconfig>"""


@contextlib.contextmanager
def private_bus(policy: Path | None = None, service: str | None = None) -> Iterator[str]:
    """A bus daemon of our own; gives its address.

    Args:
        policy: Laid over the rules of a system bus; None: everything is allowed.
        service: Command that the bus starts when somebody calls the name; the address is appended.
    """
    directory = Path(tempfile.mkdtemp(prefix="bus"))
    directory.chmod(0o755)  # other users come in, too
    socket = directory / "socket"
    address = f"unix:path={socket}"
    config = directory / "bus.conf"
    config.write_text(
        HEAD.format(socket=socket, directory=directory) + (SYSTEM if policy else OPEN).format(policy=policy)
    )
    if service:
        (directory / "activate.service").write_text(
            f"[D-BUS Service]\nName={names.SERVICE}\nExec={service} {address}\n"
        )
    daemon = subprocess.Popen(
        ["dbus-daemon", f"--config-file={config}", "--nofork", "--nopidfile", "--print-address"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert daemon.stdout is not None
        assert daemon.stdout.readline().startswith(b"unix:")
        yield address
    finally:
        daemon.terminate()
        daemon.communicate(timeout=HANG)
        shutil.rmtree(directory)


@contextlib.contextmanager
def service_on(address: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The service as a process, once it owns its name."""
    process = subprocess.Popen([sys.executable, SERVICE, address, *arguments])
    try:
        waits.until(lambda: Caller(address).owned())
        yield process
    finally:
        process.kill()
        process.wait(HANG)


class Answered(Exception):  # noqa: N818
    """A D-Bus error, as any program sees it."""

    def __init__(self, name: str, words: str) -> None:
        super().__init__(f"{name}: {words}")
        self.name, self.words = name, words


class Caller:
    """Any program on the bus; knows nothing of our client."""

    def __init__(self, address: str) -> None:
        self._address = address

    def owned(self) -> bool:
        """Whether the service is on the bus; does not start it."""

        async def ask_owner(bus: MessageBus) -> bool:
            return bool((await ask_daemon(bus, "NameHasOwner", "s", names.SERVICE))[0])

        return self.run(ask_owner)

    def call(self, member: str, signature: str = "", *body: Any, **where: Any) -> list[Any]:
        """One call on a connection of its own; `path` and `interface` as for `call`."""
        return self.run(lambda bus: call(bus, member, signature, *body, **where))

    def get(self, name: str, path: str = names.PATH, interface: str = names.UPDATE) -> Any:
        """A property."""
        (variant,) = self.call("Get", "ss", interface, name, path=path, interface=PROPERTIES)
        return variant.value

    def run(self, work: Callable[[MessageBus], Awaitable[T]]) -> T:
        """Run a coroutine function with a connection."""

        async def connected() -> T:
            bus = await open_bus(self._address)
            try:
                return await work(bus)
            finally:
                await close_bus(bus)

        return asyncio.run(connected())


async def call(
    bus: MessageBus,
    member: str,
    signature: str = "",
    *body: Any,
    path: str = names.PATH,
    interface: str = names.UPDATE,
    files: Sequence[int] = (),
) -> list[Any]:
    """One call."""
    message = Message(
        names.SERVICE, path, interface, member, signature=signature, body=list(body), unix_fds=list(files)
    )
    reply = await ask(bus, message)
    if reply.message_type is MessageType.ERROR:
        raise Answered(reply.error_name, reply.body[0])
    return list(reply.body)


class Listener:
    """Hears every signal of the service, on a connection of its own, in the order in which they come."""

    def __init__(self, bus: MessageBus) -> None:
        self.bus = bus
        self.heard: list[tuple[str, str, list[Any]]] = []
        bus.add_message_handler(self._hear)

    async def begin(self) -> None:
        await ask_daemon(self.bus, "AddMatch", "s", f"type='signal',path_namespace='{names.PATH}'")

    def _hear(self, message: Message) -> None:
        if message.message_type is MessageType.SIGNAL and message.path.startswith(names.PATH):
            self.heard.append((message.path, message.member, message.body))

    async def until(self, member: str, seconds: float = HANG) -> list[Any]:
        """Arguments of the first such signal."""
        async with asyncio.timeout(seconds):
            while True:
                for _, name, body in self.heard:
                    if name == member:
                        return body
                await asyncio.sleep(0.02)

    def values(self, path: str, name: str) -> list[Any]:
        """What a property became, in order."""
        bodies = [b for p, m, b in self.heard if m == "PropertiesChanged" and p == path]
        return [body[1][name].value for body in bodies if name in body[1]]


async def listening(bus: MessageBus) -> Listener:
    """A listener that hears already."""
    listener = Listener(bus)
    await listener.begin()
    return listener


def finished(caller: Caller, path: str) -> None:
    """Wait for the end of a job."""
    waits.until(lambda: caller.get("State", path, names.JOB) == "finished")


def open_files(process: subprocess.Popen[bytes]) -> int:
    """How many descriptors a process holds."""
    return len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
