"""A caller's connection, in a thread of its own: calls that block, and what jobs tell, in queues."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from twinslot.bus import names
from twinslot.bus.library import (
    DAEMON,
    Message,
    MessageBus,
    MessageType,
    ask,
    ask_daemon,
    ask_for_descriptors,
    close_bus,
    open_bus,
    until_lost,
)
from twinslot.core.progress import Phase, Progress

_T = TypeVar("_T")

_GIVE_DESCRIPTORS = frozenset({"Inhibit"})  # methods with `h` in their answer

_RULES = (
    f"type='signal',sender='{names.SERVICE}',path_namespace='{names.JOB_PATH}'",
    f"type='signal',sender='{DAEMON}',interface='{DAEMON}',member='NameOwnerChanged',arg0='{names.SERVICE}'",
)


@dataclass(frozen=True, slots=True)
class JobMoved:
    """A job told progress. `owner` is the unique name of who says so: anybody may send us a signal."""

    owner: str
    path: str
    progress: Progress


@dataclass(frozen=True, slots=True)
class JobEnded:
    """A job ended; the last fields are the signal's, `owner` as in `JobMoved`."""

    owner: str
    path: str
    outcome: str
    exit_status: int
    error: str
    transaction: str


@dataclass(frozen=True, slots=True)
class JobGone:
    """The service with this unique name left the bus; None: the bus itself is gone."""

    owner: str | None
    reason: str


Event = JobMoved | JobEnded | JobGone
Events = queue.SimpleQueue[Event]


class Link:
    """Connects, and has the bus start the service.

    Args:
        address: D-Bus server address; None is the system bus.

    Raises:
        DeviceError: `device.bus`.
    """

    def __init__(self, address: str | None) -> None:
        self._listeners: list[Events] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="bus", daemon=True)
        self._thread.start()
        try:
            self._bus = self._wait(open_bus(address))
        except BaseException:
            self._end_loop()
            raise
        try:
            self._wait(self._prepare())
        except BaseException:
            self.close()
            raise

    def call(
        self, path: str, interface: str, member: str, signature: str, body: list[Any], descriptors: list[int]
    ) -> Message:
        """Call the service.

        Raises:
            TwinslotError: What it answered, or `DeviceError` `device.bus`.
        """
        return self._wait(self._call(path, interface, member, signature, body, descriptors))

    @contextlib.contextmanager
    def events(self) -> Iterator[Events]:
        """A queue of what all jobs tell while the block runs."""
        mine: Events = queue.SimpleQueue()
        self._listeners.append(mine)
        try:
            yield mine
        finally:
            self._listeners.remove(mine)

    def close(self) -> None:
        """End connection and thread; may be called twice."""
        if self._loop.is_closed():
            return
        self._wait(close_bus(self._bus))
        self._end_loop()

    def _wait(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _prepare(self) -> None:
        self._bus.add_message_handler(self._take)
        for rule in _RULES:
            await ask_daemon(self._bus, "AddMatch", "s", rule)
        self._lost = asyncio.get_running_loop().create_task(self._until_lost(self._bus))
        await self._call(names.PATH, f"{DAEMON}.Peer", "Ping", "", [], [])

    async def _call(
        self, path: str, interface: str, member: str, signature: str, body: list[Any], descriptors: list[int]
    ) -> Message:
        message = Message(names.SERVICE, path, interface, member, signature=signature, body=body, unix_fds=descriptors)
        reply = await (ask_for_descriptors if member in _GIVE_DESCRIPTORS else ask)(self._bus, message)
        if reply.message_type is MessageType.ERROR:
            words = reply.body[0] if reply.signature.startswith("s") else ""
            raise names.error_from(reply.error_name, words)
        return reply

    async def _until_lost(self, bus: MessageBus) -> None:
        reason = "the connection was closed"
        try:
            await until_lost(bus)
        except (OSError, EOFError) as e:
            reason = str(e) or "the message bus ended"
        self._tell(JobGone(None, reason))

    def _take(self, message: Message) -> bool:
        if message.message_type is MessageType.SIGNAL:
            event = _event(message)
            if event is not None:
                self._tell(event)
        return False

    def _tell(self, event: Event) -> None:
        for listener in tuple(self._listeners):
            listener.put(event)


def _event(message: Message) -> Event | None:
    """What a signal means to us; None when nothing."""
    if message.sender == DAEMON:
        lost = message.member == "NameOwnerChanged" and message.body[0] == names.SERVICE and not message.body[2]
        return JobGone(str(message.body[1]), "it left the bus") if lost else None
    if message.interface == names.JOB and message.member == "Finished" and message.signature == "siss":
        return JobEnded(message.sender, message.path, *message.body)
    if message.member == "PropertiesChanged" and message.signature == "sa{sv}as":
        variant = message.body[1].get("Progress")
        if message.body[0] != names.JOB or variant is None or variant.signature != "(sttddts)":
            return None
        phase, done, total, rate, left, fetched, note = variant.value
        if phase not in set(Phase):  # a newer service
            return None
        told = Progress(Phase(phase), done, total, rate, None if left < 0 else left, fetched, note)
        return JobMoved(message.sender, message.path, told)
    return None
