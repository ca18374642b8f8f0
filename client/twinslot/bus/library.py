"""The one door to the D-Bus library: whoever swaps it changes this module, and `reading.py` behind it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import Awaitable
from typing import Any, Final

from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import BusType, MessageFlag, MessageType, NameFlag, RequestNameReply
from dbus_next.errors import AuthError, InvalidAddressError
from dbus_next.message import Message
from dbus_next.signature import Variant

from twinslot.bus.names import WITHOUT_SERVICE
from twinslot.bus.reading import LARGEST, BoundedBus
from twinslot.core.errors import DeviceError

__all__ = ["LARGEST", "Message", "MessageBus", "MessageFlag", "MessageType", "NameFlag", "RequestNameReply", "Variant"]

DAEMON: Final = "org.freedesktop.DBus"
PATIENCE: Final = 120.0  # seconds for an answer: on a busy board with a slow core the service takes half of it to start


async def open_bus(address: str | None, largest: int = 0) -> MessageBus:
    """Connect to a bus, able to pass descriptors. `close_bus` ends it.

    Descriptors that come with a call are the receiver's to close (`close_descriptors`); others are closed here.

    Args:
        address: D-Bus server address; None is the system bus.
        largest: Bytes of the largest message that is read; larger ones are dropped. 0: any.

    Raises:
        DeviceError: `device.bus`: there is none, or it refuses.
    """
    where: dict[str, Any] = {"bus_address": address} if address else {"bus_type": BusType.SYSTEM}
    bus = BoundedBus.__new__(BoundedBus)  # held here, since a constructor that fails leaves its socket open
    try:
        bus.__init__(largest=largest, **where, negotiate_unix_fd=True)  # type: ignore[misc]
        await asyncio.wait_for(bus.connect(), PATIENCE)
    except (OSError, EOFError, TimeoutError, AuthError, InvalidAddressError) as e:
        _release(bus)
        found = str(e) or type(e).__name__
        raise DeviceError("there is no message bus", code="bus", found=found, hint=WITHOUT_SERVICE) from e
    bus.add_message_handler(functools.partial(_drop_uncalled, bus))
    return bus


def close_descriptors(message: Message) -> None:
    """Close what came with a message, once; the library leaves that to whoever received it."""
    while message.unix_fds:
        with contextlib.suppress(OSError):
            os.close(message.unix_fds.pop())


def _drop_uncalled(bus: BoundedBus, message: Message) -> bool:
    """Only calls may bring descriptors, and answers that are waited for with some (`ask_for_descriptors`).

    The bus' own answers bring some (`ProcessFD`), and anybody can put some in a signal.
    """
    awaited = message.message_type is MessageType.METHOD_RETURN and message.reply_serial in bus.with_descriptors
    if message.message_type is not MessageType.METHOD_CALL and not awaited:
        close_descriptors(message)
    return False


async def close_bus(bus: MessageBus) -> None:
    """End the connection; the library leaves its socket open."""
    bus.disconnect()  # type: ignore[no-untyped-call]
    with contextlib.suppress(OSError, EOFError):
        await until_lost(bus)
    _release(bus)


def _release(bus: MessageBus) -> None:
    for name in ("_stream", "_sock"):
        if hasattr(bus, name):
            getattr(bus, name).close()


async def until_lost(bus: MessageBus) -> None:
    """Wait for the end of the connection.

    Raises:
        OSError, EOFError: It did not end by our wish.
    """
    ended: Awaitable[None] = bus.wait_for_disconnect()  # type: ignore[no-untyped-call]
    await asyncio.shield(ended)  # the library shares one future between all who wait


async def ask(bus: MessageBus, message: Message) -> Message:
    """Send a call and wait for its answer, which may be an error.

    Raises:
        DeviceError: `device.bus`: no answer came.
    """
    try:
        reply = await asyncio.wait_for(bus.call(message), PATIENCE)
    except (OSError, EOFError, TimeoutError) as e:
        found = str(e) or type(e).__name__
        raise DeviceError("no answer came over the bus", code="bus", found=found, hint=WITHOUT_SERVICE) from e
    if reply is None:
        raise DeviceError("the connection to the bus was lost", code="bus", hint=WITHOUT_SERVICE)
    return reply


async def ask_for_descriptors(bus: MessageBus, message: Message) -> Message:
    """As `ask`; descriptors of the answer are the receiver's to close.

    Raises:
        DeviceError: `device.bus`: no answer came.
    """
    assert isinstance(bus, BoundedBus)
    message.serial = bus.next_serial()
    bus.with_descriptors.add(message.serial)
    try:
        return await ask(bus, message)
    finally:
        bus.with_descriptors.discard(message.serial)


async def ask_daemon(bus: MessageBus, member: str, signature: str = "", *body: Any) -> list[Any]:
    """Call a method of the message bus itself.

    Raises:
        DeviceError: `device.bus`: it refuses or does not answer.
    """
    message = Message(DAEMON, "/org/freedesktop/DBus", DAEMON, member, signature=signature, body=list(body))
    reply = await ask(bus, message)
    if reply.message_type is MessageType.ERROR:
        raise DeviceError(f"the message bus refused '{member}'", code="bus", found=f"{reply.error_name}: {reply.body}")
    return list(reply.body)
